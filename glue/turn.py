"""Whose turn it is: state/turn.json, the mode that is wanted. Written under the lock for moves, so its holder may act on it.

A night that lost its turn may finish nothing: it starts no trainer, brings up no day of its own and promotes nothing.
"""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path

from glue import files
from glue.plan import Turn, Wanted
from glue.types import GlueError


class Preempted(GlueError):
    """The day, or a person, went first."""


def read(state: Path) -> Turn | None:
    """None where nothing was ever wanted, and where the file cannot be read: then nobody's turn is taken away by mistake."""
    try:
        found = files.read_json_if_whole(state / "turn.json", {})
        return Turn(Wanted(found["wanted"]), str(found["night"]), float(found["until_time"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def late(state: Path) -> bool:
    """Whether a night still has its turn at a time when the day goes first: people may be at work by now."""
    found = read(state)
    return found is not None and bool(found.night) and time.time() > found.until_time


def take(state: Path, turn: Turn) -> None:
    """Under the lock for moves. On a full disk too; a day even where that fails: without the file, and not watched."""
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
    """Under the lock for moves: takes it. Raises Preempted where a person stopped everything meanwhile; again: what to type."""
    found = read(state)
    if found is not None and found.wanted is Wanted.DOWN:
        raise Preempted(f"{turn.night} was broken off", "everything was stopped meanwhile", again)
    take(state, turn)


def require(state: Path, night: str) -> Turn:
    """Under the lock for moves. Raises Preempted unless it is still this night's turn."""
    found = read(state)
    if found is None or found.night != night:
        saw = f"it is the turn of: {found.wanted if found else 'nobody'}"
        raise Preempted("the night lost its turn, and promotes nothing", saw, "nothing; the next night begins anew")
    return found
