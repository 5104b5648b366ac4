"""The site's hours: when nights start and when the office opens. Pure.

Times are local, without a zone, as in systemd and cron, so that a night across a clock change ends
at the right time.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, time, timedelta

from glue.core.errors import Invalid
from glue.core.settings import Settings

WEEK = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
WORKING, WEEKEND = WEEK[:5], WEEK[5:]
LEAST_NIGHT = timedelta(minutes=30)


@dataclass(frozen=True)
class Hours:
    """night_days: on whose evening a night begins; empty for no nights. before_opening: from the
    day's start to the opening. judging: from the end of training to the day's start."""

    night_at: time
    night_days: tuple[str, ...]
    day_at: time
    weekend_day_at: time
    backup_at: time
    before_opening: timedelta
    judging: timedelta

    def opening(self, day: date) -> datetime:
        is_weekend = WEEK[day.weekday()] in WEEKEND
        return datetime.combine(day, self.weekend_day_at if is_weekend else self.day_at)

    def next_opening(self, now: datetime) -> datetime:
        today, tomorrow = self.opening(now.date()), self.opening(now.date() + timedelta(days=1))
        return today if today > now else tomorrow

    def is_open(self, now: datetime) -> bool:
        """From the opening until a night could begin, or until midnight."""
        return self.opening(now.date()) <= now and (
            now.time() < self.night_at or self.night_at < self.opening(now.date()).time()
        )

    def day_begins(self, day: date) -> datetime:
        return self.opening(day) - self.before_opening

    def training_ends(self, opening: datetime) -> datetime:
        return opening - self.before_opening - self.judging

    def night(self, now: datetime) -> tuple[datetime, datetime] | None:
        """The night that now lies in: its start and its training's end; None by day."""
        for day in (now.date(), now.date() - timedelta(days=1)):
            begins = datetime.combine(day, self.night_at)
            ends = self.training_ends(self.next_opening(begins))
            if WEEK[day.weekday()] in self.night_days and begins <= now < ends:
                return begins, ends
        return None

    @property
    def longest_night(self) -> timedelta:
        """From a night's beginning to the opening after it."""
        monday = date(2024, 1, 1)
        days = [monday + timedelta(days=n) for n in range(7) if WEEK[n] in self.night_days]
        starts = [datetime.combine(day, self.night_at) for day in days]
        return max((self.next_opening(start) - start for start in starts), default=timedelta(0))


def of(settings: Settings) -> Hours:
    """Raises Invalid for hours without time for a night, or a day that starts before midnight."""
    found = Hours(
        night_at=time.fromisoformat(settings["NIGHT_AT"]),
        night_days=tuple(filter(None, settings["NIGHT_DAYS"].split(","))),
        day_at=time.fromisoformat(settings["DAY_AT"]),
        weekend_day_at=time.fromisoformat(settings["WEEKEND_DAY_AT"]),
        backup_at=time.fromisoformat(settings["BACKUP_AT"]),
        before_opening=timedelta(seconds=settings.number("DAY_DEADLINE_SECONDS")),
        judging=timedelta(seconds=settings.number("JUDGING_SECONDS")),
    )
    for day in (date(2024, 1, 1), date(2024, 1, 5)):  # a Monday and a Friday
        begins = datetime.combine(day, found.night_at)
        opens = found.next_opening(begins)
        key = "WEEKEND_DAY_AT" if WEEK[opens.weekday()] in WEEKEND else "DAY_AT"
        if found.training_ends(opens) - begins < LEAST_NIGHT:
            least = f"at least 30 minutes of training before {found.training_ends(opens):%H:%M}"
            change = f"Set NIGHT_AT earlier, {key} later, or lower DAY_DEADLINE_SECONDS"
            raise invalid(settings, "NIGHT_AT", f"{least}. {change} or JUDGING_SECONDS")
        if found.day_begins(opens.date()).date() != opens.date():
            minutes = found.before_opening // timedelta(minutes=1)
            least = f"a time at least DAY_DEADLINE_SECONDS ({minutes} minutes) after midnight"
            raise invalid(settings, key, least)
    return found


def invalid(settings: Settings, key: str, expected: str) -> Invalid:
    what = f"Invalid value for {key} in {settings.sources[key]}"
    return Invalid(what, repr(settings[key]), f"Expected {expected}.")
