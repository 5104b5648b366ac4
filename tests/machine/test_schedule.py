"""Installing a schedule: real files in the test's folders, and a stand-in for systemctl that
records its arguments."""

import os
import shlex
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from glue.clients.site import Site
from glue.core import settings
from glue.core.errors import GlueError, PreconditionFailed
from glue.machine import hours, schedule


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
    return Site(
        replace(
            found, values=found.values | {"STATE_DIR": str(tmp_path / "state"), "PROJECT": "spark"}
        ),
        None,  # type: ignore[arg-type]
        print,
    )


def asked(site: Site) -> list[str]:
    path = site.state.parent / "asked"
    return path.read_text().splitlines() if path.exists() else []


def test_units_are_written_and_their_timers_started(site: Site) -> None:
    done = schedule.install(site, cron=False)
    names = {path.name for path in schedule.UNITS.iterdir()}
    timers = {name for name in names if name.endswith(".timer")}
    assert (
        {Path(path).name for path in done["installed"]} == names
        and len(names) == 11
        and len(timers) == 5
    )
    assert asked(site)[-2] == "daemon-reload"
    enabled = asked(site)[-1].split()
    assert enabled[:2] == ["enable", "--now"] and set(enabled[2:]) == timers
    assert (
        f"User={site.state.owner()}"
        in (schedule.UNITS / "dual-use-spark-night.service").read_text()
    )


def test_cron_replaces_the_units_and_vice_versa(site: Site) -> None:
    schedule.install(site, cron=False)
    schedule.install(site, cron=True)
    assert list(schedule.UNITS.iterdir()) == [] and [
        path.name for path in schedule.CRON.iterdir()
    ] == ["dual-use-spark"]
    assert any(line.startswith("disable --now") for line in asked(site))
    schedule.install(site, cron=False)
    assert list(schedule.CRON.iterdir()) == [] and len(list(schedule.UNITS.iterdir())) == 11


@pytest.mark.parametrize("cron", [False, True])
def test_without_night_days_no_night_is_installed_and_the_timer_of_before_goes(
    site: Site, cron: bool
) -> None:
    schedule.install(site, cron=False)
    timer = schedule.UNITS / "dual-use-spark-night.timer"
    assert timer.exists()
    none = replace(
        site, settings=replace(site.settings, values=site.settings.values | {"NIGHT_DAYS": ""})
    )
    schedule.install(none, cron=cron)
    assert not timer.exists()
    if cron:
        lines = (schedule.CRON / "dual-use-spark").read_text()
        assert "night" not in lines and "day --scheduled" in lines
    else:
        assert "night.timer" not in asked(site)[-1] and "day.timer" in asked(site)[-1]
    assert hours.of(none.settings).longest_night.total_seconds() == 0


def test_remove_deletes_only_what_install_wrote_and_can_be_repeated(
    site: Site,
) -> None:
    (schedule.UNITS / "other.service").write_text("[Unit]\n")
    schedule.install(site, cron=False)
    assert len(schedule.remove(site)["removed"]) == 11
    assert [path.name for path in schedule.UNITS.iterdir()] == ["other.service"]
    assert schedule.remove(site) == {"removed": []}


def test_an_error_of_systemctl_is_shown(site: Site) -> None:
    (site.state.parent / "broken").touch()
    with pytest.raises(GlueError, match="systemctl daemon-reload failed"):
        schedule.install(site, cron=False)


def test_without_write_permission_the_message_says_to_be_root(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(PreconditionFailed, match="must be written by root"):
        schedule.install(site, cron=False)


def test_a_schedule_before_setup_is_refused(site: Site) -> None:
    site.state.rmdir()
    with pytest.raises(PreconditionFailed, match="nothing to schedule yet"):
        schedule.install(site, cron=False)


# ---------------------------------------------------------------------- what was written is run

RECORDER = (
    "import os, pathlib, sys\npathlib.Path(os.environ['HOME'], 'ran').open('a').write('"
    " '.join(sys.argv[1:]) + '\\n')\n"
)
VERBS = ["night --scheduled", "reconcile", "day --scheduled", "backup", "notes --scheduled"]


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A checkout whose path needs quotes. Its glue is a stand-in that records its arguments: a
    night takes hours."""
    home = tmp_path / "it's 100% ours"
    (home / "glue").mkdir(parents=True)
    (home / "glue" / "__main__.py").write_text(RECORDER)
    (home / ".venv").symlink_to(settings.REPOSITORY / ".venv")
    return home


def as_cron_runs(text: str, home: Path) -> list[int]:
    """Exit codes. Runs each line by /bin/sh from the user's home with cron's environment only
    (man 5 crontab)."""
    environment = {
        "HOME": str(home),
        "LOGNAME": "root",
        "SHELL": "/bin/sh",
        "PATH": "/usr/bin:/bin",
    }
    codes = []
    for line in (line for line in text.splitlines() if not line.startswith("#")):
        name, is_setting, value = line.partition("=")
        if is_setting and name.isidentifier():
            environment[name] = value
            continue
        command = line.split(None, 2 if line.startswith("@") else 6)[-1].replace(r"\%", "%")
        codes.append(
            subprocess.run(
                ["/bin/sh", "-c", command], env=environment, cwd=home, check=False
            ).returncode
        )
    return codes


def test_every_cron_line_runs_in_cron_s_environment(repository: Path, tmp_path: Path) -> None:
    where = schedule.Place(str(repository), "root", "spark", "dual-use-spark")
    text = schedule.cron_lines(hours.of(settings.load("spark")), where)
    assert f"sleep {schedule.NOTES_SECONDS}; cd" in text
    text = text.replace(f"sleep {schedule.NOTES_SECONDS};", "sleep 0;")
    assert as_cron_runs(text, tmp_path) == [0] * 8
    asked_for = [
        line.removeprefix("--profile spark ")
        for line in (tmp_path / "ran").read_text().splitlines()
    ]
    assert asked_for == [
        "night --scheduled",
        "reconcile",
        *["day --scheduled"] * 2,
        "backup",
        "reconcile",
        *["notes --scheduled"] * 2,
        "reconcile",
    ]


def test_a_cron_line_finds_the_real_glue(tmp_path: Path) -> None:
    where = schedule.Place(str(settings.REPOSITORY), "root", "spark", "dual-use-spark")
    assert as_cron_runs(f"@reboot  root  {where.shell_line('--help')}\n", tmp_path) == [0]


def test_every_service_runs_in_systemd_s_environment(tmp_path: Path, repository: Path) -> None:
    plain = repository.rename(tmp_path / "dual-use")
    found = schedule.units(
        hours.of(settings.load("spark")),
        schedule.Place(str(plain), "root", "spark", "dual-use-spark"),
    )
    for name in ("night", "reconcile", "day", "backup", "notes"):
        service = dict(
            line.split("=", 1)
            for line in found[f"dual-use-spark-{name}.service"].splitlines()
            if "=" in line
        )
        environment = {"HOME": str(tmp_path), "PATH": schedule.PATH, "USER": service["User"]}
        done = subprocess.run(
            shlex.split(service["ExecStart"]),
            env=environment,
            cwd=service["WorkingDirectory"],
            check=False,
        )
        assert done.returncode == 0
    assert (tmp_path / "ran").read_text().splitlines() == [
        f"--profile spark {verb}" for verb in VERBS
    ]
