"""The site's hours over a year and both clock changes, compared with systemd's own calendar."""

import os
import re
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from glue.clients.site import Site
from glue.core import settings, waiting
from glue.core.errors import Invalid, PreconditionFailed
from glue.core.settings import REPOSITORY, Settings
from glue.machine import hours, schedule
from glue.machine.hours import WEEK, Hours
from glue.machine.schedule import Place
from glue.night import night
from tests.machine.due import due

PLACE = Place("/opt/dual use".replace(" ", "-"), "root", "spark", "dual-use-spark")


def spark(**more: str) -> Settings:
    found = settings.load("spark")
    return replace(found, values=found.values | more)


@pytest.fixture
def site_hours() -> Hours:
    return hours.of(spark())


@pytest.fixture(autouse=True)
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


# Wednesday 2026-01-07; the clocks change on Sunday 2026-03-29 and Sunday 2026-10-25
@pytest.mark.parametrize(
    ("now", "begins", "ends"),
    [
        ("2026-01-07 19:00", "2026-01-07 19:00", "2026-01-08 05:30"),
        ("2026-01-08 05:29", "2026-01-07 19:00", "2026-01-08 05:30"),
        ("2026-01-08 05:30", "", ""),
        ("2026-01-08 09:00", "", ""),
        ("2026-01-07 18:59", "", ""),
        ("2026-01-10 07:00", "2026-01-09 19:00", "2026-01-10 08:30"),  # Friday's goes on longer
        ("2026-01-10 19:30", "", ""),  # none begins on a Saturday
        ("2026-01-12 03:00", "", ""),  # nor on a Sunday
    ],
)
def test_the_night_of_a_moment(now: str, begins: str, ends: str, site_hours: Hours) -> None:
    assert site_hours.night(at(now)) == ((at(begins), at(ends)) if begins else None)


def test_every_night_of_a_year_leaves_time_to_judge_before_opening(
    site_hours: Hours,
) -> None:
    begun = [
        moment
        for moment, verb in due(site_hours, at("2026-01-01"), at("2027-01-01"))
        if verb == "night"
    ]
    assert len(begun) == 261
    for moment in begun:
        found = site_hours.night(moment)
        assert found is not None and found[0] == moment
        opens = site_hours.next_opening(moment)
        free = opens.timestamp() - found[1].timestamp()
        assert free == 3600 + 1800, (
            "a change of the clocks must not eat the time between training and opening"
        )
        assert opens.strftime("%H:%M") == (
            "10:00" if WEEK[opens.weekday()] in ("Sat", "Sun") else "07:00"
        )


@pytest.mark.parametrize(
    ("evening", "length"),
    [("2026-03-28 19:00", 14), ("2026-10-24 19:00", 16), ("2026-10-31 19:00", 15)],
)
def test_a_saturday_night_in_which_the_clocks_change_is_an_hour_shorter_or_longer(
    evening: str, length: int
) -> None:
    found = hours.of(spark(NIGHT_DAYS="Sat"))
    assert found.next_opening(at(evening)).timestamp() - at(evening).timestamp() == length * 3600


def test_the_next_time_of_day_is_right_across_clock_changes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Then(datetime):
        @classmethod
        def now(cls, tz: object = None) -> "Then":
            return cls(2026, 10, 24, 19, 0)

    monkeypatch.setattr(waiting, "datetime", Then)
    assert datetime.fromtimestamp(waiting.next_moment("07:00")) == at("2026-10-25 07:00")


@pytest.mark.parametrize("verb", ["night", "day", "backup"])
def test_systemd_starts_each_verb_when_the_hours_say_so_all_year(
    verb: str, site_hours: Hours
) -> None:
    first, last = at("2026-01-01 00:00"), at("2027-01-01 00:00")
    expected = [moment for moment, started in due(site_hours, first, last) if started == verb]
    found: list[datetime] = []
    for calendar in schedule.calendars(site_hours, verb):
        command = [
            "systemd-analyze",
            "calendar",
            "--iterations=366",
            "--base-time=2025-12-31 23:59:59",
            calendar,
        ]
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=True,
            env=os.environ | {"TZ": "Europe/Berlin"},
        )
        found += [
            at(text) for text in re.findall(r"(?:elapse|#\d+): \w+ (\S+ \S+) CES?T", done.stdout)
        ]
    assert sorted(moment for moment in found if first < moment <= last) == expected


def test_the_units_pass_systemds_own_check(tmp_path: Path, site_hours: Hours) -> None:
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.symlink_to(REPOSITORY / ".venv" / "bin" / "python")
    for name, text in schedule.units(site_hours, replace(PLACE, home=str(tmp_path))).items():
        (tmp_path / name).write_text(text)
    (tmp_path / "docker.service").write_text("[Service]\nExecStart=/bin/true\n")
    names = [str(path) for path in tmp_path.glob("dual-use-*")]
    done = subprocess.run(
        ["systemd-analyze", "verify", *names], capture_output=True, text=True, check=False
    )
    ours = [line for line in done.stderr.splitlines() if "dual-use" in line]
    assert (done.returncode, ours) == (0, []), done.stderr


def test_timers_catch_up_days_but_not_nights_and_the_watch_follows_nights(
    site_hours: Hours,
) -> None:
    found = schedule.units(site_hours, PLACE)
    assert re.search(
        r"^ExecStart=.* day --scheduled$", found["dual-use-spark-day.service"], re.MULTILINE
    )
    assert (
        "Persistent=false" in found["dual-use-spark-night.timer"]
        and "Persistent=true" in found["dual-use-spark-day.timer"]
    )
    service = found["dual-use-spark-night.service"]
    watch = (  # a day would end a night that somebody had begun before
        "dual-use-spark-reconcile.service"
    )
    for line in (f"OnSuccess={watch}\n", f"OnFailure={watch}\n", "SuccessExitStatus=0 3"):
        assert line in service
    seconds = int(re.findall(r"TimeoutStartSec=(\d+)", service)[0])
    assert site_hours.longest_night.total_seconds() == 15 * 3600 < seconds
    assert all("TimeoutStartSec=" in text for name, text in found.items() if "Type=oneshot" in text)


def test_cron_gets_the_same_hours(site_hours: Hours) -> None:
    lines = [
        line
        for line in schedule.cron_lines(site_hours, PLACE).splitlines()
        if not line.startswith(("#", "PATH="))
    ]
    assert [" ".join(line.split()[:6]) for line in lines] == [
        "0 19 * * Mon,Tue,Wed,Thu,Fri root",
        "30 6 * * Mon,Tue,Wed,Thu,Fri root",
        "30 9 * * Sat,Sun root",
        "30 12 * * Mon,Tue,Wed,Thu,Fri,Sat,Sun root",
        "*/5 * * * * root",
        "* * * * * root",
        "* * * * * root",
        f"@reboot root cd {PLACE.home} && .venv/bin/python",
    ]
    assert "night --scheduled; " in lines[0] and lines[0].endswith(" reconcile")
    assert all(line.endswith(" day --scheduled") for line in lines[1:3]), (
        "what a person stopped stays so"
    )


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ({"NIGHT_AT": "05:10"}, "NIGHT_AT in env/spark.env: '05:10'. Expected at least 30 minutes"),
        ({"DAY_AT": "00:10"}, "DAY_AT in env/spark.env: '00:10'. Expected a time at least DAY_DEA"),
        ({"WEEKEND_DAY_AT": "00:15"}, "WEEKEND_DAY_AT in env/spark.env: '00:15'. Expected a time"),
        ({"DAY_AT": "20:00"}, "of training before 18:30. Set NIGHT_AT earlier, DAY_AT later"),
        ({"JUDGING_SECONDS": "50000"}, "of training before 16:36. Set NIGHT_AT earlier, DAY_AT"),
    ],
)
def test_impossible_hours_are_refused(bad: dict[str, str], words: str) -> None:
    with pytest.raises(Invalid) as error:
        hours.of(spark(**bad))
    assert words in str(error.value)


def test_a_timer_that_was_left_where_no_nights_are_wanted_is_told_how_to_go() -> None:
    site = Site(spark(NIGHT_DAYS=""), None, print)  # type: ignore[arg-type]
    with pytest.raises(PreconditionFailed, match="NIGHT_DAYS is empty") as error:
        night.scheduled_end(site)
    assert error.value.do.startswith("sudo make schedule, which removes")


@pytest.mark.parametrize(
    ("now", "left"),
    [
        ("2026-01-07 19:00:30", timedelta(hours=10, minutes=29, seconds=30)),
        ("2026-01-08 05:10", None),
        ("2026-01-08 09:00", None),
    ],
)
def test_a_late_scheduled_night_does_not_run_into_the_day(
    now: str, left: timedelta | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Then(datetime):
        @classmethod
        def now(cls, tz: object = None) -> "Then":
            return cls.fromisoformat(now)

    monkeypatch.setattr(night, "datetime", Then)
    site = Site(spark(), None, print)  # type: ignore[arg-type]
    if left is None:
        with pytest.raises(PreconditionFailed, match="no scheduled night starts now"):
            night.scheduled_end(site)
    else:
        assert night.scheduled_end(site) == (at(now) + left).timestamp()


@pytest.mark.parametrize(
    ("now", "ends"),
    [
        ("2026-01-07 19:00:30", "2026-01-08 05:30"),
        ("2026-01-07 14:00", "2026-01-08 05:30"),
        ("2026-01-08 04:00", "2026-01-08 05:30"),
        ("2026-01-10 12:00", "2026-01-11 08:30"),
        ("2026-01-08 06:00", "2026-01-08 07:00"),
    ],
    ids=[
        "in the evening",
        "in office hours",
        "after midnight",
        "on a Saturday",
        "just before the morning, as a person means it",
    ],
)
def test_a_manual_night_ends_at_the_scheduled_time(
    now: str, ends: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Then(datetime):
        @classmethod
        def now(cls, tz: object = None) -> "Then":
            return cls.fromisoformat(now)

    monkeypatch.setattr(night, "datetime", Then)
    site = Site(spark(), None, print)  # type: ignore[arg-type]
    assert night.training_end(site) == at(ends).timestamp()


@pytest.mark.parametrize(
    ("now", "is_open"),
    [
        ("2026-03-10 06:59", False),
        ("2026-03-10 07:00", True),
        ("2026-03-10 18:59", True),
        ("2026-03-10 19:00", False),
    ],
)
def test_the_office_is_open_from_its_opening_to_the_evening(
    now: str, is_open: bool, site_hours: Hours
) -> None:
    assert site_hours.is_open(at(now)) is is_open
    assert replace(site_hours, night_at=datetime.strptime("01:00", "%H:%M").time()).is_open(
        at(now)
    ) is (at(now).hour >= 7)
