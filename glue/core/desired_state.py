"""Whose turn it is: state/turn.json, the mode that is wanted. Written under the lock for moves, so
its holder may act on it.

A night that lost its turn may finish nothing: it starts no trainer, brings up no day of its own and
promotes nothing.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

from glue.core import files
from glue.core.errors import DayNotServing, GlueError


class Wanted(StrEnum):
    DAY = "day"
    NIGHT = "night"
    JUDGING = "judging"  # the day serves, and a night judges its adapter beside it
    DOWN = "down"


@dataclass(frozen=True)
class Turn:
    """What is wanted, and by which night. until_time: from when the day goes first, as a Unix
    time."""

    wanted: Wanted
    night: str = ""
    until_time: float = 0.0


class Preempted(GlueError):
    """The day, or a person, went first."""


def read(state: Path) -> Turn | None:
    """None where nothing was ever wanted, and where the file cannot be read: then nobody's turn is
    taken away by mistake."""
    try:
        found = files.read_json_if_whole(state / "turn.json", {})
        return Turn(Wanted(found["wanted"]), str(found["night"]), float(found["until_time"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def late(state: Path) -> bool:
    """Whether a night still has its turn at a time when the day goes first: people may be at work
    by now."""
    found = read(state)
    return found is not None and bool(found.night) and time.time() > found.until_time


def take(state: Path, turn: Turn) -> None:
    """Under the lock for moves. On a full disk too; a day even where that fails: without the file,
    and not watched."""
    if read(state) == turn:
        return
    try:
        files.write_json(state / "turn.json", asdict(turn))
    except OSError:
        overwrite(state, turn)


def overwrite(state: Path, turn: Turn) -> None:
    try:
        files.overwrite_json(state / "turn.json", asdict(turn))
    except OSError:
        if turn.wanted is not Wanted.DAY:
            raise
        (state / "turn.json").unlink(missing_ok=True)


def begin(state: Path, turn: Turn, again: str) -> None:
    """Under the lock for moves: takes it. Raises Preempted where a person stopped everything
    meanwhile; again: what to type."""
    found = read(state)
    if found is not None and found.wanted is Wanted.DOWN:
        raise Preempted(f"{turn.night} was broken off", "everything was stopped meanwhile", again)
    take(state, turn)


def require(state: Path, night: str) -> Turn:
    """Under the lock for moves. Raises Preempted unless it is still this night's turn."""
    found = read(state)
    if found is None or found.night != night:
        saw = f"it is the turn of: {found.wanted if found else 'nobody'}"
        raise Preempted(
            "the night lost its turn, and promotes nothing",
            saw,
            "nothing; the next night begins anew",
        )
    return found


RESTORING = "restore.unfinished"  # no backup takes in a name like this


def half_filled(state: Path) -> str:
    """The backup whose restore has begun and has not ended; empty if there is none."""
    path = state / RESTORING
    return (
        path.read_text(encoding="utf-8", errors="replace").strip() or "<the backup>"
        if path.exists()
        else ""
    )


def require_whole(state: Path) -> None:
    """Raises DayNotServing while a restore has begun and not ended: Open WebUI would make a new
    chat where one is missing."""
    if folder := half_filled(state):
        do = f"make restore REPLACE=1 FROM={folder}, then make day"
        raise DayNotServing(
            "a restore was broken off, and the chat is not whole", f"{state / RESTORING}", do
        )
