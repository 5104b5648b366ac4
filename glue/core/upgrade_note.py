"""Whether an upgrade runs, and whether one died half-way. Every command checks this."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from glue.core import files, lock
from glue.core.errors import Locked, PreconditionFailed

NOTE = "upgrade.json"  # exists from before an upgrade's first change to after its last


def require_none(state: Path) -> None:
    """Raises Locked while an upgrade runs, PreconditionFailed after one that died."""
    if lock.held(state, lock.UPGRADE):
        raise Locked("an upgrade runs", lock.holder(state, lock.UPGRADE), lock.WAIT)
    require_none_died(state)


def require_none_died(state: Path) -> None:
    """Raises PreconditionFailed after an upgrade that died: files may be half of each version."""
    note, saw = read(state), died(state)
    if saw and not came_up(state, note):
        do = f"make upgrade TO={note['before'][:12]}, to go back"
        raise PreconditionFailed("an upgrade did not finish", saw, do)


def died(state: Path) -> str:
    """In words, an upgrade that died; empty where there is none."""
    note = read(state)
    if not note or lock.held(state, lock.UPGRADE):
        return ""
    before, after = note["before"][:12], note["after"][:12]
    if came_up(state, note):
        return f"the upgrade to {after} died once it served: make upgrade TO={after} finishes it"
    return f"the upgrade from {before} to {after} died: make upgrade TO={before} goes back"


def read(state: Path) -> Mapping[str, Any]:
    """Empty where there is none, or none that can be read."""
    note = files.read_json_if_whole(state / NOTE, {})
    readable = all(isinstance(note.get(key), str) for key in ("before", "after"))
    return note if readable else {}


def came_up(state: Path, note: Mapping[str, Any]) -> bool:
    """Whether people may have chatted on the new version, and going back had not begun."""
    return not note.get("undoing") and "done" in days_since(state, note["after"])


def days_since(state: Path, after: str) -> list[str]:
    """What became of the days since that version was checked out: "begin", "failed", "done"."""
    days: list[str] = []
    begun = False
    for row in files.read_lines(state / "journal.jsonl"):
        if row.get("event") == "upgrade" and row.get("after") == after:
            begun, days = True, []
        elif begun and row.get("event") == "day":
            days.append(str(row.get("phase")))
    return days
