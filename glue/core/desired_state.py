"""The desired state of the machine: day, night, judging or down, in state/turn.json.

It is written under the lock for switches. A night that is no longer the desired state starts no
trainer and no day, and promotes nothing.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

from glue.core import files
from glue.core.errors import DayNotServing, GlueError

# not renamed: a timer of the version before or after an upgrade reads the same file
FILE = "turn.json"
RESTORING = "restore.unfinished"  # no backup includes a file of this name


class Wanted(StrEnum):
    DAY = "day"
    NIGHT = "night"
    JUDGING = "judging"  # the day serves, and a night judges beside it; with NIGHT=beside all night
    DOWN = "down"


@dataclass(frozen=True)
class DesiredState:
    """until_time: a Unix time from which the day takes precedence over the night."""

    wanted: Wanted
    night: str = ""
    until_time: float = 0.0


class Preempted(GlueError):
    """The day or a person took precedence."""


def read(state: Path) -> DesiredState | None:
    """None where nothing was set yet, or the file cannot be read."""
    try:
        found = files.read_json_if_whole(state / FILE, {})
        return DesiredState(
            Wanted(found["wanted"]), str(found["night"]), float(found["until_time"])
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def night_is_late(state: Path) -> bool:
    """Whether a night goes on past its until_time: people may be at work."""
    found = read(state)
    return found is not None and bool(found.night) and time.time() > found.until_time


def write(state: Path, desired: DesiredState) -> None:
    """Under the lock for switches. A full disk does not keep the day from starting: where nothing
    can be written, the file is removed."""
    if read(state) == desired:
        return
    with suppress(OSError):
        return files.write_json(state / FILE, asdict(desired))
    try:
        files.overwrite_json(state / FILE, asdict(desired))
    except OSError:
        if desired.wanted is not Wanted.DAY:
            raise
        (state / FILE).unlink(missing_ok=True)


def begin(state: Path, desired: DesiredState, again: str) -> None:
    """As write, but raises Preempted if a person stopped everything. again: what to run later."""
    require_not_stopped(state, desired.night, again)
    write(state, desired)


def require_not_stopped(state: Path, night: str, again: str) -> None:
    found = read(state)
    if found is not None and found.wanted is Wanted.DOWN:
        raise Preempted(f"{night} does not go on", "make stop was run since", again)


def require(state: Path, night: str) -> DesiredState:
    """Under the lock for switches. Raises Preempted unless the desired state is this night's."""
    found = read(state)
    if found is None or found.night != night:
        saw = f"the desired state is now: {found.wanted if found else 'not set'}"
        do = "no action needed; the next night trains again"
        raise Preempted("the night was preempted and promotes nothing", saw, do)
    return found


def unfinished_restore(state: Path) -> str:
    """The backup whose restore started and did not finish; empty if there is none."""
    path = state / RESTORING
    if not path.exists():
        return ""
    return path.read_text(encoding="utf-8", errors="replace").strip() or "<the backup>"


def require_no_unfinished_restore(state: Path) -> None:
    """Raises DayNotServing: Open WebUI would create a new chat where one is missing."""
    if folder := unfinished_restore(state):
        what = "a restore was interrupted, and the chat's data is incomplete"
        do = f"make restore REPLACE=1 FROM={folder}, then make day"
        raise DayNotServing(what, str(state / RESTORING), do)
