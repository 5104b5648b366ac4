"""What the timers start, by the hours alone: what systemd's calendar is compared with."""

from datetime import datetime, timedelta

from glue.machine.hours import WEEK, Hours
from glue.machine.schedule import days_and_times


def due(hours: Hours, after: datetime, until: datetime) -> list[tuple[datetime, str]]:
    """What the timers start after one moment and until another, in order."""
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
