"""Installing a schedule: real files in folders of the test, and a stand-in for systemctl that writes down what it was asked."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from glue import schedule, settings
from glue.site import Site
from glue.types import GlueError, PreconditionFailed


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    for name in ("state", "system", "cron.d", "bin"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(schedule, "UNITS", tmp_path / "system")
    monkeypatch.setattr(schedule, "CRON", tmp_path / "cron.d")
    systemctl = tmp_path / "bin" / "systemctl"
    systemctl.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\n[ ! -e {tmp_path}/broken ]\n')
    systemctl.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    found = settings.load("spark")
    return Site(replace(found, values=found.values | {"STATE_DIR": str(tmp_path / "state"), "PROJECT": "spark"}), None, print)  # type: ignore[arg-type]


def asked(site: Site) -> list[str]:
    path = site.state.parent / "asked"
    return path.read_text().splitlines() if path.exists() else []


def test_units_are_written_and_their_timers_started(site: Site) -> None:
    done = schedule.install(site, cron=False)
    names = {path.name for path in schedule.UNITS.iterdir()}
    timers = {name for name in names if name.endswith(".timer")}
    assert {Path(path).name for path in done["installed"]} == names and len(names) == 9 and len(timers) == 4
    assert asked(site)[-2] == "daemon-reload"
    enabled = asked(site)[-1].split()
    assert enabled[:2] == ["enable", "--now"] and set(enabled[2:]) == timers
    assert f"User={site.state.owner()}" in (schedule.UNITS / "dual-use-spark-night.service").read_text()


def test_cron_takes_the_place_of_the_units_and_the_other_way_round(site: Site) -> None:
    schedule.install(site, cron=False)
    schedule.install(site, cron=True)
    assert list(schedule.UNITS.iterdir()) == [] and [path.name for path in schedule.CRON.iterdir()] == ["dual-use-spark"]
    assert any(line.startswith("disable --now") for line in asked(site))
    schedule.install(site, cron=False)
    assert list(schedule.CRON.iterdir()) == [] and len(list(schedule.UNITS.iterdir())) == 9


def test_remove_takes_away_what_install_wrote_and_nothing_else_and_again_is_nothing(site: Site) -> None:
    (schedule.UNITS / "other.service").write_text("[Unit]\n")
    schedule.install(site, cron=False)
    assert len(schedule.remove(site)["removed"]) == 9
    assert [path.name for path in schedule.UNITS.iterdir()] == ["other.service"]
    assert schedule.remove(site) == {"removed": []}


def test_what_systemd_says_is_told(site: Site) -> None:
    (site.state.parent / "broken").touch()
    with pytest.raises(GlueError, match="systemctl daemon-reload failed"):
        schedule.install(site, cron=False)


def test_who_may_not_write_there_is_told_to_be_root(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(PreconditionFailed, match="written by root"):
        schedule.install(site, cron=False)


def test_before_setup_there_is_nothing_to_schedule(site: Site) -> None:
    site.state.rmdir()
    with pytest.raises(PreconditionFailed, match="nothing to schedule yet"):
        schedule.install(site, cron=False)
