"""NIGHT=beside: whole nights beside a day that serves, with the stand-ins of tests/faults.

Nothing that answers people is stopped, whatever happens; tests/e2e/test_beside.py has the real
stacks.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from glue.clients import host
from glue.clients.site import Site
from glue.core import beside_plan, desired_state, journal, lock
from glue.core.desired_state import DesiredState, Preempted, Wanted
from glue.core.errors import GlueError
from glue.core.names import ADAPTER
from glue.core.verdict import Verdict
from glue.night import beside, evaluate, night, train
from glue.serving import day, model, reconcile
from glue.serving.watch import Step
from tests.faults import conftest, stand_ins
from tests.faults.stand_ins import StandInSite, StandInStacks
from tests.faults.test_kill import begin, in_a_child, require_a_good_day
from training.places import PAUSE

folder, with_swap = conftest.folder, conftest.site


@pytest.fixture
def stopped(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every service of the day that glue stops, from a test's start."""
    found: list[str] = []
    stop = StandInStacks.stop

    def stopping(stacks: StandInStacks, stack: str, name: str) -> None:
        found.append(name)
        stop(stacks, stack, name)

    monkeypatch.setattr(StandInStacks, "stop", stopping)
    return found


@pytest.fixture
def site(with_swap: StandInSite, stopped: list[str]) -> StandInSite:
    """With NIGHT=beside, and a day that serves an earlier night's adapter."""
    begin(with_swap)
    stopped.clear()
    with_swap.settings.values["NIGHT"] = beside_plan.BESIDE
    return with_swap


@pytest.fixture
def good(site: StandInSite) -> str:
    """The earlier adapter."""
    return str(site.store.current())


def in_step(monkeypatch: pytest.MonkeyPatch, step: str, act: Callable[[], object]) -> None:
    """act happens when the step begins."""
    record = journal.record

    def recorded(state: Path, **event: Any) -> None:
        record(state, **event)
        if event.get("step") == step and event.get("phase") == "begin":
            act()

    monkeypatch.setattr(journal, "record", recorded)


def in_training(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """act happens once, at the first look at a trainer that runs."""
    look, done = train.trainer_fault, list[object]()

    def looked(*given: Any) -> str:
        if not done:
            done.append(act())
        return look(*given)

    monkeypatch.setattr(train, "trainer_fault", looked)


def test_a_night_is_promoted_and_stops_nothing(
    site: StandInSite, stopped: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The desk never has a notice of the night; the candidate is judged in the vLLM that serves."""
    reasons, seen, notice = set(), list[DesiredState | None](), model.write_notice

    def noticed(site: Site, reason: str, back_at: str | None) -> None:
        reasons.add(reason)
        notice(site, reason, back_at)

    monkeypatch.setattr(model, "write_notice", noticed)
    in_training(monkeypatch, lambda: seen.append(desired_state.read(site.state)))
    found = night.run(site)
    assert found["outcome"] == "promoted" and stopped == [] and reasons <= {"restart"}
    require_a_good_day(site)
    (during,) = seen
    assert during is not None and during.wanted is Wanted.JUDGING and during.night == found["night"]
    steps = [
        row["step"]
        for row in journal.rows(site.state)
        if row.get("night") == found["night"] and row.get("phase") == "begin"
    ]
    assert steps == list(night.steps(site))
    assert site.ledger.read()["loaded"][ADAPTER] == f"/adapters/{found['adapter']}"


def test_only_the_steps_that_stop_and_start_the_day_differ(site: StandInSite) -> None:
    beside_steps = night.steps(site)
    site.settings.values["NIGHT"] = "swap"
    assert night.steps(site) == night.STEPS
    assert set(night.STEPS) - set(beside_steps) == {"hand over", "start day"}
    assert list(beside_steps) == [
        *("collect", "check", "begin beside the day", "train", "publish", "judge", "promote"),
        "smoke",
    ]


@pytest.mark.parametrize("streaming", [0, 2])
def test_the_trainer_is_paused_while_somebody_is_answered(
    streaming: int, site: StandInSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    people = beside.let_people_first

    def looked(tonight: Any, ended: bool) -> None:
        people(tonight, ended)
        seen.append((ended, (tonight.folder / PAUSE).exists()))

    monkeypatch.setattr(beside, "let_people_first", looked)
    with site.ledger.change() as world:
        world["streaming"] = streaming
    night.run(site)
    assert (False, streaming > 0) in seen and seen[-1] == (True, False)


def test_a_vllm_that_does_not_tell_counts_as_busy(
    site: StandInSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(*_: object) -> int:
        raise GlueError("vLLM did not answer /metrics", "timed out", "")

    monkeypatch.setattr(stand_ins.StandInVllm, "running_requests", slow)
    assert beside.somebody_is_answered(site)


def test_a_trainer_that_is_killed_ends_the_night_alone(
    site: StandInSite, good: str, stopped: list[str]
) -> None:
    stand_ins.die_for(site.ledger, "trainer")
    with pytest.raises(GlueError, match="the trainer left no result"):
        night.run(site)
    require_a_good_day(site)
    assert stopped == [] and site.store.current() == good


def test_the_guard_stops_the_trainer_and_never_the_day(
    site: StandInSite, stopped: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = iter([10**9, 10**9, 0])
    with site.ledger.change() as world:
        world["trainer"] = "hangs"
    monkeypatch.setattr(host, "available_bytes", lambda: next(memory, 10**9))
    monkeypatch.setattr(model, "wait_for_memory", lambda *_: None)
    in_training(monkeypatch, lambda: None)
    with pytest.raises(GlueError, match="the trainer was stopped") as error:
        night.run(site)
    assert "0.0 GB of memory left" in error.value.saw and stopped == []
    require_a_good_day(site)


def test_a_trainer_leaves_the_machine_to_a_vllm_that_died(
    site: StandInSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The day comes back as after any night."""
    with monkeypatch.context() as patch:
        in_training(patch, lambda: stand_ins.die_for(site.ledger, "vllm"))
        with pytest.raises(GlueError, match="the trainer was stopped") as error:
            night.run(site)
    assert "the day does not serve: vllm: exited" in error.value.saw
    require_a_good_day(site)
    assert night.run(site)["outcome"] == "promoted"


def test_a_vllm_that_dies_before_it_judges_is_started_again(
    site: StandInSite, good: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def judge(*_: object) -> Verdict:
        site.vllm().models()
        return stand_ins.good_verdict()

    with monkeypatch.context() as patch:
        patch.setattr(evaluate, "judge", judge)
        in_step(patch, "judge", lambda: stand_ins.die_for(site.ledger, "vllm"))
        with pytest.raises(GlueError, match="vLLM did not answer"):
            night.run(site)
    require_a_good_day(site)
    assert site.store.current() == good


@pytest.mark.parametrize("step", ["begin beside the day", "train", "judge", "promote", "smoke"])
def test_after_glue_is_killed_the_watch_removes_the_trainer_and_the_day_never_stopped(
    step: str, site: StandInSite, good: str, stopped: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = site.ledger.read()["loaded"]
    with monkeypatch.context() as patch:
        if step == "train":
            in_training(patch, stand_ins.die)
        else:
            in_step(patch, step, stand_ins.die)
        assert in_a_child(lambda: night.run(site)) == 9
    assert ("trainer" in site.ledger.read()["services"]) == (step == "train")
    assert reconcile.reconcile(site)["step"] == (
        Step.NOTHING if step == "begin beside the day" else Step.DAY
    )
    require_a_good_day(site)
    assert stopped == [] and site.store.current() == good and site.ledger.read()["loaded"] == loaded
    assert night.run(site)["outcome"] == "promoted"


def test_make_day_lets_a_night_beside_it_go_on(
    site: StandInSite, stopped: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In another process, as a person's is."""
    in_training(monkeypatch, lambda: in_a_child(lambda: day.start(site)))
    assert night.run(site)["outcome"] == "promoted" and stopped == []


def test_make_stop_ends_it_and_stays(site: StandInSite, monkeypatch: pytest.MonkeyPatch) -> None:
    in_training(monkeypatch, lambda: day.stop(site))
    with pytest.raises(Preempted):
        night.run(site)
    assert desired_state.read(site.state) == DesiredState(Wanted.DOWN)
    assert site.stacks.services("day")["vllm"].state == "exited"


def test_a_night_that_is_late_keeps_the_day(
    site: StandInSite, stopped: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The opening passes while it trains; the watch of that moment changes nothing."""

    def opening() -> None:
        found = desired_state.read(site.state)
        assert found is not None
        late = DesiredState(found.wanted, found.night, time.time() - 1)
        desired_state.write(site.state, late)
        assert lock.held(site.state, lock.TRAINING)
        assert reconcile.reconcile(site)["step"] == Step.NOTHING

    in_training(monkeypatch, opening)
    assert night.run(site)["outcome"] == "promoted" and stopped == []


def test_a_deadline_that_passes_unheard_ends_the_night_alone(
    site: StandInSite, stopped: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A trainer that neither ends nor is silent."""
    with site.ledger.change() as world:
        world["trainer"] = "hangs"
    monkeypatch.setattr(train, "SILENT_TRAINER_SECONDS", 0.2)
    monkeypatch.setattr(train, "trainer_fault", lambda *_: "")
    with pytest.raises(GlueError, match="waiting for the trainer"):
        night.run(site, until_time=time.time())
    require_a_good_day(site)
    assert stopped == []
