"""A week with a fake clock and stand-ins, at the timers' own moments: seven nights of mixed
outcomes, a power cut, an evening with the machine off, and a clock change."""

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

import pytest

from glue.core import files, journal, services, waiting
from glue.core.errors import GlueError
from glue.core.verdict import Verdict
from glue.machine import hours
from glue.night import evaluate, night, train
from glue.night.tonight import Night, NothingNew
from glue.serving import day, reconcile
from tests.faults.stand_ins import StandInSite
from tests.faults.test_kill import in_a_child, require_a_good_day
from tests.machine.due import due

# Monday noon to Monday noon; on Sunday 2026-03-29 two o'clock is three o'clock
FIRST, LAST = datetime(2026, 3, 23, 12), datetime(2026, 3, 30, 12)
WATCH = timedelta(minutes=30)


class Clock:
    """Moves only when it is set; nothing takes time between two moments."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.set(FIRST)
        clock = self

        class Faked(datetime):
            @classmethod
            def now(cls, tz: Any = None) -> Any:
                return cls.fromtimestamp(clock.moment, tz)

        monkeypatch.setattr(time, "time", lambda: clock.moment)
        for module in (night, journal, train, waiting, files):
            monkeypatch.setattr(module, "datetime", Faked)

    def set(self, local: datetime) -> None:
        self.moment = local.timestamp()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield Clock(monkeypatch)
    monkeypatch.undo()
    time.tzset()


def refuse(*_: object) -> Verdict:
    return Verdict(False, ("no better",))


def nothing_new(tonight: Night) -> None:
    raise NothingNew("0 new examples")


def run_night(site: StandInSite, kind: str, patch: pytest.MonkeyPatch) -> None:
    """One evening's timer. kind: the outcome of the night."""
    until = night.scheduled_end(site)
    with site.ledger.change() as world:
        world["trainer"] = "exits 1" if kind == "failed" else "trains"
    if kind == "refused":
        patch.setattr(evaluate, "judge", refuse)
    if kind == "nothing new":
        patch.setitem(night.STEPS, "collect", nothing_new)
    if kind == "power cut":
        patch.setattr(train, "wait_for_trainer", lambda tonight: os._exit(9))
        in_a_child(lambda: print(night.run(site, until)))
        for name in services.DAY_SERVICES:  # after a boot Docker starts what had not been stopped
            if name != "vllm":
                site.stacks.up(name)
        return
    with suppress(GlueError):
        night.run(site, until)


WEEK: dict[str, str] = {
    "Mon": "promoted",
    "Tue": "refused",
    "Wed": "power cut",
    "Thu": "machine off",
    "Fri": "failed",
    "Sat": "nothing new",
    "Sun": "promoted",
}
TRAINING_ENDS = {
    "Mon": "06:45",
    "Tue": "06:45",
    "Wed": "06:45",
    "Thu": "06:45",
    "Fri": "09:45",
    "Sat": "09:45",
    "Sun": "06:45",
}


def events(site: StandInSite) -> list[tuple[datetime, str]]:
    """The moments of the timers and the watch, and the first question just after each opening."""
    when = hours.of(site.settings)
    found = due(when, FIRST, LAST)
    found += [
        (FIRST + n * WATCH + timedelta(minutes=7), "reconcile")
        for n in range(1, (LAST - FIRST) // WATCH)
    ]
    openings = [when.opening(FIRST.date() + timedelta(days=n)) for n in range(1, 8)]
    return sorted(found + [(opening + timedelta(seconds=1), "opening") for opening in openings])


def test_a_week(site: StandInSite, clock: Clock) -> None:
    site.settings.values.update(
        NIGHT_DAYS=",".join(hours.WEEK), JUDGING_SECONDS="600", DAY_DEADLINE_SECONDS="300"
    )
    day.start(site)
    serving: dict[str, str | None] = {}
    ends: dict[str, str] = {}
    off = (datetime(2026, 3, 26, 18), datetime(2026, 3, 26, 22))  # Thursday evening
    for moment, verb in events(site):
        clock.set(moment)
        name = hours.WEEK[moment.weekday()]
        if off[0] <= moment < off[1]:
            continue
        if verb == "night":
            ends[name] = f"{datetime.fromtimestamp(night.scheduled_end(site)):%H:%M}"
            with pytest.MonkeyPatch.context() as patch:
                run_night(site, WEEK[name], patch)
        elif verb == "day":
            day.start(site)
        elif verb == "reconcile":
            reconcile.reconcile(site)
        elif verb == "opening":
            require_a_good_day(site)
            serving[name] = site.store.current()
    rows = files.read_lines(site.state / "journal.jsonl")
    ended = [
        (hours.WEEK[datetime.fromisoformat(row["time"]).weekday()], row["outcome"])
        for row in rows
        if "outcome" in row
    ]
    assert ended == [
        ("Mon", "promoted"),
        ("Tue", "refused"),
        ("Wed", "died"),
        ("Fri", "failed"),
        ("Sat", "nothing new"),
        ("Sun", "promoted"),
    ]
    assert ends == {name: end for name, end in TRAINING_ENDS.items() if name != "Thu"}
    # Monday's adapter serves all week long, until Sunday's
    first, second = serving["Tue"], serving["Mon"]
    assert first is not None and second is not None and first != second
    assert serving == {name: second if name == "Mon" else first for name in hours.WEEK}
    died = next(row for row in rows if row.get("outcome") == "died")
    assert died["reason"] == "in step train" and "19:07" in died["time"], (
        "the watch found it at its next look"
    )
