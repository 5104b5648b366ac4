"""What becomes of Docker's own faults, without Docker."""

import os
import time
from contextlib import suppress
from pathlib import Path

import pytest

from glue import commands, settings, waiting
from glue.stacks import Stacks
from glue.types import GlueError
from glue.waiting import Seen


def test_a_compose_that_never_ends_is_an_error_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for a Docker that hangs."""
    stacks = Stacks.__new__(Stacks)
    stacks.settings = settings.load("rehearsal")
    monkeypatch.setattr(stacks, "compose_command", lambda *_: ["sleep", "60"])
    with pytest.raises(GlueError, match="docker compose up hangs"):
        stacks.compose("day", "up", timeout_seconds=0.1)


STUBBORN = {
    "a child that ignores SIGTERM": "trap '' TERM; echo begun; while :; do sleep 30; done",
    "a grandchild that holds the pipe": "sleep 30 & echo begun; wait",
    "a grandchild that outlives its parent": "sleep 30 & echo begun",
    "a stranger that holds the pipe": "setsid sleep 12 & echo begun; wait",
    "output without an end": "yes begun",
    "output that it closed": "echo begun; exec >&- 2>&-; sleep 30",
}


@pytest.mark.parametrize("script", STUBBORN.values(), ids=STUBBORN.keys())
def test_a_deadline_is_one_whatever_the_program_does(script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "END_SECONDS", 0.5)
    began = time.monotonic()
    _, last_lines = commands.stream(["bash", "-c", script], dict(os.environ), lambda line: None, 1.0)
    assert time.monotonic() - began < 5 and last_lines.startswith("begun")


def test_who_hears_may_break_off_and_nothing_of_the_program_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "END_SECONDS", 0.5)
    heard: list[str] = []

    def break_off(line: str) -> None:
        heard.append(line)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        commands.stream(["bash", "-c", "trap '' TERM; echo $$; while :; do sleep 1; done"], dict(os.environ), break_off, 60)
    group = heard[0]
    waiting.until("the end of all of it", lambda: Seen(not living(group), f"{living(group)} live"), 10, 0.05)


def living(group: str) -> list[str]:
    """Processes of the group that are more than an entry which nobody has collected yet; see proc(5), stat."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it ended meanwhile
            state, _, of_group = path.read_text(encoding="utf-8").rpartition(")")[2].split()[:3]
            found += [path.parent.name] if of_group == group and state not in "ZX" else []
    return found
