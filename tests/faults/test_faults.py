"""One fault each, with stand-ins, and its result."""

import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from glue.clients import chat_volume, host, jobs
from glue.core import desired_state, files, journal, lock, services, upgrade_note, waiting
from glue.core.desired_state import DesiredState, Preempted, Wanted
from glue.core.errors import DayNotServing, GateRefused, GlueError, Locked, PreconditionFailed
from glue.core.names import ADAPTER, BASE
from glue.core.settings import Settings
from glue.core.verdict import Verdict
from glue.core.waiting import Seen
from glue.machine import doctor, hours
from glue.night import collect, evaluate, night, promote, train
from glue.night.tonight import Night
from glue.operations import backup, restore, setup
from glue.serving import adapters, day, model, notify, reconcile, status, watch
from glue.serving.watch import Step
from tests.faults import stand_ins
from tests.faults.stand_ins import StandInSite, StandInStacks
from tests.faults.test_kill import begin, in_a_child, require_a_good_day


@pytest.mark.parametrize(
    ("trainer", "words"),
    [
        ("hangs", "no progress for"),
        ("exits 1", "left no result"),
        ("leaves garbage", "left no result"),
    ],
)
def test_a_failed_trainer_ends_the_night_and_the_day_serves(
    trainer: str, words: str, site: StandInSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = begin(site)
    monkeypatch.setattr(train, "SILENT_TRAINER_SECONDS", 0.3)
    with site.ledger.change() as world:
        world["trainer"] = trainer
    with pytest.raises(GlueError) as error:
        night.run(site)
    assert words in str(error.value)
    require_a_good_day(site)
    assert site.store.current() == good
    last = journal.last_night(site.state)
    assert last is not None and last["outcome"] == "failed" and words.split()[0] in last["reason"]


def test_a_trainer_is_stopped_at_the_memory_reserve(
    site: StandInSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = begin(site)
    with site.ledger.change() as world:
        world["trainer"] = "hangs"
    memory = iter([10**9] * 3)  # enough to start, and for two looks
    monkeypatch.setattr(host, "available_bytes", lambda: next(memory, 0))
    monkeypatch.setattr(model, "wait_for_memory", lambda *_: None)
    with pytest.raises(GlueError, match="the trainer was stopped") as error:
        night.run(site)
    assert "0.0 GB of memory left" in error.value.saw
    require_a_good_day(site)
    assert site.store.current() == good


def test_a_trainer_is_stopped_when_the_kernel_reports_pressure(
    site: StandInSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With less than three times the reserve available; here the reserve is 1 byte."""
    begin(site)
    with site.ledger.change() as world:
        world["trainer"] = "hangs"
    monkeypatch.setattr(host, "memory_stall_percent", lambda: 45.0)
    monkeypatch.setattr(host, "available_bytes", lambda: 2)
    with pytest.raises(GlueError, match="the trainer was stopped") as error:
        night.run(site)
    assert "45 % of the last 10 s" in error.value.saw
    require_a_good_day(site)


def test_a_night_without_room_for_the_adapter_ends_before_the_day_stops(
    site: StandInSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(site)
    before = site.ledger.read()["services"]
    huge = replace(site.settings.model, adapter_bytes_per_rank=10**17)
    monkeypatch.setattr(Settings, "model", huge)
    with pytest.raises(PreconditionFailed, match="no room for a night's adapter"):
        night.run(site)
    assert site.ledger.read()["services"] == before
    assert not list((site.state / "nights").glob("*/reserve"))


@pytest.mark.parametrize("fault", ["refuses", "mute"])
def test_a_candidate_that_vllm_refuses_or_that_gives_no_answer_does_not_serve(
    fault: str, site: StandInSite
) -> None:
    good = begin(site)

    def break_down(*_: object) -> Verdict:
        with site.ledger.change() as world:
            world[fault] = True
        return stand_ins.good_verdict()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluate, "judge", break_down)
        patch.setattr(promote, "SMOKE_SECONDS", 0.5)
        with pytest.raises((GlueError, DayNotServing)):
            night.run(site)
    with site.ledger.change() as world:
        world[fault] = False
    day.start(site)
    require_a_good_day(site)
    assert site.store.current() == good


def test_a_broken_adapter_is_refused_and_not_stored(
    site: StandInSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = begin(site)
    before = site.store.names()
    monkeypatch.setattr(
        adapters,
        "problems",
        lambda site, folder: ["layers.3.mixer.q_proj.lora_B.weight is all zeros"],
    )
    with pytest.raises(GateRefused) as error:
        night.run(site)
    assert "is broken" in error.value.saw and "q_proj" in error.value.saw
    require_a_good_day(site)
    assert (site.store.current(), site.store.names()) == (good, before)
    (page,) = [
        path for path in site.state.glob("nights/*/report.html") if "q_proj" in path.read_text()
    ]
    assert "answers as before" in page.read_text()


def test_a_night_waits_for_running_answers_with_a_deadline(
    site: StandInSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(site)
    said: list[str] = []
    object.__setattr__(site, "tell", said.append)
    monkeypatch.setattr(train, "DRAIN_SECONDS", 0.2)
    with site.ledger.change() as world:
        world["streaming"] = 1
    assert night.run(site)["outcome"] == "promoted"
    assert "1 answers still running" in said and any(
        "stopping the model anyway" in line for line in said
    )


# ---------------------------------------------------------------------- the morning goes first


def ended_while_it_trains(site: StandInSite, act: Callable[[], Any]) -> list[str]:
    """Runs a night whose trainer never ends in its own process, calls act while it trains, and
    returns its last lines."""
    words = site.state.parent / "words"

    def train_for_ever() -> None:
        try:
            night.run(site)
        except BaseException as error:
            words.write_text(f"{type(error).__name__}\n{error}")

    with site.ledger.change() as world:
        world["trainer"] = "hangs"
    child = os.fork()
    if child == 0:
        train_for_ever()
        os._exit(0)
    waiting.until(
        "the trainer",
        lambda: Seen("trainer" in site.ledger.read()["services"], "not yet"),
        20,
        0.02,
    )
    act()
    os.waitpid(child, 0)
    return words.read_text().splitlines()


def test_the_day_ends_a_night_that_still_trains_and_it_promotes_nothing(
    site: StandInSite,
) -> None:
    good = begin(site)
    kind, *_ = ended_while_it_trains(site, lambda: day.start(site))
    assert kind == "Preempted"
    require_a_good_day(site)
    assert site.store.current() == good and len(site.store.names()) == 1
    last = journal.last_night(site.state)
    assert last is not None and last["outcome"] == "preempted"


def test_a_second_night_is_refused_and_changes_nothing(site: StandInSite) -> None:
    begin(site)

    def try_another() -> None:
        with pytest.raises(Locked) as error:
            night.run(site)
        assert "a night" in error.value.saw
        assert site.stacks.trainer() is not None
        day.start(site)

    ended_while_it_trains(site, try_another)
    require_a_good_day(site)


def test_make_stop_holds_until_make_day(site: StandInSite) -> None:
    begin(site)
    ended_while_it_trains(site, lambda: day.stop(site))
    assert (
        not any(service.serves for service in site.stacks.services("day").values())
        and site.stacks.trainer() is None
    )
    assert reconcile.reconcile(site)["step"] == "nothing"
    day.start(site)
    require_a_good_day(site)


@pytest.mark.parametrize("when", ["before", "while it waits"])
def test_a_scheduled_day_respects_make_stop_and_make_day_does_not(
    when: str, site: StandInSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(site)
    if when == "before":
        day.stop(site)
    else:
        monkeypatch.setattr(doctor, "require", lambda site, aim: day.stop(site))
    assert day.start(site, day.Caller.TIMER)["mode"] == "down"
    assert desired_state.read(site.state) == DesiredState(Wanted.DOWN)
    assert not any(service.serves for service in site.stacks.services("day").values())
    monkeypatch.setattr(doctor, "require", lambda site, aim: None)
    assert day.start(site)["mode"] == "day"
    require_a_good_day(site)
    day.start(site, day.Caller.TIMER)
    require_a_good_day(site)


def test_a_waiting_night_does_not_start_after_make_stop(
    site: StandInSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = begin(site)

    def stop_meanwhile(tonight: Night) -> None:
        collect.check(tonight)
        day.stop(site)

    monkeypatch.setitem(night.STEPS, "check", stop_meanwhile)
    with pytest.raises(Preempted, match="does not go on"):
        night.run(site)
    assert (
        desired_state.read(site.state) == DesiredState(Wanted.DOWN) and site.store.current() == good
    )
    assert not any(service.serves for service in site.stacks.services("day").values())
    last = journal.last_night(site.state)
    assert last is not None and last["outcome"] == "preempted"


def test_a_refusal_after_opening_restarts_nothing(
    site: StandInSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A checkpoint served, and judging replaced it by the base model: the next morning changes
    it back, not this night."""
    good = begin(site)
    (site.store.folder / good / "checkpoint").mkdir()
    (site.store.folder / good / "checkpoint" / "config.json").write_text("{}")
    site.store.serve_as(good, merged=True)
    day.start(site)
    assert site.vllm().models() == {BASE: f"/adapters/{good}/checkpoint"}
    stopped, stop = [], StandInStacks.stop

    def note_stop(stacks: StandInStacks, stack: str, name: str) -> None:
        stopped.append(name)
        stop(stacks, stack, name)

    def refuse_late(*_: object) -> Verdict:
        desired_state.write(
            site.state,
            replace(
                desired_state.require(site.state, newest_night(site)), until_time=time.time() - 1
            ),
        )
        monkeypatch.setattr(StandInStacks, "stop", note_stop)
        return Verdict(False, ("worse",), {})

    monkeypatch.setattr(evaluate, "judge", refuse_late)
    with pytest.raises(GateRefused):
        night.run(site)
    assert stopped == [] and site.vllm().models()[ADAPTER] == f"/adapters/{good}"
    assert site.ledger.read()["assistant"] == ADAPTER and desired_state.read(
        site.state
    ) == DesiredState(Wanted.DAY)
    day.start(site, day.Caller.TIMER)
    assert stopped == ["vllm"] and site.vllm().models() == {BASE: f"/adapters/{good}/checkpoint"}


def newest_night(site: StandInSite) -> str:
    return max(path.name for path in (site.state / "nights").iterdir())


def test_a_late_night_cannot_promote(site: StandInSite) -> None:
    good = begin(site)
    desired_state.write(site.state, DesiredState(Wanted.NIGHT, "another", 0.0))
    with pytest.raises(Preempted):
        adapters.promote(site, good, None, "late")
    with pytest.raises(Preempted):
        day.start_for_judging(site, "late")
    assert site.store.current() == good


def test_make_day_during_judging_leaves_a_serving_day_alone(site: StandInSite) -> None:
    begin(site)
    tonight = DesiredState(Wanted.JUDGING, "tonight", time.time() - 1)
    site.store.set_judging(True)
    desired_state.write(site.state, tonight)
    child = os.fork()
    if child == 0:
        with lock.hold(site.state, lock.TRAINING, "judge"):
            time.sleep(60)
    try:
        waiting.until(
            "the other night",
            lambda: Seen(lock.held(site.state, lock.TRAINING), "not yet"),
            10,
            0.02,
        )
        day.start(site)
        assert (
            desired_state.read(site.state) == tonight and (site.store.folder / "judging").exists()
        )
        site.stacks.stop("day", "vllm")
        day.start(site)
        assert (
            desired_state.read(site.state) == DesiredState(Wanted.DAY)
            and not (site.store.folder / "judging").exists()
        )
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    require_a_good_day(site)


# ---------------------------------------------------------------------- the watch


def test_the_watch_restarts_an_unhealthy_service_with_growing_pauses_and_gives_up(
    site: StandInSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(site)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now)
    for attempt in range(1, watch.MOST_ATTEMPTS + 1):
        with site.ledger.change() as world:
            world["services"]["vllm"] = ["running", "unhealthy"]
        assert reconcile.reconcile(site)["step"] == Step.RESTART
        require_a_good_day(site)
        with site.ledger.change() as world:
            world["services"]["vllm"] = ["running", "unhealthy"]
        if attempt < watch.MOST_ATTEMPTS:
            assert "comes later" in reconcile.reconcile(site)["why"]
        now += watch.PAUSE_AFTER_FIRST_ATTEMPT_SECONDS * 2**watch.MOST_ATTEMPTS
    with pytest.raises(DayNotServing) as error:
        reconcile.reconcile(site)
    assert error.value.exit_code == 12 and "4 attempts" in error.value.saw
    day.start(site)
    assert reconcile.reconcile(site)["step"] == "nothing"


def test_the_watch_notifies_of_a_restart_and_of_recovery(
    site: StandInSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(site)
    told = hear(monkeypatch)
    with site.ledger.change() as world:
        world["services"]["vllm"] = ["running", "unhealthy"]
    for step in (Step.RESTART, Step.NOTHING):
        with notify.watching(site, "reconcile") as result:
            result |= reconcile.reconcile(site)
        assert result["step"] == step
    assert told == [notify.NOT_SERVING, "day serves again"]


def test_make_day_restarts_a_hanging_vllm(
    site: StandInSite,
) -> None:
    """Docker has not noticed the hang yet, as when a judge's question got no answer."""
    begin(site)
    with site.ledger.change() as world:
        world["hangs"] = True
    day.start(site)
    assert site.vllm().answers()
    require_a_good_day(site)


def test_the_watch_undoes_a_dead_night_and_does_not_touch_a_running_one(
    site: StandInSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(site)
    with site.ledger.change() as world:
        world["trainer"] = "hangs"

    def die_in_training() -> None:
        monkeypatch.setattr(train, "wait_for_trainer", lambda tonight: os._exit(9))
        night.run(site)

    in_a_child(die_in_training)
    assert site.stacks.trainer() is not None
    with lock.hold(site.state, lock.SWITCH, "another"):
        assert "another command is running" in reconcile.reconcile(site)["why"]
    found = reconcile.reconcile(site)
    assert found["step"] == Step.DAY and "died" in found["why"]
    require_a_good_day(site)
    last = journal.last_night(site.state)
    assert last is not None and (last["outcome"], last["reason"]) == ("died", "in step train")


def test_the_watch_does_nothing_before_the_first_make_day(site: StandInSite) -> None:
    assert reconcile.reconcile(site)["step"] == "nothing"
    assert not site.stacks.services("day")


def test_timers_do_nothing_during_an_upgrade_and_make_day_works(
    site: StandInSite,
) -> None:
    begin(site)
    site.stacks.stop("day", "vllm")
    with lock.hold(site.state, lock.UPGRADE, "an upgrade"):
        verbs: tuple[Callable[[], object], ...] = (
            lambda: day.start(site, day.Caller.TIMER),
            lambda: night.run(site),
        )
        for verb in verbs:
            with pytest.raises(Locked, match="an upgrade runs") as error:
                verb()
            assert error.value.exit_code == 11
        assert "an upgrade" in reconcile.reconcile(site)["why"]
        assert services.not_serving(site.stacks.services("day"))
        day.start(site)  # the upgrade's own make day is this
    require_a_good_day(site)


def test_no_day_night_or_repair_starts_after_an_upgrade_that_died(site: StandInSite) -> None:
    begin(site)
    site.stacks.stop("day", "vllm")
    note = {"before": "1" * 40, "after": "2" * 40}
    files.write_json(site.state / upgrade_note.NOTE, note)
    verbs: tuple[Callable[[], object], ...] = (
        lambda: day.start(site),
        lambda: day.start(site, day.Caller.TIMER),
        lambda: night.run(site),
        lambda: reconcile.reconcile(site),
    )
    for verb in verbs:
        with pytest.raises(PreconditionFailed, match="an upgrade did not finish") as error:
            verb()
        assert "make upgrade TO=111111111111" in error.value.do
    assert services.not_serving(site.stacks.services("day"))
    assert "make upgrade TO=111111111111 goes back" in status.status(site)["overdue"][0]
    (site.state / upgrade_note.NOTE).unlink()
    reconcile.reconcile(site)
    require_a_good_day(site)


def hear(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The notifications, through a channel that always works."""
    heard: list[str] = []

    def tell(site: StandInSite, what: str, words: str, good: bool) -> bool:
        heard.append(what)
        return True

    monkeypatch.setattr(notify, "tell", tell)
    return heard


def morning_that_is_locked_out(site: StandInSite) -> None:
    with pytest.raises(Locked), notify.watching(site, "day"):
        day.start(site)


@pytest.mark.parametrize(
    ("open_now", "wanted", "told"),
    [
        (True, DesiredState(Wanted.DAY), ["day not serving"]),
        (False, DesiredState(Wanted.DAY), []),
        (True, DesiredState(Wanted.DOWN), []),
        (True, DesiredState(Wanted.NIGHT, "n", 1e12), []),
    ],
)
def test_a_day_that_a_running_command_blocks_is_notified_once(
    open_now: bool,
    wanted: DesiredState,
    told: list[str],
    site: StandInSite,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begin(site)
    monkeypatch.setattr(hours.Hours, "is_open", lambda self, now: open_now)
    heard = hear(monkeypatch)
    monkeypatch.setattr(model, "SWITCH_WAIT_SECONDS", 0.3)
    monkeypatch.setattr(lock, "LOOK_SECONDS", 0.1)
    site.stacks.stop("day", "open-webui")
    desired_state.write(site.state, wanted)
    with lock.hold(site.state, lock.SWITCH, "an export that hangs"):
        for verb in (morning_that_is_locked_out, reconcile.reconcile):
            verb(site)
            assert heard == told
        heard.clear()
        (site.state / "alarm.json").unlink(missing_ok=True)
        reconcile.reconcile(site)
    assert heard == told


def test_a_short_running_command_is_not_notified(
    site: StandInSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(site)
    monkeypatch.setattr(hours.Hours, "is_open", lambda *_: True)
    monkeypatch.setattr(notify, "tell", lambda *_, **__: pytest.fail("told"))
    site.stacks.stop("day", "vllm")
    with lock.hold(site.state, lock.SWITCH, "a restart"):
        assert "another command is running" in reconcile.reconcile(site)["why"]


# ---------------------------------------------------------------------- clocks and locks


def test_night_names_are_unique_within_a_second_and_after_a_clock_change(
    site: StandInSite,
) -> None:
    names = set()
    for _ in range(3):
        name = backup.free_name(site.state / "nights")
        (site.state / "nights" / name).mkdir()
        names.add(name)
    assert len(names) == 3


def test_a_clock_jump_does_not_make_a_trainer_count_as_silent(
    site: StandInSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(site)
    real, jumps = time.time, iter([0.0] * 20)
    monkeypatch.setattr(time, "time", lambda: real() + next(jumps, 7200.0))
    assert night.run(site)["outcome"] == "promoted"


HOLDER_WITH_A_CHILD = """
import subprocess, sys
from pathlib import Path
from glue.core import lock
with lock.hold(Path(sys.argv[1]), lock.TRAINING, "a night"):
    child = subprocess.Popen(["sleep", "60"])
    print(child.pid, flush=True); sys.stdin.read()
"""


def test_a_child_process_does_not_inherit_a_lock(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLDER_WITH_A_CHILD, str(tmp_path)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout
        child = int(holder.stdout.readline())
        holder.kill()
        holder.wait()
    try:
        os.kill(child, 0)
        assert not lock.held(tmp_path, lock.TRAINING)
    finally:
        os.kill(child, signal.SIGKILL)


def test_checking_a_lock_does_not_block_another_holder(tmp_path: Path) -> None:
    with lock.hold(tmp_path, lock.TRAINING, "made"):
        pass
    with (tmp_path / lock.TRAINING).open() as looked_at:
        fcntl.flock(looked_at, fcntl.LOCK_SH)
        threading.Timer(0.3, looked_at.close).start()
        with lock.hold(tmp_path, lock.TRAINING, "a night"):
            pass


def test_the_watch_after_a_night_starts_the_day_that_the_night_could_not(
    site: StandInSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = begin(site)
    monkeypatch.setattr(train, "SILENT_TRAINER_SECONDS", 0.3)
    with site.ledger.change() as world:
        world["trainer"], world["never_up"] = "hangs", True
    with pytest.raises(DayNotServing):
        night.run(site)
    for name in services.DAY_SERVICES:
        site.stacks.stop("day", name)
    with site.ledger.change() as world:
        world["never_up"] = False
    assert reconcile.reconcile(site)["step"] == Step.DAY
    require_a_good_day(site)
    assert site.store.current() == good


def test_recovery_is_notified_only_after_a_complete_day(
    site: StandInSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The containers are healthy all the time; setting up the assistant in Open WebUI fails."""
    begin(site)
    told = hear(monkeypatch)

    def refuses(*_: object, **__: object) -> None:
        raise GlueError("Open WebUI refused", "401", "make logs SERVICE=open-webui")

    with monkeypatch.context() as patch:
        patch.setattr(stand_ins.StandInWebUI, "ensure_assistant", refuses)
        with pytest.raises(DayNotServing), notify.watching(site, "day"):
            day.start(site)
        with pytest.raises(DayNotServing), notify.watching(site, "reconcile") as result:
            result |= reconcile.reconcile(site)
        assert told == [notify.NOT_SERVING]
        assert "later" in reconcile.reconcile(site)["why"], "ever more rarely"
    (site.state / day.ATTEMPTS).unlink()
    for _ in range(2):
        with notify.watching(site, "reconcile") as result:
            result |= reconcile.reconcile(site)
    assert told == [notify.NOT_SERVING, "day serves again"]


def test_a_docker_connection_error_is_exit_12(
    site: StandInSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    day.start(site)

    def broken(*_: object) -> None:
        raise ConnectionResetError("Connection reset by peer")

    monkeypatch.setattr(stand_ins.StandInStacks, "up", broken)
    with pytest.raises(DayNotServing, match="start of the day failed"):
        day.start(site)


# ---------------------------------------------------------------------- a restore that dies


def prepare_restore(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skips what needs Docker and a real backup; order of steps, locks and files are restore's
    own."""
    made = {"made": "20260101T000000Z", "links": {}, "images": {}, "sha256": {}}
    monkeypatch.setattr(backup, "verified", lambda folder: made)
    monkeypatch.setattr(stand_ins.StandInStacks, "missing_images", lambda *_: [])
    monkeypatch.setattr(
        stand_ins.StandInStacks, "compose", lambda self, stack, verb: self.stop(stack, "open-webui")
    )
    for name in ("refuse_downgrade", "put_back_settings", "put_back_state"):
        monkeypatch.setattr(restore, name, lambda *_: "")
    monkeypatch.setattr(setup, "ensure_state", lambda *_: None)
    monkeypatch.setattr(chat_volume, "is_empty", lambda settings: True)
    monkeypatch.setattr(chat_volume, "fill", lambda settings, folder, checksums: None)


@pytest.mark.parametrize(("module", "step"), [(chat_volume, "fill"), (restore, "put_back_state")])
def test_after_an_interrupted_restore_no_day_or_backup_starts_until_it_is_repeated(
    module: ModuleType, step: str, site: StandInSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(site)
    prepare_restore(monkeypatch)
    with monkeypatch.context() as death:
        death.setattr(module, step, lambda *_: os._exit(9))
        assert (
            os.waitstatus_to_exitcode(
                in_a_child(lambda: restore.restore(site, Path("/backups/one"), True))
            )
            == 9
        )
    for verb in (
        lambda: day.start(site),
        lambda: chat_volume.copy_out(site.settings, site.state / "copy"),
    ):
        with pytest.raises(DayNotServing, match="restore was interrupted") as error:
            verb()
        assert "FROM=/backups/one" in error.value.do
    assert not site.stacks.services("day")["open-webui"].serves
    monkeypatch.setattr(chat_volume, "is_empty", lambda settings: False)
    restore.restore(site, Path("/backups/one"))
    day.start(site)
    require_a_good_day(site)


def test_promotion_and_rollback_need_no_trainer_image(
    site: StandInSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = begin(site)
    night.run(site)
    newer = site.store.current()

    def no_image(*_: object) -> dict[str, object]:
        raise GlueError("no such image", "the stand-in has none", "make setup")

    monkeypatch.setattr(jobs, "run", no_image)
    assert adapters.rollback(site) == good != newer
    assert adapters.promote(site, newer, "adapter") == newer
