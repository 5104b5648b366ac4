"""What is going on, in one look."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from glue import chat_volume, files, journal, lock, morning, overdue, plan
from glue.overdue import Limits
from glue.site import Site
from glue.types import Mode, Service


def status(site: Site) -> dict[str, Any]:
    """mode, what serves, each service's state, and how the last night ended. Reads only."""
    services = site.stacks.services("day")
    trainer = site.stacks.trainer()
    mode = plan.mode(services, trainer)
    if lock.held(site.state, lock.MOVE) and mode is not Mode.NIGHT:
        mode = Mode.MOVING
    current = site.releases.current()
    lost = chat_volume.lost(site.settings, site.stacks)
    rows = [row for row in files.read_lines(site.state / "journal.jsonl") if is_in_force(site, row)]
    limits = Limits(*(timedelta(hours=site.settings.number(f"{name}_OLDEST_HOURS")) for name in ("BACKUP", "NIGHT")))
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
        "morning": morning.summary(morning.gather(site.state, last["night"])) if last else None,
        "overdue": [*([lost] if lost else []), *overdue.overdue(rows, datetime.now().astimezone(), limits)],
    }


def is_in_force(site: Site, row: dict[str, Any]) -> bool:
    """False for a message by a way that the site has taken out of its settings: none will ever arrive that way."""
    return row.get("event") != "message" or bool(site.settings.values.get(row.get("way", "")))


def shown(service: Service) -> str:
    """Its health, and why it is not well."""
    return ": ".join(filter(None, (service.health or service.state, service.fault)))
