"""What a machine with ROLE=train does with an order. Docker and the trainer are stand-ins."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from glue.core import desired_state, files, lock, waiting
from glue.core.errors import GlueError
from glue.core.waiting import Seen
from glue.peers import answers, link
from glue.peers.facts import Facts
from glue.serving import day
from tests.faults.stand_ins import StandInSite
from tests.peers.conftest import Pair

NIGHT = "20261126T190000Z"


def order(pair: Pair, folder: Path) -> None:
    (folder / "train.jsonl").write_text('{"prompt": "x"}\n')
    link.send(pair.peer, NIGHT, folder / "train.jsonl")
    deadline = str(int(time.time()) + 3600)
    answer = link.ask(pair.peer, "train", NIGHT, "rehearsal", deadline)
    assert json.loads(answer) == {"begun": NIGHT}


def wait(trainer: StandInSite, phase: str) -> Facts:
    def look() -> Seen[Facts]:
        found = answers.training(trainer.state)
        return Seen(found["phase"] == phase, str(found), found)

    return waiting.until("the training", look, 60, 0.05).value or {}


def test_what_was_sent_is_trained_and_its_results_can_be_fetched(
    pair: Pair, trainer: StandInSite, tmp_path: Path
) -> None:
    order(pair, tmp_path)
    hashes = wait(trainer, "trained")["sha256"]
    assert hashes.keys() == {"result.json", "adapter_config.json", "adapter_model.safetensors"}
    with (tmp_path / "fetched").open("wb") as file:
        link.ask(pair.peer, "fetch", NIGHT, "adapter_model.safetensors", output=file)
    assert (tmp_path / "fetched").read_text() == f"weights of {NIGHT}"
    assert files.sha256(tmp_path / "fetched") == hashes["adapter_model.safetensors"]
    left = desired_state.read(trainer.state)
    assert left and left.wanted is desired_state.Wanted.DOWN, "the watch starts no day there"
    assert trainer.stacks.trainer() is None


def test_make_stop_there_ends_it(pair: Pair, trainer: StandInSite, tmp_path: Path) -> None:
    with trainer.ledger.change() as world:
        world["trainer"] = "hangs"
    order(pair, tmp_path)

    def look() -> Seen[None]:
        return Seen(trainer.stacks.trainer() is not None, "no trainer yet")

    waiting.until("the trainer", look, 60, 0.05)
    day.stop(trainer)
    assert "Preempted" in wait(trainer, "failed")["reason"]


def test_a_machine_whose_day_serves_is_not_taken(
    pair: Pair, trainer: StandInSite, tmp_path: Path
) -> None:
    trainer.stacks.up()
    order(pair, tmp_path)
    assert "the day serves on a machine with ROLE=train" in wait(trainer, "failed")["reason"]
    assert trainer.ledger.read()["services"]["vllm"] == ["running", "healthy"]


def test_an_order_during_another_training_is_refused_and_harms_nothing(
    pair: Pair, trainer: StandInSite, tmp_path: Path
) -> None:
    folder = trainer.state / "nights" / "20261125T190000Z"
    (folder / "adapter").mkdir(parents=True)
    files.write_json(folder / answers.ORDERED, {"night": folder.name, "phase": "trains"})
    with (
        lock.hold(trainer.state, lock.TRAINING, "it runs"),
        pytest.raises(GlueError, match="does not train") as error,
    ):
        order(pair, tmp_path)
    assert "ERROR 11" in error.value.saw and (folder / "adapter").exists()


def test_a_training_that_was_killed_has_failed(
    trainer: StandInSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert answers.training(trainer.state) == {}
    folder = trainer.state / "nights" / NIGHT
    folder.mkdir()
    files.write_json(folder / answers.ORDERED, {"night": NIGHT, "phase": "trains", "reason": ""})
    assert answers.training(trainer.state)["phase"] == "trains", "it may not have the lock yet"
    monkeypatch.setattr(answers, "BEGIN_SECONDS", 0)
    assert answers.training(trainer.state)["phase"] == "failed"
    with lock.hold(trainer.state, lock.TRAINING, "it runs"):
        assert answers.training(trainer.state)["phase"] == "trains"
