"""kill -9 of glue before every single change of a night, then `make day`: the right adapter must
serve each time.

A first night counts the changes: each file that is written, renamed or removed, and each call of a
stand-in. Then one night dies at each of them.
"""

import contextlib
import errno
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from glue.core import desired_state, files, journal, lock, services
from glue.core.desired_state import DesiredState, Wanted
from glue.core.errors import GlueError
from glue.core.names import ADAPTER, BASE
from glue.night import night, train
from glue.serving import day, reconcile
from tests.faults import stand_ins
from tests.faults.stand_ins import StandInSite

CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.symlink")


def before_each_change(
    folder: Path, act: Callable[[int, str], None], events: tuple[str, ...] = CHANGES
) -> None:
    """Until the process ends, calls act with the number of each change in folder and its path."""
    count = 0

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal count
        writes = (
            event == "open"
            and isinstance(arguments[2], int)
            and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        )
        if (event in events or writes) and str(arguments[0]).startswith(str(folder)):
            count += 1
            act(count, str(arguments[0]))

    sys.addaudithook(hook)


def in_a_child(act: Callable[[], object]) -> int:
    """Runs it in its own process. Returns its wait status."""
    child = os.fork()
    if child == 0:
        try:
            act()
        except BaseException as error:
            print(repr(error), file=sys.stderr)
            os._exit(1)
        os._exit(0)
    return os.waitpid(child, 0)[1]


def night_that_dies(site: StandInSite, last: int) -> bool:
    """Whether it died; False if it had fewer changes than that and ended well."""

    def act() -> None:
        before_each_change(
            site.state.parent, lambda count, path: stand_ins.die() if count == last else None
        )
        night.run(site)

    status = in_a_child(act)
    assert status in (0, 9), "the night failed, and did not die"
    return status == 9


def begin(site: StandInSite) -> str:
    """A day that serves the adapter of an earlier, good night."""
    day.start(site)
    return str(night.run(site)["adapter"])


def require_a_good_day(site: StandInSite) -> None:
    """The day serves the right adapter in vLLM and in the assistant, no adapter is incomplete,
    and no lock is held."""
    world, current = site.ledger.read(), site.store.current()
    assert (
        not services.not_serving(site.stacks.services("day")) and "trainer" not in world["services"]
    )
    assert world["assistant"] == (ADAPTER if current else BASE)
    assert world["loaded"].get(ADAPTER) == (f"/adapters/{current}" if current else None)
    for name in site.store.names():
        site.store.verify(name)
    assert site.store.served()[-1] == current
    assert not (site.store.folder / "judging").exists()
    assert not lock.held(site.state, lock.TRAINING) and not lock.held(site.state, lock.SWITCH)
    assert desired_state.read(site.state) in (
        DesiredState(Wanted.DAY),
        None,
    )  # None: a full disk had no room for it


def confirmed(site: StandInSite, adapter: str) -> bool:
    """Whether the journal has an answer to the smoke question for this adapter."""
    name = site.store.manifest(adapter)["night"]
    rows = [
        row for row in files.read_lines(site.state / "journal.jsonl") if row.get("night") == name
    ]
    return any(row.get("event") == journal.CONFIRMED for row in rows)


def test_after_a_kill_at_any_moment_the_day_serves_a_confirmed_adapter(
    site: StandInSite,
) -> None:
    good = begin(site)
    points, died_in = 0, set()
    while True:
        before = site.store.current()
        if not night_that_dies(site, points + 1):
            break
        points += 1
        died_in |= set(journal.unfinished(site.state).values())
        day.start(site)
        require_a_good_day(site)
        current = site.store.current()
        assert current == before or confirmed(site, str(current)), f"point {points}"
    assert good in site.store.names()
    assert not list((site.state / "nights").glob("*/reserve")), (
        "room that a dead night had reserved"
    )
    assert points > 60, f"only {points} points: the hook hears too little"
    assert died_in == night.STEPS.keys(), "a step without a kill"
    ends = {
        row["outcome"] for row in files.read_lines(site.state / "journal.jsonl") if "outcome" in row
    }
    assert ends == {"promoted", "died"}
    print(json.dumps({"points": points}))


@pytest.mark.parametrize("step", night.STEPS)
@pytest.mark.parametrize("victim", ["trainer", "vllm", "open-webui", "dockerd"])
def test_after_another_process_dies_in_any_step_the_day_serves_a_confirmed_adapter(
    victim: str, step: str, site: StandInSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only glue restarts the stand-in, as with Docker; a trainer dies as soon as it exists."""
    before, write = begin(site), journal.record

    def record(state: Path, **event: Any) -> None:
        write(state, **event)
        if event.get("step") == step and event.get("phase") == "begin":
            stand_ins.die_for(site.ledger, victim)

    monkeypatch.setattr(journal, "record", record)
    with contextlib.suppress(
        GlueError, OSError
    ):  # how a night ends that lost a part of it is told elsewhere
        night.run(site)
    monkeypatch.setattr(journal, "record", write)
    with site.ledger.change() as world:
        world["docker_is_dead"], world["trainer"] = False, "trains"
    day.start(site)
    require_a_good_day(site)
    current = site.store.current()
    assert current == before or confirmed(site, str(current))
    assert night.run(site)["outcome"] == "promoted", "the next night is none the worse"


EVERYTHING = ("os.mkdir", "os.symlink")
BLOCKS = (
    "os.mkdir",
)  # a symlink is in its inode, and a line of the journal in its last block: they still fit


def fill_the_disk(
    site: StandInSite, from_change: int = 0, without_room: tuple[str, ...] = EVERYTHING
) -> None:
    """Until the process ends; a file "full" beside the state folder says so."""
    fits = (".lock",) if without_room == EVERYTHING else (".lock", "journal.jsonl")

    def no_room(count: int, path: str) -> None:
        if count >= from_change and not path.endswith(fits):
            os.close(os.open(site.state.parent / "full", os.O_CREAT))
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)

    before_each_change(site.state, no_room, without_room)


def night_on_a_disk_that_is_full(
    site: StandInSite, from_change: int, without_room: tuple[str, ...]
) -> bool:
    """Whether the disk was full before the night's end. It stays full while the night brings
    back the day."""

    def act() -> None:
        fill_the_disk(site, from_change, without_room)
        night.run(site)

    full = site.state.parent / "full"
    full.unlink(missing_ok=True)
    in_a_child(act)
    return full.exists()


@pytest.mark.parametrize("without_room", [EVERYTHING, BLOCKS])
def test_with_a_disk_full_at_any_moment_of_a_night_the_day_serves_a_confirmed_adapter(
    site: StandInSite, without_room: tuple[str, ...]
) -> None:
    serves: str | None = begin(site)
    points = 0
    while night_on_a_disk_that_is_full(site, points + 1, without_room):
        points += 1
        require_a_good_day(site)
        before, serves = serves, site.store.current()
        assert serves == before or confirmed(site, str(serves)), f"point {points}"
        for earlier in {None, *site.store.before()} - {None}:
            assert confirmed(site, str(earlier)), f"point {points}: a rollback would go forward"
    assert points > 40, f"only {points} points: the hook hears too little"


def test_on_a_full_disk_the_watch_and_the_timer_start_the_day(
    site: StandInSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = begin(site)
    with site.ledger.change() as world:
        world["trainer"] = "hangs"

    def die_in_training() -> None:
        monkeypatch.setattr(train, "wait_for_trainer", lambda tonight: os._exit(9))
        night.run(site)

    def on_a_full_disk(verb: Callable[[StandInSite], object]) -> Callable[[], None]:
        def act() -> None:
            fill_the_disk(site)
            verb(site)

        return act

    in_a_child(die_in_training)
    for verb in (reconcile.reconcile, day.start):
        site.stacks.stop("day", "vllm")
        assert in_a_child(on_a_full_disk(verb)) == 0
        require_a_good_day(site)
        desired_state.write(
            site.state, DesiredState(Wanted.DAY)
        )  # so that there is something to watch again
    assert site.store.current() == good
