"""A night with ROLE=serve, which a peer with ROLE=train trains: a real ssh between two sites of
stand-ins. Docker, vLLM and the trainer are stand-ins, everything of glue is real."""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import replace
from pathlib import Path

import pytest

from glue.clients.site import Site
from glue.core import desired_state, files, journal, lock
from glue.core.errors import GlueError, PreconditionFailed
from glue.night import elsewhere, night
from glue.night.tonight import Night
from glue.operations import versions
from glue.peers import answers, facts, link
from glue.peers.link import Peer
from glue.serving import day, reconcile, watch
from tests.faults import stand_ins
from tests.faults.conftest import folder, site  # noqa: F401
from tests.faults.stand_ins import StandInSite
from tests.operations.kept_site import with_settings
from tests.peers.conftest import Pair


def collect(tonight: Night) -> None:
    tonight.dataset = stand_ins.DATASET
    (tonight.folder / "dataset").mkdir(parents=True)
    (tonight.folder / "dataset" / "train.jsonl").write_text('{"prompt": "x"}\n')


@pytest.fixture
def served(
    site: StandInSite,  # noqa: F811
    pair: Pair,
    trainer: StandInSite,
    monkeypatch: pytest.MonkeyPatch,
) -> Site:
    """A, whose day serves and whose peer is B. Each line that the night tells, it looks whether the
    day still serves."""
    day.start(site)
    (site.state / "peers").symlink_to(pair.peer.folder)
    files.write_json(pair.peer.record, {"seen": 0, "words": "set up", "role": "train"})
    monkeypatch.setitem(night.STEPS, "collect", collect)
    monkeypatch.setattr(elsewhere, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(facts, "image", lambda site, reference: "stand-in")

    def tell(line: str) -> None:
        assert site.ledger.read()["services"]["vllm"] == ["running", "healthy"], line
        if lock.held(site.state, lock.SWITCH):
            return  # the watch would not look
        step, why = watch.next_step(
            desired_state.read(site.state), reconcile.observe(site), time.time()
        )
        assert step is watch.Step.NOTHING, f"{line}: {why}"

    def stop(*arguments: str) -> None:
        raise AssertionError(f"something stopped: {arguments}")

    monkeypatch.setattr(stand_ins.StandInStacks, "stop", stop)
    return with_settings(replace(site, tell=tell), ROLE="serve")


def test_a_peer_trains_and_the_day_serves_all_night(served: Site, trainer: StandInSite) -> None:
    found = night.run(served)
    assert found["outcome"] == "promoted" and served.store.current() == found["adapter"]
    weights = served.store.folder / found["adapter"] / "adapter_model.safetensors"
    assert weights.read_text() == f"weights of {found['night']}"
    begun = [row for row in journal.rows(served.state) if row.get("phase") == "begin"]
    assert [row["step"] for row in begun if "step" in row] == list(night.steps("serve"))
    on_b = trainer.state / "nights" / found["night"]
    assert not (on_b / "dataset").exists(), "make forget here would miss it"
    assert not (trainer.state / "peers" / answers.RECEIVED / found["night"]).exists()
    assert json.loads((on_b / "job.json").read_text())["begin_from"] == ""
    left = desired_state.read(trainer.state)
    assert left and (left.wanted, left.night) == (desired_state.Wanted.DOWN, found["night"])
    assert desired_state.read(served.state) == desired_state.DesiredState(desired_state.Wanted.DAY)


@pytest.mark.parametrize("request_", ["status", "receive", "train", "fetch"])
def test_a_peer_that_dies_costs_the_night_and_nothing_else(
    served: Site, trainer: StandInSite, request_: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(elsewhere, "GONE_SECONDS", 0.1)
    (trainer.ledger.path.parent / "dies-at").write_text(request_)
    with pytest.raises(GlueError):
        night.run(served)
    last = journal.last_night(served.state)
    assert last and last["outcome"] == "failed" and served.store.current() is None
    assert desired_state.read(served.state) == desired_state.DesiredState(desired_state.Wanted.DAY)


def test_a_peer_that_goes_away_while_it_trains_is_waited_for_so_long(
    served: Site, trainer: StandInSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(elsewhere, "GONE_SECONDS", 0.1)
    with trainer.ledger.change() as world:
        world["trainer"] = "hangs"
    tell = served.tell

    def go_away(line: str) -> None:
        tell(line)
        if "trains" in line and "night" in line:
            (trainer.ledger.path.parent / "dies-at").write_text("status")

    with pytest.raises(GlueError, match="did not train") as error:
        night.run(replace(served, tell=go_away))
    assert "gone:" in error.value.saw and "last seen 20" in error.value.saw


def test_a_training_that_fails_there_is_told_here(served: Site, trainer: StandInSite) -> None:
    with trainer.ledger.change() as world:
        world["trainer"] = "exits 1"
    with pytest.raises(GlueError, match="did not train") as error:
        night.run(served)
    assert "the trainer left no result" in error.value.saw


def test_what_arrives_with_another_hash_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if the disk there, or the link, had damaged it after it was hashed."""
    monkeypatch.setattr(link, "ask", lambda *_, output, **__: output.write(b"weights!"))
    target, meant = tmp_path / "result.json", hashlib.sha256(b"weights").hexdigest()
    with pytest.raises(GlueError, match="changed while it was read"):
        link.fetch(Peer("spark-b", tmp_path), "20261126T190000Z", target, meant, 0)
    assert not list(tmp_path.iterdir())


def test_a_peer_names_no_file_here(site: StandInSite, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    """As if someone had taken over the peer."""
    told = {"sha256": {"result.json": "0" * 64, "../../secrets.env": "0" * 64}}
    monkeypatch.setattr(elsewhere, "trainer", lambda tonight: Peer("spark-b", site.state))
    monkeypatch.setattr(elsewhere, "order", lambda *_: None)
    monkeypatch.setattr(elsewhere, "wait", lambda *_: told)
    fetched: list[Path] = []
    monkeypatch.setattr(link, "fetch", lambda *found: fetched.append(found[2]))
    tonight = Night(site, "20261126T190000Z", site.recipe(), 0.0)
    with pytest.raises(GlueError, match="left no result"):
        elsewhere.train_there(tonight)
    assert fetched == [tonight.folder / "result.json"]


def test_no_night_begins_without_a_peer_that_trains(served: Site, pair: Pair) -> None:
    pair.peer.record.unlink()
    with pytest.raises(PreconditionFailed, match="no peer trains") as error:
        night.run(served)
    assert error.value.saw == "it has no peers"


def test_a_peer_of_another_version_trains_nothing(
    served: Site, trainer: StandInSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(versions, "git", lambda *_: "another")
    with pytest.raises(PreconditionFailed, match="not like this machine") as error:
        night.run(served)
    assert error.value.saw.startswith("version: here another, there ")
    assert not list((trainer.state / "nights").iterdir())


def test_a_machine_that_trains_runs_no_night_of_its_own(trainer: StandInSite) -> None:
    with pytest.raises(PreconditionFailed, match="trains for its peers only"):
        night.run(trainer)


def test_the_role_alone_decides_the_steps() -> None:
    assert night.steps("both") is night.STEPS and "hand over" in night.STEPS
    served = night.steps("serve")
    assert list(served) == [name for name in night.STEPS if name != "hand over"]
    same = {name for name in served if served[name] is night.STEPS[name]}
    assert set(served) - same == {"train", "start day"}
