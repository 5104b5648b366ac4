"""Upgrades, with real git and make on a small repository whose targets only say that they ran; tests/e2e has the real ones."""

import json
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from glue import backup, chat_volume, files, journal, lock, turn, upgrade
from glue.plan import Turn, Wanted
from glue.site import Site
from glue.types import DayNotServing, GlueError, Locked, PreconditionFailed

MAKEFILE = """setup day restore:
\t@echo "$@ $(shell cat version)" >> ran
\t@! grep -qx "$@" broken
ask:
\t@cat answer
"""
OLD, NEW = "ghcr.example/open-webui:v0.12.4", "ghcr.example/open-webui:v0.13.0"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path / "clone"
    (home / "env").mkdir(parents=True)
    git(home, "init", "--quiet", "--initial-branch=main")
    (home / ".gitignore").write_text("ran\n")
    monkeypatch.setattr(upgrade, "HOME", home)
    monkeypatch.setattr(backup, "backup", lambda site: {"backup": "/backups/today"})
    release(home, "old")
    release(home, "new", open_webui=NEW)
    release(home, "same-chat")
    release(home, "no-setup", broken="setup")
    release(home, "no-day", broken="day", open_webui=NEW)
    release(home, "no-answer", answer="")
    git(home, "checkout", "--quiet", "old")
    return home


def git(home: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
    done = subprocess.run(["git", "-C", str(home), *identity, *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def release(home: Path, name: str, broken: str = "", answer: str = "I am here.", open_webui: str = OLD) -> None:
    (home / "Makefile").write_text(MAKEFILE)
    (home / "env" / "images.env").write_text(f"# images\nOPEN_WEBUI_IMAGE={open_webui}\n")
    for file, text in {"version": name, "broken": broken, "answer": answer}.items():
        (home / file).write_text(text + "\n")
    git(home, "add", "--all")
    git(home, "commit", "--quiet", "--message", name)
    git(home, "tag", name)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    (tmp_path / "state").mkdir()
    settings = SimpleNamespace(profile="rehearsal")
    return cast(Site, SimpleNamespace(state=tmp_path / "state", settings=settings, tell=lambda line: None))


def ran(home: Path) -> list[str]:
    return (home / "ran").read_text().splitlines() if (home / "ran").exists() else []


def version(home: Path) -> str:
    return (home / "version").read_text().strip()


def unfinished(site: Site) -> bool:
    return (site.state / upgrade.UNFINISHED).exists()


def test_a_version_that_serves_stays(home: Path, site: Site) -> None:
    done = upgrade.upgrade(site, "new")
    assert done["changed"] and done["backup"] == "/backups/today"
    assert ran(home) == ["setup new", "day new"] and version(home) == "new" and not unfinished(site)
    assert upgrade.upgrade(site, "new") == {"version": git(home, "rev-parse", "new"), "changed": False}


@pytest.mark.parametrize(
    ("to", "expected"),
    [
        ("no-setup", ["setup no-setup", "setup old"]),
        ("no-day", ["setup no-day", "day no-day", "setup old", "restore old", "day old"]),
        ("no-answer", ["setup no-answer", "day no-answer", "setup old", "day old"]),
    ],
)
def test_one_that_does_not_is_undone_and_the_chat_put_back_only_if_it_was_migrated(
    to: str, expected: list[str], home: Path, site: Site
) -> None:
    with pytest.raises(GlueError, match=f"{to} does not serve") as error:
        upgrade.upgrade(site, to)
    assert error.value.exit_code == 1
    assert ran(home) == expected and version(home) == "old" and not unfinished(site)
    assert files.read_lines(site.state / "journal.jsonl")[-1]["result"] == "undone"


def test_if_not_even_the_old_one_serves_it_says_what_to_type(home: Path, site: Site) -> None:
    release(home, "as-broken", broken="day")
    with pytest.raises(DayNotServing) as error:
        upgrade.upgrade(site, "no-answer" if version(home) == "old" else "no-day")
    assert error.value.exit_code == 12 and "git checkout" in error.value.do and unfinished(site)


@pytest.mark.parametrize(("served", "expected"), [(False, []), (True, ["day old"])])
def test_one_that_died_on_its_way_is_undone_by_the_next(served: bool, expected: list[str], home: Path, site: Site) -> None:
    before, after = git(home, "rev-parse", "old"), git(home, "rev-parse", "same-chat")
    upgrade.keep(site, upgrade.Move(before, after, "/backups/yesterday", migrates=False, served=served))
    git(home, "checkout", "--quiet", "same-chat")
    upgrade.upgrade(site, "old")
    assert ran(home) == ["setup old", *expected] and version(home) == "old" and not unfinished(site)


def test_an_older_open_webui_is_refused_with_the_backup_that_fits(
    home: Path, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = [tmp_path / name for name in ("1", "2", "3")]
    for folder, image in zip(folders, (OLD, f"{OLD}@sha256:{'0' * 64}", NEW), strict=True):
        folder.mkdir()
        (folder / "manifest.json").write_text(json.dumps({"images": {"OPEN_WEBUI_IMAGE": image}}))
    monkeypatch.setattr(backup, "there", lambda site: folders)
    git(home, "checkout", "--quiet", "new")
    with pytest.raises(PreconditionFailed) as error:
        upgrade.upgrade(site, "old")
    assert str(folders[1]) in error.value.do and version(home) == "new" and not ran(home) and not unfinished(site)


def test_what_a_person_changed_is_never_written_over(home: Path, site: Site) -> None:
    (home / "answer").write_text("mine\n")
    with pytest.raises(GlueError, match="no-answer does not serve"):
        upgrade.upgrade(site, "no-answer")
    assert (home / "answer").read_text() == "mine\n" and version(home) == "old"
    assert ran(home) == ["setup old"], "the day was not touched"


def test_no_upgrade_during_a_night_nor_to_what_is_not_there(home: Path, site: Site) -> None:
    with lock.hold(site.state, lock.NIGHT, "a night"), pytest.raises(Locked):
        upgrade.upgrade(site, "new")
    with pytest.raises(PreconditionFailed, match="no such version"):
        upgrade.upgrade(site, "never")
    assert not ran(home) and not unfinished(site)


# ---------------------------------------------------------------------- the timers meanwhile

DAYS = {"begin": ["setup old", "restore old", "day old"], "nothing": ["setup old"]}


@pytest.mark.parametrize("meanwhile", DAYS)
def test_a_day_that_somebody_began_on_the_new_version_is_undone_too(
    meanwhile: str, home: Path, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = upgrade.make

    def fail_in_setup(site: Site, *target: str) -> str:
        if version(home) == "new":
            journal.record(site.state, event="day", phase=meanwhile) if meanwhile == "begin" else None
            raise GlueError("make setup failed", "no network", "")
        return make(site, *target)

    journal.record(site.state, event="day", phase="begin")
    monkeypatch.setattr(upgrade, "make", fail_in_setup)
    with pytest.raises(GlueError, match="new does not serve"):
        upgrade.upgrade(site, "new")
    assert ran(home) == DAYS[meanwhile] and version(home) == "old" and not unfinished(site)


def test_the_new_version_is_checked_out_only_while_nobody_moves_the_day(
    home: Path, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upgrade, "MOVE_WAIT_SECONDS", 0.3)
    with lock.hold(site.state, lock.MOVE, "bring up the day"), pytest.raises(GlueError, match="new does not serve"):
        upgrade.upgrade(site, "new")
    assert version(home) == "old" and ran(home) == ["setup old"]


def die_after(home: Path, site: Site, *days: str) -> None:
    """As an upgrade leaves it that was killed in setup; days: what was noted of days since."""
    before, after = git(home, "rev-parse", "old"), git(home, "rev-parse", "new")
    upgrade.keep(site, upgrade.Move(before, after, "/backups/yesterday", migrates=True))
    journal.record(site.state, event="day", phase="done")
    journal.record(site.state, event="upgrade", result="begun", after=after)
    for phase in days:
        journal.record(site.state, event="day", phase=phase)
    git(home, "checkout", "--quiet", "new")


def test_a_timer_undoes_an_upgrade_that_died_and_the_day_of_before_serves(home: Path, site: Site) -> None:
    die_after(home, site, "begin", "failed")
    assert upgrade.undo_for_a_timer(site) and not upgrade.undo_for_a_timer(site)
    assert ran(home) == ["setup old", "restore old", "day old", "day old"] and version(home) == "old" and not unfinished(site)


def test_no_timer_takes_back_what_people_may_have_said_since_nor_meets_an_upgrade_that_lives(home: Path, site: Site) -> None:
    die_after(home, site)
    with lock.hold(site.state, upgrade.LOCK, "an upgrade"):
        assert not upgrade.undo_for_a_timer(site)
    turn.take(site.state, Turn(Wanted.DOWN))
    journal.record(site.state, event="stop")
    assert not upgrade.undo_for_a_timer(site)
    turn.take(site.state, Turn(Wanted.DAY))
    die_after(home, site, "begin", "done")
    assert not upgrade.undo_for_a_timer(site)
    assert version(home) == "new" and unfinished(site) and not ran(home)


def test_one_that_died_while_its_restore_had_everything_stopped_ends_in_a_day_too(home: Path, site: Site) -> None:
    die_after(home, site)
    turn.take(site.state, Turn(Wanted.DOWN))
    (site.state / chat_volume.RESTORING).write_text("/backups/yesterday\n")
    assert upgrade.undo_for_a_timer(site)
    assert ran(home) == ["setup old", "restore old", "day old", "day old"] and not unfinished(site)


@pytest.mark.parametrize("note", ["{", '{"before": "of another version"}'])
def test_a_note_of_an_upgrade_that_cannot_be_read_keeps_no_timer_from_its_day(note: str, home: Path, site: Site) -> None:
    (site.state / upgrade.UNFINISHED).write_text(note)
    assert not upgrade.undo_for_a_timer(site) and not ran(home)


def test_a_dead_upgrade_that_cannot_be_undone_leaves_the_timer_to_the_version_that_is_there(home: Path, site: Site) -> None:
    die_after(home, site)
    (home / "answer").write_text("mine\n")
    (home / "version").write_text("a person's\n")
    assert not upgrade.undo_for_a_timer(site) and unfinished(site)
