"""What is going on, in one look."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from glue.clients import chat_volume, knowledge
from glue.clients.site import Site
from glue.core import files, journal, lock
from glue.core import services as observed
from glue.core.services import Mode, Service
from glue.serving import last_night


def status(site: Site) -> dict[str, Any]:
    """mode, what serves, each service's state, and how the last night ended. Reads only."""
    services = site.stacks.services("day")
    trainer = site.stacks.trainer()
    mode = observed.mode(services, trainer)
    if lock.held(site.state, lock.MOVE) and mode is not Mode.NIGHT:
        mode = Mode.MOVING
    current = site.releases.current()
    lost = chat_volume.lost(site.settings, site.stacks)
    without_documents = knowledge.fault(services.get("open-webui"), site.administrator, site.state)
    rows = [row for row in files.read_lines(site.state / "journal.jsonl") if is_in_force(site, row)]
    limits = Limits(
        *(
            timedelta(hours=site.settings.number(f"{name}_OLDEST_HOURS"))
            for name in ("BACKUP", "NIGHT")
        )
    )
    return {
        "mode": mode.value,
        "profile": site.settings.profile,
        "url": site.settings.chat_url,
        "adapter": current,
        "serving": {Mode.DAY: current or "base model", Mode.NIGHT: "night desk"}.get(mode),
        "services": {name: shown(services[name]) for name in sorted(services)},
        "trainer": trainer.state if trainer else None,
        "night_running": lock.held(site.state, lock.NIGHT),
        "last_night": (last := journal.last_night(site.state)),
        # what the morning page says, in a few lines
        "morning": (
            last_night.summary(last_night.gather(site.state, last["night"])) if last else None
        ),
        "overdue": [
            *filter(None, (lost, without_documents)),
            *overdue(rows, datetime.now().astimezone(), limits),
        ],
    }


def is_in_force(site: Site, row: dict[str, Any]) -> bool:
    """False for a message by a way that the site has taken out of its settings: none will ever
    arrive that way."""
    return row.get("event") != "message" or bool(site.settings.values.get(row.get("way", "")))


def shown(service: Service) -> str:
    """Its health, and why it is not well."""
    return ": ".join(filter(None, (service.health or service.state, service.fault)))


Row = dict[str, Any]
WENT_WELL = ("promoted", "refused", "nothing new")


@dataclass(frozen=True)
class Limits:
    backup: timedelta
    night: timedelta


def overdue(rows: list[Row], now: datetime, limits: Limits) -> list[str]:
    """In words; empty where all is as it should be. What never happened is as old as the
    journal."""
    if not rows:
        return []
    found = []
    backups = [row for row in rows if row.get("event") == "backup"]
    if backups and backups[-1]["result"] == "failed":
        found.append(f"the last backup failed: {backups[-1]['reason']}")
    found += [
        f"the last backup: {words}"
        for words in (backups[-1].get("warnings", []) if backups else [])
    ]
    found += undelivered(rows)
    found += late(
        "good backup",
        rows,
        lambda row: row.get("event") == "backup" and row["result"] == "done",
        now,
        limits.backup,
    )
    return found + late(
        "good night", rows, lambda row: row.get("outcome") in WENT_WELL, now, limits.night
    )


def undelivered(rows: list[Row]) -> list[str]:
    """The ways by which the last message did not arrive."""
    last = {row["way"]: row for row in rows if row.get("event") == "message"}
    return [
        f"{way}: the last message did not arrive: {row['reason']}"
        for way, row in last.items()
        if row["result"] == "failed"
    ]


def late(
    what: str, rows: list[Row], good: Callable[[Row], bool], now: datetime, limit: timedelta
) -> list[str]:
    moments = [datetime.fromisoformat(row["time"]) for row in rows if good(row)]
    last = moments[-1] if moments else datetime.fromisoformat(rows[0]["time"])
    if now - last <= limit:
        return []
    hours = (now - last).total_seconds() / 3600
    return [
        f"{'the last' if moments else 'no'} {what} {'was' if moments else 'for'} {hours:.0f}"
        f" h{' ago' if moments else ''}"
    ]
