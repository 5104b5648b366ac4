"""The schedule, as timers of systemd, rendered from env/systemd, or as lines for cron."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from glue.clients import host
from glue.clients.site import Site
from glue.core import commands, files
from glue.core.errors import PreconditionFailed
from glue.core.settings import REPOSITORY
from glue.machine import hours
from glue.machine.hours import WEEK, WEEKEND, WORKING, Hours

UNITS, CRON = Path("/etc/systemd/system"), Path("/etc/cron.d")
TEMPLATES = Environment(
    loader=FileSystemLoader(REPOSITORY / "env" / "systemd"),
    undefined=StrictUndefined,
    trim_blocks=True,
    keep_trailing_newline=True,
    autoescape=False,
)
RECONCILE_MINUTES = 5
NOTES_SECONDS = 30  # a correction is to be found within a minute
LOCK_SECONDS = 900  # the longest that one command waits for another
BACKUP_SECONDS = 4 * 3600
MONDAY = date(2024, 1, 1)
# what systemd gives a service; cron's own /usr/bin:/bin finds no program in /usr/local
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def place(site: Site) -> Place:
    """glue runs as the owner of the state folder, who must be allowed to use Docker."""
    if not site.state.exists():
        saw = f"{site.state} does not exist"
        raise PreconditionFailed("there is nothing to schedule yet", saw, "make setup")
    uid = site.state.stat().st_uid
    owner = host.user_name(uid)
    if owner == str(uid):
        what = "the state folder belongs to no user of this machine"
        do = f"{host.chown_line(os.geteuid(), site.state)}, then make setup"
        raise PreconditionFailed(what, f"{site.state}: user {uid}", do)
    return Place(
        str(REPOSITORY), owner, site.settings.profile, f"dual-use-{site.settings['PROJECT']}"
    )


def texts(site: Site, cron: bool, every: bool = False) -> dict[Path, str]:
    """Each file with its text. every: also the night's timer where NIGHT_DAYS is empty."""
    where, when = place(site), hours.of(site.settings)
    if cron:
        return {CRON / where.name: cron_lines(when, where)}
    left_out = () if every or when.night_days else (f"{where.name}-night.timer",)
    return {UNITS / name: text for name, text in units(when, where).items() if name not in left_out}


def show(site: Site, cron: bool) -> dict[str, str]:
    return {str(path): text for path, text in texts(site, cron).items()}


def install(site: Site, cron: bool) -> dict[str, Any]:
    """Writes the files, removes those of the other kind, and starts the timers."""
    require_root(CRON if cron else UNITS)
    remove(site)
    wanted = texts(site, cron)
    for path, text in wanted.items():
        files.write(path, text)
    if not cron:
        systemctl("daemon-reload")
        systemctl("enable", "--now", *(path.name for path in wanted if path.suffix == ".timer"))
    return {"installed": [str(path) for path in wanted]}


def remove(site: Site, cron: bool = False) -> dict[str, Any]:
    """Removes what install wrote, of either kind. A command that runs goes on to its end."""
    require_root(UNITS)
    there = [
        path for kind in (False, True) for path in texts(site, kind, every=True) if path.exists()
    ]
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
        do = f"sudo make -C {shlex.quote(str(REPOSITORY))} schedule"
        saw = f"{folder} cannot be written"
        raise PreconditionFailed("a schedule must be written by root", saw, do)


def systemctl(*arguments: str) -> None:
    commands.run(["systemctl", *arguments], "without systemd: make schedule CRON=1")


@dataclass(frozen=True)
class Place:
    """Where glue lives, who runs it, and the prefix of what is installed."""

    home: str
    user: str
    profile: str
    name: str

    @property
    def glue(self) -> str:
        """For systemd, which starts it in WorkingDirectory= and allows no quotes in its path."""
        return f"/usr/bin/env .venv/bin/python -m glue --profile {self.profile}"

    def shell_line(self, *verbs: str) -> str:
        """For cron, which starts in the user's home and ends a line at a bare % (man 5 crontab)."""
        python = f".venv/bin/python -m glue --profile {self.profile}"
        line = f"cd {shlex.quote(self.home)} && " + "; ".join(f"{python} {verb}" for verb in verbs)
        return line.replace("%", r"\%")


def days_and_times(hours: Hours) -> dict[str, list[tuple[tuple[str, ...], str]]]:
    """For each command, the days and times at which it is due."""
    working, weekend = (hours.day_begins(MONDAY + timedelta(days=n)) for n in (0, 5))
    return {
        "night": [(hours.night_days, f"{hours.night_at:%H:%M}")] if hours.night_days else [],
        "day": [(WORKING, f"{working:%H:%M}"), (WEEKEND, f"{weekend:%H:%M}")],
        "backup": [(WEEK, f"{hours.backup_at:%H:%M}")],
    }


def calendars(hours: Hours, verb: str) -> list[str]:
    """For systemd's OnCalendar=, in the machine's time zone."""
    return [f"{','.join(days)} *-*-* {at}:00" for days, at in days_and_times(hours)[verb]]


def units(hours: Hours, place: Place) -> dict[str, str]:
    """Every unit file by its name."""
    day_seconds = LOCK_SECONDS + 3 * int(hours.before_opening.total_seconds())
    values = {
        "name": place.name,
        "user": place.user,
        "home": place.home.replace("%", "%%"),  # a % begins a specifier (man 5 systemd.unit)
        "glue": place.glue,
        "day_seconds": day_seconds,
        "night_seconds": int(hours.longest_night.total_seconds()) + day_seconds,
        "backup_seconds": BACKUP_SECONDS,
        "reconcile_minutes": RECONCILE_MINUTES,
        "notes_seconds": NOTES_SECONDS,
        "calendars": {verb: calendars(hours, verb) for verb in days_and_times(hours)},
    }
    return {
        f"{place.name}-{file.removesuffix('.j2')}": TEMPLATES.get_template(file).render(values)
        for file in TEMPLATES.list_templates(["j2"])
    }


def cron_lines(hours: Hours, place: Place) -> str:
    """A file for /etc/cron.d. Cron skips what it missed; reconcile catches up."""
    rows = days_and_times(hours)

    def line(days: tuple[str, ...], at: str, *verbs: str) -> str:
        hour, minute = map(int, at.split(":"))
        start = f"{minute} {hour} * * {','.join(days)}"
        return f"{start}  {place.user}  {place.shell_line(*verbs)}"

    lines = [
        *(line(days, at, "night --scheduled", "reconcile") for days, at in rows["night"]),
        *(line(days, at, "day --scheduled") for days, at in rows["day"]),
        *(line(days, at, "backup") for days, at in rows["backup"]),
        f"*/{RECONCILE_MINUTES} * * * *  {place.user}  {place.shell_line('reconcile')}",
        f"* * * * *  {place.user}  {place.shell_line('notes --scheduled')}",
        f"* * * * *  {place.user}  sleep {NOTES_SECONDS}; {place.shell_line('notes --scheduled')}",
        f"@reboot  {place.user}  {place.shell_line('reconcile')}",
    ]
    head = f"# Dual-use Spark, written by glue schedule install --cron from {place.home}"
    return "\n".join([head, f"PATH={PATH}", *lines, ""])
