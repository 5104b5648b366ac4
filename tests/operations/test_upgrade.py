"""Upgrades, with real git and make on a small repository whose targets only record that they
ran; tests/e2e has real ones."""

import json
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from glue.clients.site import Site
from glue.core import desired_state, files, journal, lock, upgrade_note
from glue.core.desired_state import DesiredState, Wanted
from glue.core.errors import DayNotServing, GlueError, Locked, PreconditionFailed
from glue.core.upgrade_note import NOTE
from glue.operations import backup, upgrade, versions

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
    monkeypatch.setattr(upgrade, "REPOSITORY", home)
    monkeypatch.setattr(versions, "REPOSITORY", home)
    monkeypatch.setattr(upgrade, "ASK_SECONDS", 0)
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
    identity = [
        "-c",
        "user.name=test",
        "-c",
        "user.email=test@example.org",
        "-c",
        "core.fsync=none",
    ]
    done = subprocess.run(
        ["git", "-C", str(home), *identity, *arguments], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def release(
    home: Path, name: str, broken: str = "", answer: str = "I am here.", open_webui: str = OLD
) -> None:
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
    settings = SimpleNamespace(profile="rehearsal", number=lambda key: 1)
    return cast(
        Site, SimpleNamespace(state=tmp_path / "state", settings=settings, tell=lambda line: None)
    )


def ran(home: Path) -> list[str]:
    return (home / "ran").read_text().splitlines() if (home / "ran").exists() else []


def version(home: Path) -> str:
    return (home / "version").read_text().strip()


def unfinished(site: Site) -> bool:
    return (site.state / NOTE).exists()


def test_a_new_version_that_serves_stays(home: Path, site: Site) -> None:
    done = upgrade.upgrade(site, "new")
    assert done["changed"] and done["backup"] == "/backups/today"
    assert ran(home) == ["setup new", "day new"] and version(home) == "new" and not unfinished(site)
    assert upgrade.upgrade(site, "new") == {
        "version": git(home, "rev-parse", "new"),
        "changed": False,
    }


@pytest.mark.parametrize(
    ("to", "expected"),
    [
        ("no-setup", ["setup no-setup", "setup old"]),
        ("no-day", ["setup no-day", "day no-day", "setup old", "restore old", "day old"]),
        ("no-answer", ["setup no-answer", "day no-answer", "setup old", "day old"]),
    ],
)
def test_a_failed_version_is_undone_and_the_chat_restored_only_after_a_migration(
    to: str, expected: list[str], home: Path, site: Site
) -> None:
    with pytest.raises(GlueError, match=f"{to} does not serve") as error:
        upgrade.upgrade(site, to)
    assert error.value.exit_code == 1
    assert ran(home) == expected and version(home) == "old" and not unfinished(site)
    assert files.read_lines(site.state / "journal.jsonl")[-1]["result"] == "undone"


def test_if_neither_version_serves_the_commands_to_type_are_shown(home: Path, site: Site) -> None:
    release(home, "as-broken", broken="day")
    with pytest.raises(DayNotServing) as error:
        upgrade.upgrade(site, "no-answer" if version(home) == "old" else "no-day")
    assert error.value.exit_code == 12 and "git checkout" in error.value.do and unfinished(site)


@pytest.mark.parametrize(("served", "expected"), [(False, []), (True, ["day old"])])
def test_the_next_upgrade_undoes_one_that_died(
    served: bool, expected: list[str], home: Path, site: Site
) -> None:
    before, after = git(home, "rev-parse", "old"), git(home, "rev-parse", "same-chat")
    upgrade.keep(
        site, upgrade.Move(before, after, "/backups/yesterday", migrates=False, served=served)
    )
    git(home, "checkout", "--quiet", "same-chat")
    upgrade.upgrade(site, "old")
    assert ran(home) == ["setup old", *expected] and version(home) == "old" and not unfinished(site)


def test_an_older_open_webui_is_refused_and_a_matching_backup_named(
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
    assert (
        str(folders[1]) in error.value.do
        and version(home) == "new"
        and not ran(home)
        and not unfinished(site)
    )


def test_a_changed_file_is_never_overwritten(home: Path, site: Site) -> None:
    (home / "answer").write_text("mine\n")
    with pytest.raises(PreconditionFailed, match="were changed here") as error:
        upgrade.upgrade(site, "no-answer")
    assert "answer" in error.value.saw and "git stash" in error.value.do
    assert (home / "answer").read_text() == "mine\n" and version(home) == "old"
    assert not ran(home) and not unfinished(site)


def test_a_file_changed_during_the_backup_is_not_overwritten_either(
    home: Path, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def change(site: Site) -> dict[str, str]:
        (home / "answer").write_text("mine\n")
        return {"backup": "/backups/today"}

    monkeypatch.setattr(backup, "backup", change)
    with pytest.raises(PreconditionFailed, match="were changed here"):
        upgrade.upgrade(site, "no-answer")
    assert (home / "answer").read_text() == "mine\n" and not ran(home) and not unfinished(site)


def test_a_version_with_the_same_files_moves_no_branch(home: Path, site: Site) -> None:
    git(home, "checkout", "--quiet", "-b", "mine", "old")
    git(home, "commit", "--quiet", "--allow-empty", "--message", "same files")
    git(home, "tag", "same-files")
    git(home, "reset", "--quiet", "--hard", "old")
    upgrade.upgrade(site, "same-files")
    assert git(home, "rev-parse", "mine") == git(home, "rev-parse", "old")
    assert git(home, "rev-parse", "HEAD") == git(home, "rev-parse", "same-files")


def test_no_upgrade_during_a_night_or_to_an_unknown_version(home: Path, site: Site) -> None:
    with lock.hold(site.state, lock.TRAINING, "a night"), pytest.raises(Locked):
        upgrade.upgrade(site, "new")
    with pytest.raises(PreconditionFailed, match="no such version"):
        upgrade.upgrade(site, "never")
    assert not ran(home) and not unfinished(site)


def test_no_upgrade_without_disk_space_for_git(
    home: Path, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(site.settings, "number", lambda key: 2**62)
    with pytest.raises(PreconditionFailed, match="too little room"):
        upgrade.upgrade(site, "new")
    assert version(home) == "old" and not ran(home) and not unfinished(site)


def test_rotation_keeps_the_backup_that_an_upgrade_may_need(
    home: Path, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, seen = upgrade.make, []

    def look(site: Site, *target: str) -> str:
        seen.append((target[0], lock.held(site.state, backup.LOCK)))
        return make(site, *target)

    monkeypatch.setattr(upgrade, "make", look)
    upgrade.upgrade(site, "new")
    die_after(home, site)
    upgrade.upgrade(site, "old")
    assert seen == [(name, True) for name in ("setup", "day", "ask", "setup")]


# ---------------------------------------------------------------------- a git that does not end
# what it began


@pytest.fixture
def grown(home: Path) -> str:
    """Another version with one more file. A killed git leaves "version", its last file, partly
    written."""
    (home / "added").write_text("new\n")
    release(home, "grown")
    git(home, "checkout", "--quiet", "old")
    (home / "notes").write_text("a person's\n")
    (home / "Makefile").write_text(MAKEFILE + "# a person's\n")
    return "grown"


def test_a_killed_checkout_is_fully_undone(grown: str, home: Path, site: Site) -> None:
    once = f"if rm {site.state}/kill 2>/dev/null; then kill -9 $PPID; fi; cat"
    git(home, "config", "filter.dies.smudge", once)
    (home / ".git" / "info" / "attributes").write_text("version filter=dies\n")
    (site.state / "kill").touch()
    with pytest.raises(GlueError, match=r"grown does not serve; \w+ serves again"):
        upgrade.upgrade(site, grown)
    assert not (site.state / "kill").exists(), "or nothing was killed"
    assert ran(home) == ["setup old"] and version(home) == "old" and not unfinished(site)
    assert git(home, "status", "--porcelain").split() == ["M", "Makefile", "??", "notes"]


@pytest.mark.parametrize("index_written", [False, True])
def test_an_upgrade_that_died_during_checkout_is_fully_undone(
    index_written: bool, grown: str, home: Path, site: Site
) -> None:
    before, after = git(home, "rev-parse", "old"), git(home, "rev-parse", grown)
    upgrade.keep(site, upgrade.Move(before, after, "/backups/today", False))
    if index_written:
        git(home, "read-tree", grown)
    for name, text in {"added": "new\n", "version": "", ".git/index.lock": ""}.items():
        (home / name).write_text(text)
    upgrade.upgrade(site, "old")
    assert ran(home) == ["setup old"] and version(home) == "old"
    assert git(home, "status", "--porcelain").split() == ["M", "Makefile", "??", "notes"]
    git(home, "checkout", "--quiet", grown)
    assert (home / "added").exists()


@pytest.mark.parametrize(("so_often", "error"), [("once", GlueError), ("always", DayNotServing)])
def test_a_file_that_git_wrote_incompletely_is_detected(
    so_often: str, error: type[GlueError], grown: str, home: Path, site: Site
) -> None:
    """A stand-in for a full disk, of which git only warns: a hook that empties a file."""
    hook, full = home / ".git" / "hooks" / "post-checkout", site.state / "full"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(
        f"#!/bin/sh\n[ -e {full} ] || exit 0\n: > version\n[ {so_often} = always ] || rm {full}\n"
    )
    hook.chmod(0o755)
    full.touch()
    with pytest.raises(GlueError) as caught:
        upgrade.upgrade(site, grown)
    assert (
        type(caught.value) is error
        and "did not write all of" in caught.value.saw
        and "version" in caught.value.saw
    )
    assert unfinished(site) == (so_often == "always") and (
        version(home) == "old" or so_often == "always"
    )


def test_an_untracked_file_in_the_way_is_kept(grown: str, home: Path, site: Site) -> None:
    (home / "added").write_text("a person's\n")
    with pytest.raises(PreconditionFailed, match="were changed here"):
        upgrade.upgrade(site, grown)
    assert (home / "added").read_text() == "a person's\n" and version(home) == "old"


# ---------------------------------------------------------------------- the timers meanwhile

DAYS = {"begin": ["setup old", "restore old", "day old"], "nothing": ["setup old"]}


@pytest.mark.parametrize("meanwhile", DAYS)
def test_a_day_that_a_person_started_on_the_new_version_is_undone_too(
    meanwhile: str, home: Path, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = upgrade.make

    def fail_in_setup(site: Site, *target: str) -> str:
        if version(home) == "new":
            (
                journal.record(site.state, event="day", phase=meanwhile)
                if meanwhile == "begin"
                else None
            )
            raise GlueError("make setup failed", "no network", "")
        return make(site, *target)

    journal.record(site.state, event="day", phase="begin")
    monkeypatch.setattr(upgrade, "make", fail_in_setup)
    with pytest.raises(GlueError, match="new does not serve"):
        upgrade.upgrade(site, "new")
    assert ran(home) == DAYS[meanwhile] and version(home) == "old" and not unfinished(site)


def test_the_new_version_is_checked_out_only_under_the_lock_for_switches(
    home: Path, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upgrade, "SWITCH_WAIT_SECONDS", 0.3)
    with lock.hold(site.state, lock.SWITCH, "bring up the day"), pytest.raises(Locked):
        upgrade.upgrade(site, "new")
    assert version(home) == "old" and not ran(home) and not unfinished(site), (
        "nothing was touched, so nothing is undone"
    )


def die_after(home: Path, site: Site, *days: str) -> None:
    """The state after an upgrade that was killed during setup. days: the recorded days since."""
    before, after = git(home, "rev-parse", "old"), git(home, "rev-parse", "new")
    upgrade.keep(site, upgrade.Move(before, after, "/backups/yesterday", migrates=True))
    journal.record(site.state, event="day", phase="done")
    journal.record(site.state, event="upgrade", result="begun", after=after)
    for phase in days:
        journal.record(site.state, event="day", phase=phase)
    git(home, "checkout", "--quiet", "new")


def test_the_next_upgrade_undoes_one_that_died_and_the_old_day_serves(
    home: Path, site: Site
) -> None:
    die_after(home, site, "begin", "failed")
    assert upgrade.upgrade(site, "old")["changed"] is False
    assert ran(home) == ["setup old", "restore old", "day old"] and version(home) == "old"
    assert not unfinished(site)


def test_after_an_upgrade_that_died_no_day_starts_and_status_says_what_to_do(
    home: Path, site: Site
) -> None:
    die_after(home, site, "begin", "failed")
    before = git(home, "rev-parse", "old")[:12]
    for require in (upgrade_note.require_none, upgrade_note.require_none_died):
        with pytest.raises(PreconditionFailed, match="did not finish") as error:
            require(site.state)
        assert f"make upgrade TO={before}" in error.value.do
    assert f"make upgrade TO={before} goes back" in upgrade_note.died(site.state)
    with lock.hold(site.state, lock.UPGRADE, "an upgrade"):
        upgrade_note.require_none_died(site.state)  # the upgrade's own make day
        with pytest.raises(Locked, match="an upgrade runs"):
            upgrade_note.require_none(site.state)
        assert not upgrade_note.died(site.state)
    upgrade.upgrade(site, "old")
    upgrade_note.require_none(site.state)
    assert not upgrade_note.died(site.state)


def test_an_upgrade_whose_day_started_is_finished_and_the_chat_since_stays(
    home: Path, site: Site
) -> None:
    die_after(home, site, "begin", "done")
    upgrade_note.require_none(site.state)
    assert "finishes it" in upgrade_note.died(site.state)
    assert upgrade.upgrade(site, "new")["changed"] is False
    assert not ran(home) and version(home) == "new" and not unfinished(site)
    assert files.read_lines(site.state / "journal.jsonl")[-1]["result"] == "done"


def test_going_back_that_died_is_resumed_although_the_new_day_had_started(
    home: Path, site: Site
) -> None:
    die_after(home, site, "begin", "done")
    left = upgrade.kept(site)
    assert left is not None
    upgrade.as_undoing(site, left)
    with pytest.raises(PreconditionFailed, match="did not finish"):
        upgrade_note.require_none(site.state)
    upgrade.upgrade(site, "old")
    assert ran(home) == ["setup old", "restore old", "day old"] and not unfinished(site)


def test_a_note_by_a_later_version_is_read_and_a_damaged_one_is_refused(
    home: Path, site: Site
) -> None:
    die_after(home, site)
    note = json.loads((site.state / NOTE).read_text())
    (site.state / NOTE).write_text(json.dumps(note | {"of later": 1}))
    upgrade.upgrade(site, "old")
    assert ran(home) == ["setup old"]
    (site.state / NOTE).write_text("{")
    with pytest.raises(GlueError, match="cannot be read"):
        upgrade.upgrade(site, "new")


def test_going_back_that_died_during_its_restore_ends_with_a_day(home: Path, site: Site) -> None:
    die_after(home, site)
    desired_state.write(site.state, DesiredState(Wanted.DOWN))
    (site.state / desired_state.RESTORING).write_text("/backups/yesterday\n")
    upgrade.upgrade(site, "old")
    assert ran(home) == ["setup old", "restore old", "day old"] and not unfinished(site)


@pytest.mark.parametrize("note", ["{", '{"before": "of another version"}'])
def test_a_damaged_note_of_an_upgrade_does_not_stop_the_timers(note: str, site: Site) -> None:
    (site.state / NOTE).write_text(note)
    upgrade_note.require_none(site.state)


def test_the_chat_is_put_back_once_however_often_its_day_is_tried(
    home: Path, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, days = upgrade.make, ["broken"]

    def fail_once(site: Site, *target: str) -> str:
        done = make(site, *target)
        if target == ("day",) and days:
            raise GlueError("make day failed", days.pop(), "")
        return done

    monkeypatch.setattr(upgrade, "make", fail_once)
    die_after(home, site, "begin")
    with pytest.raises(DayNotServing):
        upgrade.upgrade(site, "old")
    upgrade.upgrade(site, "old")
    assert ran(home).count("restore old") == 1 and not unfinished(site)
