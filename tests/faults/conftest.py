"""Set-up of every night with stand-ins: steps that only real parts can do are replaced, all
others are real."""

from pathlib import Path

import pytest

from glue.clients import jobs
from glue.machine import doctor
from glue.night import evaluate, night, train
from glue.night.tonight import Night
from glue.serving import adapters, model
from tests.faults import stand_ins
from tests.faults.stand_ins import StandInSite, StandInVllm
from tests.learning import on_host


def collect(tonight: Night) -> None:
    tonight.dataset = stand_ins.DATASET
    tonight.folder.mkdir(parents=True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture
def site(folder: Path, monkeypatch: pytest.MonkeyPatch) -> StandInSite:
    made = stand_ins.make_site(folder)
    monkeypatch.setitem(night.STEPS, "collect", collect)
    monkeypatch.setattr(doctor, "require", lambda site, aim: None)
    monkeypatch.setattr(adapters, "problems", lambda site, folder: [])
    monkeypatch.setattr(evaluate, "judge", stand_ins.good_verdict)
    monkeypatch.setattr(jobs, "run", on_host.run_offline)
    monkeypatch.setattr(train, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(
        model, "Vllm", lambda address, key: StandInVllm(address, key, made.ledger, made.state)
    )
    return made
