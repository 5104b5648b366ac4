"""The schedule, put where systemd or cron finds it. Everything is made anew from the settings at every install."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Any

from glue import commands, files, host, hours, units
from glue.settings import HOME
from glue.site import Site
from glue.types import PreconditionFailed
from glue.units import Place

UNITS, CRON = Path("/etc/systemd/system"), Path("/etc/cron.d")


def place(site: Site) -> Place:
    """glue runs as the owner of the state folder, who must be let in by Docker."""
    if not site.state.exists():
        raise PreconditionFailed("there is nothing to schedule yet", f"{site.state} is not there", "make setup")
    uid = site.state.stat().st_uid
    owner = host.user_name(uid)
    if owner == str(uid):
        do = f"{host.chown_line(os.geteuid(), site.state)}, then make setup"
        raise PreconditionFailed("the state folder belongs to no user of this machine", f"{site.state}: user {uid}", do)
    return Place(str(HOME), owner, site.settings.profile, f"dual-use-{site.settings['PROJECT']}")


def texts(site: Site, cron: bool) -> dict[Path, str]:
    """What is to stand in which file."""
    where, when = place(site), hours.of(site.settings)
    if cron:
        return {CRON / where.name: units.cron(when, where)}
    return {UNITS / name: text for name, text in units.units(when, where).items()}


def show(site: Site, cron: bool) -> dict[str, str]:
    return {str(path): text for path, text in texts(site, cron).items()}


def install(site: Site, cron: bool) -> dict[str, Any]:
    """Writes the files, in place of those of the other kind, and starts the timers."""
    require_root(CRON if cron else UNITS)
    remove(site)
    wanted = texts(site, cron)
    for path, text in wanted.items():
        files.write(path, text)
    if not cron:
        systemctl("daemon-reload")
        systemctl("enable", "--now", *(path.name for path in wanted if path.suffix == ".timer"))
    return {"installed": [str(path) for path in wanted]}


def remove(site: Site) -> dict[str, Any]:
    """Takes away what install wrote, of either kind; a verb that runs goes on to its end."""
    require_root(UNITS)
    there = [path for kind in (False, True) for path in texts(site, kind) if path.exists()]
    timers = [path.name for path in there if path.suffix == ".timer"]
    if timers:
        systemctl("disable", "--now", *timers)
    for path in there:
        path.unlink()
    if any(path.parent == UNITS for path in there):
        systemctl("daemon-reload")
    return {"removed": [str(path) for path in there]}


def require_root(folder: Path) -> None:
    if not os.access(folder, os.W_OK):
        do = f"sudo make -C {shlex.quote(str(HOME))} schedule"
        raise PreconditionFailed("a schedule is written by root", f"{folder} cannot be written", do)


def systemctl(*arguments: str) -> None:
    commands.run(["systemctl", *arguments], "glue schedule install --cron, where no systemd runs")
