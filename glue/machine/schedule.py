"""The schedule, put where systemd or cron finds it. Everything is made anew from the settings at
every install."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

from glue.clients import host
from glue.clients.site import Site
from glue.core import commands, files
from glue.core.errors import PreconditionFailed
from glue.core.settings import REPOSITORY
from glue.machine import hours
from glue.machine.hours import WEEK, WEEKEND, WORKING, Hours

UNITS, CRON = Path("/etc/systemd/system"), Path("/etc/cron.d")


def place(site: Site) -> Place:
    """glue runs as the owner of the state folder, who must be let in by Docker."""
    if not site.state.exists():
        raise PreconditionFailed(
            "there is nothing to schedule yet", f"{site.state} is not there", "make setup"
        )
    uid = site.state.stat().st_uid
    owner = host.user_name(uid)
    if owner == str(uid):
        do = f"{host.chown_line(os.geteuid(), site.state)}, then make setup"
        raise PreconditionFailed(
            "the state folder belongs to no user of this machine", f"{site.state}: user {uid}", do
        )
    return Place(
        str(REPOSITORY), owner, site.settings.profile, f"dual-use-{site.settings['PROJECT']}"
    )


def texts(site: Site, cron: bool) -> dict[Path, str]:
    """What is to stand in which file."""
    where, when = place(site), hours.of(site.settings)
    if cron:
        return {CRON / where.name: cron_lines(when, where)}
    return {UNITS / name: text for name, text in units(when, where).items()}


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
        do = f"sudo make -C {shlex.quote(str(REPOSITORY))} schedule"
        raise PreconditionFailed("a schedule is written by root", f"{folder} cannot be written", do)


def systemctl(*arguments: str) -> None:
    commands.run(["systemctl", *arguments], "glue schedule install --cron, where no systemd runs")


RECONCILE_MINUTES = 5
LOCK_SECONDS = 900  # the longest that a verb waits for another
BACKUP_SECONDS = 4 * 3600
MONDAY = date(2024, 1, 1)
# what systemd gives a service; cron's own /usr/bin:/bin finds no program in /usr/local
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True)
class Place:
    """Where glue lives, who runs it, and the prefix of what is installed."""

    home: str
    user: str
    profile: str
    name: str

    def command(self, *arguments: str) -> str:
        """For systemd, which starts a service in its WorkingDirectory=, and no program whose path
        holds a quote or backslash."""
        return " ".join(
            [
                "/usr/bin/env",
                ".venv/bin/python",
                "-m",
                "glue",
                "--profile",
                self.profile,
                *arguments,
            ]
        )

    def shell_line(self, *verbs: str) -> str:
        """For cron, which starts a job in its user's home: the repository is entered first, or
        Python finds no glue.

        Cron ends a line at a % without a backslash before it (man 5 crontab).
        """
        python = f".venv/bin/python -m glue --profile {self.profile}"
        line = f"cd {shlex.quote(self.home)} && " + "; ".join(f"{python} {verb}" for verb in verbs)
        return line.replace("%", r"\%")


def days_and_times(hours: Hours) -> dict[str, list[tuple[tuple[str, ...], str]]]:
    """Each timed verb, and on which days at which time it is due."""
    working, weekend = (hours.day_begins(MONDAY + timedelta(days=n)) for n in (0, 5))
    return {
        "night": [(hours.night_days, f"{hours.night_at:%H:%M}")],
        "day": [(WORKING, f"{working:%H:%M}"), (WEEKEND, f"{weekend:%H:%M}")],
        "backup": [(WEEK, f"{hours.backup_at:%H:%M}")],
    }


def due(hours: Hours, after: datetime, until: datetime) -> list[tuple[datetime, str]]:
    """What the timers start after one moment and until another, oldest first."""
    found = []
    for number in range((until.date() - after.date()).days + 1):
        day = after.date() + timedelta(days=number)
        for verb, rows in days_and_times(hours).items():
            moments = [
                datetime.fromisoformat(f"{day} {at}")
                for days, at in rows
                if WEEK[day.weekday()] in days
            ]
            found += [(moment, verb) for moment in moments if after < moment <= until]
    return sorted(found)


def calendars(hours: Hours, verb: str) -> list[str]:
    """systemd's OnCalendar=, in the machine's own time zone."""
    return [f"{','.join(days)} *-*-* {at}:00" for days, at in days_and_times(hours)[verb]]


# ---------------------------------------------------------------------- systemd


def units(hours: Hours, place: Place) -> dict[str, str]:
    """Every unit file by its name."""
    name = place.name
    day_seconds = LOCK_SECONDS + 3 * int(hours.before_opening.total_seconds())
    night_seconds = int(hours.longest_night.total_seconds()) + day_seconds
    # the watch, not the day: a night that found another one at it must not end that one, nor what
    # make stop stopped begin again
    afterwards = f"OnSuccess={name}-reconcile.service\nOnFailure={name}-reconcile.service\n"
    awake = f"Wants={name}-awake.service\nAfter={name}-awake.service\n"
    return {
        f"{name}-night.service": service(
            place,
            "a night of learning",
            "night --scheduled",
            night_seconds,
            awake + afterwards,
            day_seconds,
            " 3",
        ),
        f"{name}-night.timer": timer("the evening", calendars(hours, "night"), persistent=False),
        f"{name}-day.service": service(
            place, "the day: the chat answers", "day --scheduled", day_seconds
        ),
        f"{name}-day.timer": timer(
            "the morning, whatever the night did", calendars(hours, "day"), persistent=True
        ),
        f"{name}-reconcile.service": service(
            place, "the watch over day and night", "reconcile", day_seconds
        ),
        f"{name}-reconcile.timer": watch_timer(),
        f"{name}-backup.service": service(place, "a backup", "backup", BACKUP_SECONDS),
        f"{name}-backup.timer": timer(
            "the daily backup", calendars(hours, "backup"), persistent=True
        ),
        f"{name}-awake.service": awake_service(),
    }


def service(
    place: Place,
    what: str,
    verb: str,
    most_seconds: int,
    more: str = "",
    stop_seconds: int = 120,
    also_fine: str = "",
) -> str:
    """stop_seconds: a night that is stopped brings the day back first. Only glue itself is told to
    stop, not what it started."""
    return f"""[Unit]
Description=Dual-use Spark: {what}
Wants=docker.service
After=docker.service time-sync.target
{more}
[Service]
Type=oneshot
User={place.user}
WorkingDirectory={place.home.replace("%", "%%")}
ExecStart={place.command(verb)}
SuccessExitStatus=0{also_fine}
TimeoutStartSec={most_seconds}
TimeoutStopSec={stop_seconds}
KillMode=mixed
"""


def timer(what: str, moments: list[str], persistent: bool) -> str:
    """persistent: a start that was missed is made up for. A night is not: it would fall into the
    day."""
    return f"""[Unit]
Description=Dual-use Spark: {what}

[Timer]
{"".join(f"OnCalendar={moment}" + chr(10) for moment in moments)}AccuracySec=1s
Persistent={str(persistent).lower()}

[Install]
WantedBy=timers.target
"""


def watch_timer() -> str:
    return f"""[Unit]
Description=Dual-use Spark: the watch, at boot and every few minutes

[Timer]
OnBootSec=1min
OnActiveSec=1min
OnUnitInactiveSec={RECONCILE_MINUTES}min

[Install]
WantedBy=timers.target
"""


def awake_service() -> str:
    return """[Unit]
Description=Dual-use Spark: no sleep while a night runs
StopWhenUnneeded=true

[Service]
ExecStart=/usr/bin/systemd-inhibit --what=sleep --who=dual-use-spark --why="a night trains" \\
  --mode=block /bin/sleep infinity
"""


# ---------------------------------------------------------------------- cron


def cron_lines(hours: Hours, place: Place) -> str:
    """A file for /etc/cron.d. Cron makes up for nothing that was missed: at boot and every few
    minutes the watch does."""
    rows = days_and_times(hours)

    def line(days: tuple[str, ...], at: str, *verbs: str) -> str:
        hour, minute = at.split(":")
        return (
            f"{int(minute)} {int(hour)} * * {','.join(days)}  {place.user} "
            f" {place.shell_line(*verbs)}"
        )

    lines = [
        *(line(days, at, "night --scheduled", "reconcile") for days, at in rows["night"]),
        *(line(days, at, "day --scheduled") for days, at in rows["day"]),
        *(line(days, at, "backup") for days, at in rows["backup"]),
        f"*/{RECONCILE_MINUTES} * * * *  {place.user}  {place.shell_line('reconcile')}",
        f"@reboot  {place.user}  {place.shell_line('reconcile')}",
    ]
    head = f"# Dual-use Spark, written by glue schedule install --cron from {place.home}"
    return "\n".join([head, f"PATH={PATH}", *lines, ""])
