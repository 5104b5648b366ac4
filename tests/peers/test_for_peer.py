"""What a machine with ROLE=train does with an order. Docker and the trainer are stand-ins."""

from __future__ import annotations

import json
import os
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
        found = answers.training(trainer.state)[NIGHT]
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
    night = trainer.state / "nights" / NIGHT
    (night / "scratch").mkdir()
    day.stop(trainer)
    assert "Preempted" in wait(trainer, "failed")["reason"]
    assert not (night / "dataset").exists() and not (night / "scratch").exists()


def test_a_peer_that_stops_waiting_ends_it(
    pair: Pair, trainer: StandInSite, tmp_path: Path
) -> None:
    with trainer.ledger.change() as world:
        world["trainer"] = "hangs"
    order(pair, tmp_path)
    assert json.loads(link.ask(pair.peer, "stop", "20261120T190000Z")) == {"stopped": None}
    assert answers.training(trainer.state)[NIGHT]["phase"] == "trains"
    assert json.loads(link.ask(pair.peer, "stop", NIGHT)) == {"stopped": NIGHT}
    assert not lock.held(trainer.state, lock.TRAINING), "another order can come at once"
    assert "Preempted" in answers.training(trainer.state)[NIGHT]["reason"]
    assert trainer.stacks.trainer() is None
    assert not (trainer.state / "nights" / NIGHT / "dataset").exists()


def test_a_machine_whose_day_serves_is_not_taken(
    pair: Pair, trainer: StandInSite, tmp_path: Path
) -> None:
    trainer.stacks.up()
    with pytest.raises(GlueError, match="train failed") as error:
        order(pair, tmp_path)
    assert "the day serves on a machine with ROLE=train" in error.value.saw
    with trainer.ledger.change() as world:
        world["services"]["vllm"] = ["running", "starting"]
    desired_state.write(trainer.state, desired_state.DesiredState(desired_state.Wanted.DAY))
    with pytest.raises(GlueError, match="train failed"):
        order(pair, tmp_path)
    assert trainer.ledger.read()["services"]["vllm"] == ["running", "starting"]
    assert answers.training(trainer.state) == {}


def ordered(trainer: StandInSite, name: str, phase: str, age_seconds: float = 0) -> Path:
    """The folder of a night that a peer ordered."""
    folder = trainer.state / "nights" / name
    (folder / "adapter").mkdir(parents=True)
    files.write_json(folder / answers.ORDERED, {"phase": phase, "reason": ""})
    moment = time.time() - age_seconds
    os.utime(folder / answers.ORDERED, (moment, moment))
    return folder


def test_an_order_during_another_training_is_refused_and_harms_nothing(
    pair: Pair, trainer: StandInSite, tmp_path: Path
) -> None:
    folder = ordered(trainer, "20261125T190000Z", "trains")
    with (
        lock.hold(trainer.state, lock.TRAINING, "it runs"),
        pytest.raises(GlueError, match="train failed") as error,
    ):
        order(pair, tmp_path)
    assert "ERROR 11" in error.value.saw and (folder / "adapter").exists()


def test_an_order_leaves_what_another_peer_may_still_fetch(
    pair: Pair, trainer: StandInSite, tmp_path: Path
) -> None:
    dead = ordered(trainer, "20261125T190000Z-aaaaaaaa", "trains")
    late = ordered(trainer, "20261126T180000Z-bbbbbbbb", "trained", answers.KEPT_SECONDS + 60)
    fresh = ordered(trainer, "20261126T190000Z-cccccccc", "trained", 60)
    sent = answers.received(trainer.state, fresh.name)
    sent.mkdir(parents=True)
    order(pair, tmp_path)
    wait(trainer, "trained")
    assert answers.training(trainer.state).keys() == {fresh.name, NIGHT}
    assert [(one / "adapter").exists() for one in (dead, late, fresh)] == [False, False, True]
    assert sent.exists(), "another peer may be sending its night"


def test_a_training_that_was_killed_has_failed(trainer: StandInSite) -> None:
    assert answers.training(trainer.state) == {}
    ordered(trainer, NIGHT, "trains", 60)
    assert answers.training(trainer.state)[NIGHT]["phase"] == "trains", "it has no lock yet"
    os.utime(trainer.state / "nights" / NIGHT / answers.ORDERED, (0, 0))
    assert answers.training(trainer.state)[NIGHT]["phase"] == "failed"
    with lock.hold(trainer.state, lock.TRAINING, "it runs"):
        assert answers.training(trainer.state)[NIGHT]["phase"] == "trains"


def test_a_peer_s_key_reaches_no_night_of_this_machine(
    pair: Pair, trainer: StandInSite, tmp_path: Path
) -> None:
    """A ROLE=both machine runs its own night: it is not stopped, nor is its folder taken over."""
    own = desired_state.DesiredState(desired_state.Wanted.NIGHT, NIGHT, time.time() + 60)
    desired_state.write(trainer.state, own)
    (trainer.state / "nights" / NIGHT).mkdir(parents=True)
    assert json.loads(link.ask(pair.peer, "stop", NIGHT)) == {"stopped": None}
    assert desired_state.read(trainer.state) == own
    desired_state.write(trainer.state, desired_state.DesiredState(desired_state.Wanted.DOWN))
    with pytest.raises(GlueError, match="train failed") as error:
        order(pair, tmp_path)
    assert "not a peer's" in error.value.saw and answers.training(trainer.state) == {}


def test_what_was_sent_and_not_ordered_goes_with_the_stop(
    pair: Pair, trainer: StandInSite, tmp_path: Path
) -> None:
    """A night that fails before its order asks for a stop too: make forget on the peer must miss
    nothing."""
    (tmp_path / "train.jsonl").write_text('{"prompt": "x"}\n')
    link.send(pair.peer, NIGHT, tmp_path / "train.jsonl")
    assert answers.received(trainer.state, NIGHT).exists()
    link.ask(pair.peer, "stop", NIGHT)
    assert not answers.received(trainer.state, NIGHT).exists()
