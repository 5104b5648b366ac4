"""The record of events, one JSON line each: state/journal.jsonl."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from glue.core import files, redact

NEW_CHAT = "new chat"  # a person asked for an empty chat in place of a lost one
# a person asked for backups in a folder that has none, or of a chat with less data
NEW_BACKUPS = "new backups"
DROPPED = "dropped"  # the adapter that served was made for another model, or has no checkpoint left
CONFIRMED = "confirmed"  # the night's adapter answered the smoke question
Row = dict[str, Any]


def rows(state: Path) -> list[Row]:
    return files.read_lines(state / "journal.jsonl")


def record(state: Path, **event: Any) -> None:
    hidden = {
        key: redact.urls(value) if isinstance(value, str) else value for key, value in event.items()
    }
    moment = datetime.now().astimezone().isoformat(timespec="seconds")
    files.append_line(state / "journal.jsonl", {"time": moment, **hidden})


def note(state: Path, **event: Any) -> None:
    """As record, but ignores a full disk."""
    with suppress(OSError):
        record(state, **event)


@contextmanager
def step(state: Path, night: str, name: str) -> Iterator[None]:
    """Records the begin and end of a step. A step without an end has died."""
    record(state, night=night, step=name, phase="begin")
    try:
        yield
    except BaseException as error:
        reason = f"{type(error).__name__}: {error}"
        record(state, night=night, step=name, phase="failed", reason=reason)
        raise
    record(state, night=night, step=name, phase="done")


def unfinished(state: Path) -> dict[str, str]:
    """Each night that has no end in the journal, and the last step that it began."""
    steps: dict[str, str] = {}
    for row in rows(state):
        if "outcome" in row:
            steps.pop(row.get("night", ""), None)
        elif "step" in row and "night" in row:
            steps[row["night"]] = row["step"]
    return steps


def is_confirmed(state: Path, night: str) -> bool:
    """Whether its adapter answered the smoke question, after which earlier versions reported."""
    return any(
        row.get("night") == night and (row.get("event") == CONFIRMED or row.get("step") == "report")
        for row in rows(state)
    )


def last(state: Path, **wanted: Any) -> Row | None:
    """The newest line with these values; ... stands for any value."""
    return last_of(rows(state), **wanted)


def dropped(found: list[Row]) -> str:
    """Why the base model serves in place of an adapter; empty if an adapter or it was promoted
    since."""
    row = next((row for row in reversed(found) if row.get("event") in (DROPPED, "serve")), {})
    return f"in place of {row['adapter']}: {row['reason']}" if row.get("event") == DROPPED else ""


def last_of(found: list[Row], **wanted: Any) -> Row | None:
    def fits(row: Row) -> bool:
        return all(key in row and value in (..., row[key]) for key, value in wanted.items())

    return next((row for row in reversed(found) if fits(row)), None)


def day_failed(state: Path) -> str:
    """Why the last start of the day failed; empty if it did not, or there was none."""
    row = last(state, event="day", phase=...) or {"phase": "done"}
    return "" if row["phase"] == "done" else str(row.get("reason") or "interrupted")


def last_night(state: Path) -> Row | None:
    """The newest line that says how a night ended."""
    return last(state, night=..., outcome=...)


def since(found: list[Row], event: str) -> list[Row]:
    """The rows after the last such event; all where there was none."""
    numbers = [number for number, row in enumerate(found) if row.get("event") == event]
    return found[numbers[-1] + 1 :] if numbers else found


def chat_is_new(state: Path) -> bool:
    """Whether a person began an empty chat since the last backup."""
    found = rows(state)
    made = last_backup(found)
    return last_of(found[found.index(made) :] if made else found, event=NEW_CHAT) is not None


def last_backup(found: list[Row]) -> Row | None:
    """The newest row of a backup that was made."""
    return last_of(found, event="backup", result="done")
