"""The site's hours: when nights begin, when the office opens, and what that makes of this moment.
Pure.

Local time without a zone: systemd, cron and the clock on the wall mean the same by it, and it
becomes a Unix time only at the
end, by the rules of the very day it falls on. So an evening before a change of the clocks still
ends at the right morning.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, time, timedelta

from glue.core.errors import Misconfigured
from glue.core.settings import Settings

WEEK = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
WORKING, WEEKEND = WEEK[:5], WEEK[5:]
LEAST_NIGHT = timedelta(minutes=30)  # less than this is not worth a morning's risk


@dataclass(frozen=True)
class Hours:
    """night_days: the days on whose evening a night begins. before_opening: from the day's start to
    the opening.

    judging: from the end of training to the day's start.
    """

    night_at: time
    night_days: tuple[str, ...]
    day_at: time
    weekend_day_at: time
    backup_at: time
    before_opening: timedelta
    judging: timedelta

    def opening(self, day: date) -> datetime:
        return datetime.combine(
            day, self.weekend_day_at if WEEK[day.weekday()] in WEEKEND else self.day_at
        )

    def next_opening(self, now: datetime) -> datetime:
        today, tomorrow = self.opening(now.date()), self.opening(now.date() + timedelta(days=1))
        return today if today > now else tomorrow

    def is_open(self, now: datetime) -> bool:
        """From the opening to the evening on which a night could begin; one that begins after
        midnight ends no day."""
        return self.opening(now.date()) <= now and (
            now.time() < self.night_at or self.night_at < self.opening(now.date()).time()
        )

    def day_begins(self, day: date) -> datetime:
        return self.opening(day) - self.before_opening

    def training_ends(self, opening: datetime) -> datetime:
        return opening - self.before_opening - self.judging

    def night(self, now: datetime) -> tuple[datetime, datetime] | None:
        """The night that now lies in: its beginning, and when training ends. None in office hours
        and where none was to begin."""
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
        starts = [
            datetime.combine(monday + timedelta(days=n), self.night_at)
            for n in range(7)
            if WEEK[n] in self.night_days
        ]
        return max((self.next_opening(start) - start for start in starts), default=timedelta(0))


def of(settings: Settings) -> Hours:
    """Raises Misconfigured where the hours leave no night, or a day would have to begin before
    midnight."""
    found = Hours(
        night_at=clock(settings["NIGHT_AT"]),
        night_days=tuple(settings["NIGHT_DAYS"].split(",")),
        day_at=clock(settings["DAY_AT"]),
        weekend_day_at=clock(settings["WEEKEND_DAY_AT"]),
        backup_at=clock(settings["BACKUP_AT"]),
        before_opening=timedelta(seconds=settings.number("DAY_DEADLINE_SECONDS")),
        judging=timedelta(seconds=settings.number("JUDGING_SECONDS")),
    )
    for name in ("Mon", "Fri"):
        begins = datetime.combine(
            date(2024, 1, 1) + timedelta(days=WEEK.index(name)), found.night_at
        )
        opens = found.next_opening(begins)
        if found.training_ends(opens) - begins < LEAST_NIGHT:
            saw = f"NIGHT_AT={settings['NIGHT_AT']}, and the office opens at {opens:%H:%M}"
            do = (
                "an earlier NIGHT_AT, a later DAY_AT, or less DAY_DEADLINE_SECONDS and"
                " JUDGING_SECONDS before it"
            )
            raise Misconfigured("the hours leave no night", saw, do)
        if found.day_begins(opens.date()).date() != opens.date():
            raise Misconfigured(
                "a day would begin before midnight",
                f"the office opens at {opens:%H:%M}",
                "a later DAY_AT",
            )
    return found


def clock(text: str) -> time:
    return time.fromisoformat(text)
