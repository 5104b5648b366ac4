"""What should have happened and did not: silence is noticed. Pure: the journal and the clock in, words out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

Row = dict[str, Any]
WENT_WELL = ("promoted", "refused", "nothing new")


@dataclass(frozen=True)
class Limits:
    backup: timedelta
    night: timedelta


def overdue(rows: list[Row], now: datetime, limits: Limits) -> list[str]:
    """In words; empty where all is as it should be. What never happened is as old as the journal."""
    if not rows:
        return []
    found = []
    backups = [row for row in rows if row.get("event") == "backup"]
    if backups and backups[-1]["result"] == "failed":
        found.append(f"the last backup failed: {backups[-1]['reason']}")
    found += [f"the last backup: {words}" for words in (backups[-1].get("warnings", []) if backups else [])]
    found += undelivered(rows)
    found += late("good backup", rows, lambda row: row.get("event") == "backup" and row["result"] == "done", now, limits.backup)
    return found + late("good night", rows, lambda row: row.get("outcome") in WENT_WELL, now, limits.night)


def undelivered(rows: list[Row]) -> list[str]:
    """The ways by which the last message did not arrive."""
    last = {row["way"]: row for row in rows if row.get("event") == "message"}
    return [f"{way}: the last message did not arrive: {row['reason']}" for way, row in last.items() if row["result"] == "failed"]


def late(what: str, rows: list[Row], good: Callable[[Row], bool], now: datetime, limit: timedelta) -> list[str]:
    moments = [datetime.fromisoformat(row["time"]) for row in rows if good(row)]
    last = moments[-1] if moments else datetime.fromisoformat(rows[0]["time"])
    if now - last <= limit:
        return []
    hours = (now - last).total_seconds() / 3600
    return [f"{'the last' if moments else 'no'} {what} {'was' if moments else 'for'} {hours:.0f} h{' ago' if moments else ''}"]
