"""kill -9 of glue before every single thing that a night changes, then the morning: every time the day serves what it should.

A night is run once to count what it changes: each file that it writes, renames or removes, and each thing it asks of a
stand-in. Then one night for each of these dies there.
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

from glue import day, files, journal, lock, night, plan, turn
from glue.plan import Turn, Wanted
from glue.types import GlueError
from glue.vllm import ADAPTER, BASE
from tests.faults import stand_ins
from tests.faults.stand_ins import StandInSite

CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.symlink")


def before_each_change(folder: Path, act: Callable[[int, str], None], events: tuple[str, ...] = CHANGES) -> None:
    """From now on, and to the end of this process: act gets the number of each change in folder, and its path."""
    count = 0

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal count
        writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if (event in events or writes) and str(arguments[0]).startswith(str(folder)):
            count += 1
            act(count, str(arguments[0]))

    sys.addaudithook(hook)


def in_a_child(act: Callable[[], None]) -> int:
    """Runs it in a process of its own. Returns its wait status."""
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
        before_each_change(site.state.parent, lambda count, path: stand_ins.die() if count == last else None)
        night.run(site)

    status = in_a_child(act)
    assert status in (0, 9), "the night failed, and did not die"
    return status == 9


def begin(site: StandInSite) -> str:
    """A day that serves on the adapter of an earlier, good night."""
    day.ensure(site)
    return str(night.run(site)["adapter"])


def require_a_good_day(site: StandInSite) -> None:
    """Day serves with the right adapter in vLLM and behind the assistant; nothing is half; no lock is held."""
    world, current = site.ledger.read(), site.releases.current()
    assert not plan.not_serving(site.stacks.services("day")) and "trainer" not in world["services"]
    assert world["assistant"] == (ADAPTER if current else BASE)
    assert world["loaded"].get(ADAPTER) == (f"/adapters/{current}" if current else None)
    for name in site.releases.names():
        site.releases.verify(name)
    assert site.releases.served()[-1] == current
    assert not (site.releases.folder / "judging").exists()
    assert not lock.held(site.state, lock.NIGHT) and not lock.held(site.state, lock.MOVE)
    assert turn.read(site.state) in (Turn(Wanted.DAY), None)  # None: a full disk had no room for it


def confirmed(site: StandInSite, adapter: str) -> bool:
    """Whether the journal says that the adapter's night asked its question through the front and got its answer."""
    name = site.releases.manifest(adapter)["night"]
    rows = [row for row in files.read_lines(site.state / "journal.jsonl") if row.get("night") == name]
    return any(row.get("step") == "smoke" and row["phase"] == "done" for row in rows)


def test_whatever_moment_a_night_is_killed_at_the_morning_serves_a_confirmed_adapter(site: StandInSite) -> None:
    good = begin(site)
    points, died_in = 0, set()
    while True:
        before = site.releases.current()
        if not night_that_dies(site, points + 1):
            break
        points += 1
        died_in |= set(journal.unfinished(site.state).values())
        day.ensure(site)
        require_a_good_day(site)
        current = site.releases.current()
        assert current == before or confirmed(site, str(current)), f"point {points}"
    assert good in site.releases.names()
    assert not list((site.state / "nights").glob("*/reserve")), "room that a dead night had reserved"
    assert points > 60, f"only {points} points: the hook hears too little"
    assert died_in == night.STEPS.keys(), "a step that nobody died in"
    ends = {row["outcome"] for row in files.read_lines(site.state / "journal.jsonl") if "outcome" in row}
    assert ends == {"promoted", "died"}
    print(json.dumps({"points": points}))


@pytest.mark.parametrize("step", night.STEPS)
@pytest.mark.parametrize("victim", ["trainer", "vllm", "open-webui", "dockerd"])
def test_whoever_else_dies_in_whatever_step_the_morning_serves_a_confirmed_adapter(
    victim: str, step: str, site: StandInSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stand-in is not started again by anybody but glue, as Docker would; a trainer dies as soon as there is one."""
    before, write = begin(site), journal.record

    def record(state: Path, **event: Any) -> None:
        write(state, **event)
        if event.get("step") == step and event.get("phase") == "begin":
            stand_ins.die_for(site.ledger, victim)

    monkeypatch.setattr(journal, "record", record)
    with contextlib.suppress(GlueError, OSError):  # how a night ends that lost a part of it is told elsewhere
        night.run(site)
    monkeypatch.setattr(journal, "record", write)
    with site.ledger.change() as world:
        world["docker_is_dead"], world["trainer"] = False, "trains"
    day.ensure(site)
    require_a_good_day(site)
    current = site.releases.current()
    assert current == before or confirmed(site, str(current))
    assert night.run(site)["outcome"] == "promoted", "the next night is none the worse"


def night_on_a_disk_that_is_full(site: StandInSite, from_change: int) -> bool:
    """Whether the disk was full before the night's end; it stays full, also while the night brings back the day."""
    full = site.state.parent / "full"

    def act() -> None:
        def no_room(count: int, path: str) -> None:
            if count >= from_change and not path.endswith(".lock"):
                os.close(os.open(full, os.O_CREAT))
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)

        before_each_change(site.state, no_room, ("os.mkdir", "os.symlink"))
        night.run(site)

    full.unlink(missing_ok=True)
    in_a_child(act)
    return full.exists()


def test_a_disk_that_is_full_at_whatever_moment_of_a_night_leaves_the_day_serving(site: StandInSite) -> None:
    begin(site)
    points = 0
    while night_on_a_disk_that_is_full(site, points + 1):
        points += 1
        require_a_good_day(site)
    assert points > 40, f"only {points} points: the hook hears too little"
