"""What make status shows."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from glue.clients import chat_volume, document_index, webui_accounts
from glue.clients.site import Site
from glue.core import files, journal, lock, names, services, upgrade_note
from glue.core.journal import Row
from glue.core.services import Mode, Service
from glue.core.settings import Settings
from glue.serving import last_night

WENT_WELL = ("promoted", "refused", "nothing new")


def status(site: Site) -> dict[str, Any]:
    """mode, what serves, services, how the last night ended, and what is overdue."""
    found, trainer = site.stacks.services("day"), site.stacks.trainer()
    mode = services.mode(found, trainer)
    if lock.held(site.state, lock.SWITCH) and mode is not Mode.NIGHT:
        mode = Mode.SWITCHING
    current = site.store.current()
    last = journal.last_night(site.state)
    lost = chat_volume.lost(site.settings, site.stacks)
    asked = (found.get("open-webui"), site.administrator, site.state)
    without_documents = document_index.fault(*asked)
    account = ": ".join(filter(None, webui_accounts.fault(*asked[:2])))
    # not a message by a way that is no longer set: no later one will arrive by it
    ways, rows = site.settings.values, journal.rows(site.state)
    rows = [row for row in rows if row.get("event") != "message" or ways.get(row.get("way", ""))]
    return {
        "mode": mode.value,
        "profile": site.settings.profile,
        "url": site.settings.chat_url,
        "adapter": current,
        "serving": {Mode.DAY: current or base_model(rows), Mode.NIGHT: "night desk"}.get(mode),
        "services": {name: shown(found[name]) for name in sorted(found)},
        "trainer": trainer.state if trainer else None,
        "night_running": lock.held(site.state, lock.TRAINING),
        "last_night": last,
        "morning": last_night.summary(last_night.read(site.state, last)) if last else None,
        "overdue": [
            *filter(None, (lost, account, without_documents, upgrade_note.died(site.state))),
            *notes_fault(site.state),
            *overdue(rows, datetime.now().astimezone(), *oldest_hours(site.settings)),
        ],
    }


def base_model(rows: list[Row]) -> str:
    return " ".join(filter(None, ("base model", journal.dropped(rows))))


def oldest_hours(settings: Settings) -> tuple[int, int]:
    """Of a backup and of a night; 0 where no nights are wanted, or its peers run them."""
    wanted = settings["NIGHT_DAYS"] and settings["ROLE"] != "train"
    nights = settings.number("NIGHT_OLDEST_HOURS") if wanted else 0
    return settings.number("BACKUP_OLDEST_HOURS"), nights


def notes_fault(state: Path) -> list[str]:
    error = files.read_json_if_whole(state / names.NOTES, {}).get("error")
    return [f"new corrections do not become notes: {error}"] if error else []


def shown(service: Service) -> str:
    return ": ".join(filter(None, (service.health or service.state, service.fault)))


def overdue(rows: list[Row], now: datetime, backup_hours: int, night_hours: int) -> list[str]:
    """In words. What never happened counts from the first row of the journal."""
    if not rows:
        return []
    backup = journal.last_of(rows, event="backup") or {}
    failed = backup.get("result") == "failed"
    nights = [row for row in rows if row.get("outcome") in WENT_WELL]
    return [
        *([f"the last backup failed: {backup['reason']}"] if failed else []),
        *(f"the last backup: {words}" for words in backup.get("warnings", [])),
        *undelivered(rows),
        *late("good backup", rows[0], journal.last_backup(rows), now, backup_hours),
        *late("good night", rows[0], nights[-1] if nights else None, now, night_hours),
    ]


def undelivered(rows: list[Row]) -> list[str]:
    """The ways by which the last message did not arrive."""
    last = {row["way"]: row for row in rows if row.get("event") == "message"}
    return [
        f"{way}: the last message did not arrive: {row['reason']}"
        for way, row in last.items()
        if row["result"] == "failed"
    ]


def late(what: str, first: Row, last: Row | None, now: datetime, limit: int) -> list[str]:
    """first: the journal's first row. last: the newest good one. limit: in hours; 0 for
    none."""
    age = now - datetime.fromisoformat((last or first)["time"])
    if not limit or age <= timedelta(hours=limit):
        return []
    hours = f"{age.total_seconds() / 3600:.0f} h"
    return [f"the last {what} was {hours} ago" if last else f"no {what} for {hours}"]
