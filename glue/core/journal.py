"""What happened, a line at a time, before and after: state/journal.jsonl."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from glue.core import files, redact

NEW_CHAT = "new chat"  # a person wanted an empty one in place of one that was lost
NEW_BACKUPS = (  # a person wanted them in a folder that has none, or of a chat that has less in it
    "new backups"
)
Row = dict[str, Any]


def record(state: Path, **event: Any) -> None:
    event = {
        key: redact.urls(value) if isinstance(value, str) else value for key, value in event.items()
    }
    files.append_line(
        state / "journal.jsonl",
        {"time": datetime.now().astimezone().isoformat(timespec="seconds"), **event},
    )


def note(state: Path, **event: Any) -> None:
    """A line that is worth less than what it tells of: a full disk does not keep the day from
    coming up."""
    with suppress(OSError):
        record(state, **event)


@contextmanager
def step(state: Path, night: str, name: str) -> Iterator[None]:
    """A begun step that has no end in the journal is one that died."""
    record(state, night=night, step=name, phase="begin")
    try:
        yield
    except BaseException as error:
        record(
            state, night=night, step=name, phase="failed", reason=f"{type(error).__name__}: {error}"
        )
        raise
    record(state, night=night, step=name, phase="done")


def unfinished(state: Path) -> dict[str, str]:
    """Each night that began and has no end in the journal, and the last step that it began."""
    steps: dict[str, str] = {}
    for row in files.read_lines(state / "journal.jsonl"):
        if "outcome" in row:
            steps.pop(row.get("night", ""), None)
        elif "step" in row and "night" in row:
            steps[row["night"]] = row["step"]
    return steps


def day_failed(state: Path) -> str:
    """Why the day did not come up whole when that was last tried; empty if it did, or was never
    tried."""
    tries = (
        row
        for row in reversed(files.read_lines(state / "journal.jsonl"))
        if row.get("event") == "day" and "phase" in row
    )
    last = next(tries, {"phase": "done"})
    return "" if last["phase"] == "done" else str(last.get("reason") or "it broke off")


def last_night(state: Path) -> dict[str, Any] | None:
    """The newest line that says how a night ended, or None."""
    ends = (
        row
        for row in reversed(files.read_lines(state / "journal.jsonl"))
        if "outcome" in row and "night" in row
    )
    return next(ends, None)


def since(rows: list[Row], event: str) -> list[Row]:
    """The rows after the last such event; all where there was none."""
    found = [number for number, row in enumerate(rows) if row.get("event") == event]
    return rows[found[-1] + 1 :] if found else rows


def chat_is_new(state: Path) -> bool:
    """Whether a person began an empty chat since the last backup was made."""
    rows = files.read_lines(state / "journal.jsonl")
    made = last_backup(rows)
    return any(row.get("event") == NEW_CHAT for row in (rows[rows.index(made) :] if made else rows))


def last_backup(rows: list[Row]) -> Row | None:
    """The newest row of a backup that was made, or None."""
    return next(
        (
            row
            for row in reversed(rows)
            if row.get("event") == "backup" and row.get("result") == "done"
        ),
        None,
    )
