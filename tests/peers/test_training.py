"""A night with ROLE=serve, which a peer with ROLE=train trains: a real ssh between two sites of
stand-ins. Docker, vLLM and the trainer are stand-ins, everything of glue is real."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from glue.clients.site import Site
from glue.core import desired_state, files, journal, lock, waiting
from glue.core.errors import GlueError, PreconditionFailed
from glue.core.waiting import Seen
from glue.night import elsewhere, night
from glue.night.tonight import Night
from glue.peers import answers, facts, link
from glue.peers.facts import Facts
from glue.peers.link import Peer
from glue.serving import day, reconcile, watch
from tests.faults import stand_ins
from tests.faults.conftest import folder, site  # noqa: F401
from tests.faults.stand_ins import StandInSite
from tests.operations.kept_site import with_settings
from tests.peers.conftest import Pair

NIGHT = "20261126T190000Z"


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
    monkeypatch.setattr(elsewhere, "GONE_SECONDS", 0.1)
    monkeypatch.setattr(facts, "image", lambda site, reference: "stand-in")
    monkeypatch.setattr(facts, "version", lambda: "a")

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


def test_a_peer_trains_and_the_day_serves_all_night(
    served: Site, pair: Pair, trainer: StandInSite
) -> None:
    found = night.run(served)
    assert found["outcome"] == "promoted" and served.store.current() == found["adapter"]
    (on_b,) = (trainer.state / "nights").iterdir()
    assert on_b.name == f"{found['night']}-{link.mark(pair.peer)}", "others may have one as old"
    weights = served.store.folder / found["adapter"] / "adapter_model.safetensors"
    assert weights.read_text() == f"weights of {on_b.name}"
    begun = [row for row in journal.rows(served.state) if row.get("phase") == "begin"]
    assert [row["step"] for row in begun if "step" in row] == list(night.steps(served))
    assert not (on_b / "dataset").exists(), "make forget here would miss it"
    assert not (trainer.state / "peers" / answers.RECEIVED / on_b.name).exists()
    assert json.loads((on_b / "job.json").read_text())["begin_from"] == ""
    left = desired_state.read(trainer.state)
    assert left and (left.wanted, left.night) == (desired_state.Wanted.DOWN, on_b.name)
    assert desired_state.read(served.state) == desired_state.DesiredState(desired_state.Wanted.DAY)


BEGUN, OF_TRAINER = "glue.core.commands.start_detached", "tests.faults.stand_ins.StandInStacks"
IN_TRAINING = (
    *("glue.night.train.job", "glue.night.train.take_result"),
    *(f"{OF_TRAINER}.start_trainer", f"{OF_TRAINER}.trainer"),
)
DEATHS = (
    *("status", "receive", "receive half", "train", f"train {BEGUN}"),
    *("train glue.night.train.wait_for_memory", "fetch", "fetch half"),
    *(pytest.param(f"train {place}", marks=pytest.mark.long) for place in IN_TRAINING),
)


@pytest.mark.parametrize("death", DEATHS)
def test_a_peer_that_is_killed_costs_the_night_and_nothing_else(
    served: Site, trainer: StandInSite, death: str
) -> None:
    """At every step of it. While it sends or receives a file it is killed each time anew."""
    (trainer.ledger.path.parent / "fault").write_text(death)
    with pytest.raises(GlueError):
        night.run(served)
    last = journal.last_night(served.state)
    assert last and last["outcome"] == "failed" and served.store.current() is None
    assert desired_state.read(served.state) == desired_state.DesiredState(desired_state.Wanted.DAY)


@pytest.mark.parametrize("request_", ["receive", "fetch"])
def test_a_link_that_is_cut_in_the_middle_of_a_file_costs_no_night(
    served: Site, trainer: StandInSite, request_: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = ("-oServerAliveInterval=1", "-oServerAliveCountMax=1", *link.OPTIONS)
    monkeypatch.setattr(link, "OPTIONS", quick)  # of each option the first counts
    monkeypatch.setattr(elsewhere, "GONE_SECONDS", 600.0)
    (trainer.ledger.path.parent / "fault").write_text(f"{request_} cut")
    assert night.run(served)["outcome"] == "promoted"


def test_a_full_disk_there_is_named(served: Site, trainer: StandInSite) -> None:
    (trainer.ledger.path.parent / "fault").write_text("receive full")
    with pytest.raises(GlueError, match="receive failed") as error:
        night.run(served)
    assert "No space left on device" in error.value.saw


def test_an_order_whose_answer_is_lost_begins_once(
    served: Site, trainer: StandInSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(elsewhere, "GONE_SECONDS", 600.0)
    (trainer.ledger.path.parent / "fault").write_text("train answer")
    assert night.run(served)["outcome"] == "promoted"


def hangs(served: Site, trainer: StandInSite, act: Callable[[], object]) -> Site:
    """A, which acts when B has begun a training that does not end."""
    with trainer.ledger.change() as world:
        world["trainer"] = "hangs"
    tell = served.tell

    def tell_and_act(line: str) -> None:
        tell(line)
        if ": trains" in line:
            act()

    return replace(served, tell=tell_and_act)


def test_a_peer_that_goes_away_while_it_trains_is_waited_for_so_long(
    served: Site, trainer: StandInSite
) -> None:
    fault = trainer.ledger.path.parent / "fault"
    with pytest.raises(GlueError, match="did not train") as error:
        night.run(hangs(served, trainer, lambda: fault.write_text("status")))
    assert "gone:" in error.value.saw and "last seen 20" in error.value.saw
    assert trainer.stacks.trainer() is None, "it was told to stop"


def test_make_stop_here_ends_the_training_there(served: Site, trainer: StandInSite) -> None:
    down = desired_state.DesiredState(desired_state.Wanted.DOWN)
    with pytest.raises(desired_state.Preempted, match="does not go on"):
        night.run(hangs(served, trainer, lambda: desired_state.write(served.state, down)))
    assert trainer.stacks.trainer() is None and not lock.held(trainer.state, lock.TRAINING)
    assert desired_state.read(served.state) == down


def test_after_a_restart_here_the_next_night_ends_what_the_dead_one_ordered(
    served: Site, pair: Pair, trainer: StandInSite, tmp_path: Path
) -> None:
    with trainer.ledger.change() as world:
        world["trainer"] = "hangs"
    (tmp_path / "train.jsonl").write_text("{}\n")
    dead = f"20261125T190000Z-{link.mark(pair.peer)}"
    link.send(pair.peer, dead, tmp_path / "train.jsonl")
    link.ask(pair.peer, "train", dead, "rehearsal", str(int(time.time()) + 3600))

    def look() -> Seen[None]:
        return Seen(trainer.stacks.trainer() is not None, "no trainer yet")

    waiting.until("the trainer", look, 60, 0.05)
    with trainer.ledger.change() as world:
        world["trainer"] = "trains"
        world["looks"] = -(10**9)  # of this one: never
    assert night.run(served)["outcome"] == "promoted"


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
    with pytest.raises(GlueError, match="arrived damaged"):
        link.fetch(Peer("spark-b", tmp_path), NIGHT, target, meant, 0)
    assert not list(tmp_path.iterdir())


def test_a_peer_names_no_file_here(site: StandInSite, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    """As if someone had taken over the peer."""
    told = {"sha256": {"result.json": "0" * 64, "../../secrets.env": "0" * 64}}
    monkeypatch.setattr(elsewhere, "trainer", lambda tonight: Peer("spark-b", site.state))
    monkeypatch.setattr(elsewhere, "order", lambda *_: None)
    monkeypatch.setattr(link, "mark", lambda peer: "a1b2c3d4")
    monkeypatch.setattr(link, "ask", lambda *_: "")
    monkeypatch.setattr(elsewhere, "wait", lambda *_: told)
    fetched: list[Path] = []
    monkeypatch.setattr(link, "fetch", lambda *found: fetched.append(found[2]))
    tonight = Night(site, NIGHT, site.recipe(), 0.0)
    with pytest.raises(GlueError, match="left no result"):
        elsewhere.train_there(tonight)
    assert fetched == [tonight.folder / "result.json"]


def test_no_night_begins_without_a_peer_that_trains(served: Site, pair: Pair) -> None:
    pair.peer.record.unlink()
    with pytest.raises(PreconditionFailed, match="no peer can train") as error:
        night.run(served)
    assert error.value.saw == "it has no peers"


@pytest.mark.parametrize(
    ("found", "why"),
    [
        ({}, ""),
        ({"gone": "timed out", "words": "gone: timed out"}, "gone: timed out"),
        ({"role": "both", "words": "day, role both"}, "day, role both"),
        ({"clock": "clock: 9 s behind there"}, "clock: 9 s behind there"),
        ({"alike": {"version": "b"}}, "version: here a, there b"),
        ({"training": {"n": {"phase": "trains"}}}, "it trains night n"),
        ({"training": {"n": {"phase": "trained"}}}, ""),
        ({"mode": "day"}, "its day serves: make stop there"),
    ],
)
def test_which_peer_can_train(found: Facts, why: str) -> None:
    known = {"mode": "down", "role": "train", "clock": "", "alike": {"version": "a"}}
    known |= {"training": {}, "words": ""}
    assert elsewhere.unfit(known | found, {"version": "a"}) == why


def test_the_first_peer_that_can_train_does(
    site: StandInSite,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    busy, free = Peer("busy", site.state), Peer("free", site.state)
    monkeypatch.setattr(link, "peers", lambda state: [busy, free])
    monkeypatch.setattr(link, "look", lambda peer: {"words": f"gone {peer.host}", "gone": ""})
    monkeypatch.setattr(elsewhere, "alike", lambda site: {})
    tonight = Night(site, NIGHT, site.recipe(), 0.0)
    with pytest.raises(GlueError) as error:
        elsewhere.trainer(tonight)
    assert type(error.value) is GlueError, "it may answer again"
    assert error.value.saw == "busy: gone busy; free: gone free"
    monkeypatch.setattr(elsewhere, "unfit", lambda found, mine: "busy" * ("busy" in found["words"]))
    assert elsewhere.trainer(tonight) == free


def test_a_peer_of_another_version_trains_nothing(
    served: Site, trainer: StandInSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(elsewhere, "GONE_SECONDS", 600.0)  # it is told at once
    monkeypatch.setattr(facts, "version", lambda: "b")
    with pytest.raises(PreconditionFailed, match="no peer can train") as error:
        night.run(served)
    assert error.value.saw.endswith(": version: here b, there a")
    assert not list((trainer.state / "nights").iterdir())


def test_a_peer_of_another_model_trains_nothing(served: Site, trainer: StandInSite) -> None:
    """An adapter fits one base model only."""
    with pytest.raises(PreconditionFailed, match="no peer can train") as error:
        night.run(with_settings(served, MODEL="smollm2"))
    assert "MODEL: here smollm2 " in error.value.saw and "there practice " in error.value.saw


def test_a_machine_that_trains_runs_no_night_of_its_own(trainer: StandInSite) -> None:
    with pytest.raises(PreconditionFailed, match="trains for its peers only"):
        night.run(trainer)


def test_the_role_decides_the_steps_whatever_the_night_is(trainer: StandInSite) -> None:
    one_machine = with_settings(trainer, ROLE="both")
    assert night.steps(one_machine) is night.STEPS and "hand over" in night.STEPS
    served = night.steps(with_settings(trainer, ROLE="serve", NIGHT="beside"))
    assert list(served) == [name for name in night.STEPS if name != "hand over"]
    same = {name for name in served if served[name] is night.STEPS[name]}
    assert set(served) - same == {"train", "start day"}
