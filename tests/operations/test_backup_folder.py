"""Which backups are deleted, whatever clocks and names say, and whether the folder is the right
one."""

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest

from glue.clients import chat_volume, host
from glue.clients.site import Site
from glue.core import files, journal, upgrade_note
from glue.core.errors import GlueError, PreconditionFailed
from glue.machine import backup_folder
from glue.machine.backup_folder import Kept
from glue.operations import backup
from tests.operations.kept_site import holds, make_as_if_at, make_site, with_settings


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    found = make_site(tmp_path / "here", monkeypatch)
    return with_settings(found, BACKUP_DIR=str(tmp_path / "disk" / "backups"))


@pytest.fixture
def other(tmp_path: Path, site: Site, monkeypatch: pytest.MonkeyPatch) -> Site:
    """Another project, or machine, with the same backup folder."""
    return with_settings(
        make_site(tmp_path / "other", monkeypatch),
        BACKUP_DIR=site.settings["BACKUP_DIR"],
        PROJECT="other",
    )


def kept(number: int, people: int = 5, conversations: int = 10) -> Kept:
    return Kept(Path(f"/{number}"), number, {"people": people, "conversations": conversations})


def numbers(found: list[Kept]) -> list[int]:
    return [one.number for one in found]


def test_the_newest_backups_stay_and_the_last_full_one_of_an_emptied_chat() -> None:
    full = [kept(number) for number in (1, 2, 3)]
    assert numbers(backup_folder.removable(full, 2)) == [1]
    assert numbers(backup_folder.removable(full, 9)) == []
    emptied = [kept(number, people=1, conversations=0) for number in (4, 5, 6, 7)]
    assert numbers(backup_folder.removable(full + emptied, 2)) == [1, 2, 4, 5]
    grown_again = [kept(8, people=4, conversations=9), kept(9, people=4, conversations=9)]
    assert numbers(backup_folder.removable(full + emptied + grown_again, 2)) == [
        1,
        2,
        3,
        4,
        5,
        6,
        7,
    ]


def test_a_full_backup_is_not_pushed_out_by_backups_of_an_emptied_chat(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    holds(monkeypatch, people=12, conversations=340)
    full = make_as_if_at(site, "20260101T000000Z")
    holds(monkeypatch, people=1, conversations=0)
    for _ in range(4):
        backup.backup(site)
    assert full.exists() and len(backup.there(site)) == 3
    backup.verified(full)
    said = files.read_lines(site.state / "journal.jsonl")[-1]["warnings"]
    assert len(said) == 1 and "12 people, now 1" in said[0] and "NEW=1" in said[0]
    backup.backup(site, anew=True)
    backup.backup(site)
    assert files.read_lines(site.state / "journal.jsonl")[-1]["warnings"] == [], (
        "a person said that it is right"
    )
    assert full.exists()


def test_rotation_ignores_clocks_and_keeps_the_new_backup(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    ahead = [make_as_if_at(site, f"209{year}0101T000000Z") for year in range(3)]
    done = backup.backup(site)
    assert backup.there(site) == [
        ahead[2],
        Path(done["backup"]),
    ], "a clock that was ahead wins nothing"
    again = make_as_if_at(site, ahead[2].name)
    assert again.name > ahead[2].name and ahead[2].exists(), (
        "a name that is taken is not taken again"
    )


def test_rotation_keeps_foreign_and_renamed_folders(site: Site, other: Site) -> None:
    of_other = [make_as_if_at(other, f"2019010{day}T000000Z") for day in (1, 2, 3)]
    folder = backup_folder.place(site.settings)
    app = folder / "20180101T000000Z"
    app.mkdir()
    (app / files.MANIFEST).write_text('{"name": "an app"}')
    first = make_as_if_at(site, "20200101T000000Z")
    copied = folder / "20170101T000000Z"
    shutil.copytree(first, copied)
    renamed = make_as_if_at(site, "20200102T000000Z").rename(folder / "before-the-move")
    writing = folder / ".unfinished-of-another-machine"
    writing.mkdir()
    for _ in range(3):
        backup.backup(site)
    assert len(backup.there(site)) == 2 and not first.exists()
    assert all(path.exists() for path in [*of_other, app, copied, renamed, writing])


def test_a_machine_with_a_new_host_name_counts_and_rotates_its_own_backups(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = tmp_path / "machine-id"
    known.write_text("0123456789abcdef\n")
    monkeypatch.setattr(backup_folder, "MACHINE_ID", known)
    with monkeypatch.context() as earlier:
        earlier.setattr(backup_folder, "machine", backup_folder.earlier_machine)
        oldest = make_as_if_at(site, "20260101T000000Z")
    before = make_as_if_at(site, "20260102T000000Z")
    assert backup.there(site) == [oldest, before], "an earlier version made the oldest"
    monkeypatch.setattr("platform.node", lambda: "renamed")
    made = backup.backup(site)
    assert backup.there(site) == [before, Path(made["backup"])] and made["kept"] == 2
    known.write_text("another machine\n")
    assert backup.there(site) == []


def test_an_interrupted_removal_leaves_no_complete_backup(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    oldest = make_as_if_at(site, "20200101T000000Z")
    make_as_if_at(site, "20200102T000000Z")

    def die(path: Path, **_: object) -> None:
        (path / "chat" / "webui.db").unlink()
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as death:
        death.setattr(shutil, "rmtree", die)
        with pytest.raises(OSError, match="Input"):
            backup.backup(with_settings(site, BACKUP_KEEP="1"))
    assert not oldest.exists() and len(backup.there(site)) == 1
    backup.backup(site)
    assert not list(backup_folder.place(site.settings).glob(".*"))


# ---------------------------------------------------------------------- whether it is the right one


def unmount(site: Site) -> Path:
    """Simulates an unmount: the mount point becomes an empty folder of the disk below. Returns
    the place of the content."""
    disk = backup_folder.place(site.settings).parent
    away = disk.rename(disk.with_name("away"))
    disk.mkdir()
    return away


def test_the_backup_that_an_upgrade_may_go_back_to_is_kept_until_it_has_ended(site: Site) -> None:
    made = [make_as_if_at(site, f"2026010{day}T000000Z") for day in (1, 2, 3)]
    note = {"before": "1", "after": "2", "backup": str(made[0])}
    (site.state / upgrade_note.NOTE).write_text(json.dumps(note))
    one = with_settings(site, BACKUP_KEEP="1")
    backup.forget_old(one)
    assert backup.there(site) == [made[0], made[2]]
    (site.state / upgrade_note.NOTE).unlink()
    backup.forget_old(one)
    assert backup.there(site) == [made[2]]


def test_no_backup_is_made_while_its_disk_is_not_mounted(site: Site) -> None:
    backup.backup(site)
    away = unmount(site)
    with pytest.raises(PreconditionFailed, match="not contain the earlier backups") as error:
        backup.backup(site)
    assert "contains no backup; the last backup there was made on" in error.value.saw
    assert "mount its disk" in error.value.do and "NEW=1" in error.value.do
    assert not backup_folder.place(site.settings).exists()
    assert "contains no backup" in backup_folder.fault(site.settings)
    assert files.read_lines(site.state / "journal.jsonl")[-1]["result"] == "failed"
    backup_folder.place(site.settings).parent.rmdir()
    away.rename(backup_folder.place(site.settings).parent)
    assert backup.backup(site)["kept"] == 2


def test_a_new_disk_is_accepted_with_new_1(site: Site) -> None:
    backup.backup(site)
    unmount(site)
    backup.backup(site, anew=True)
    assert backup.backup(site)["kept"] == 2


def test_a_missing_disk_is_detected_despite_backups_in_its_mount_point(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as mounted:
        mounted.setattr(host, "on_one_disk", lambda one, other: False)
        backup.backup(site)
        assert backup_folder.fault(site.settings) == ""
    assert backup_folder.fault(site.settings).endswith(", on a separate disk")


@pytest.mark.parametrize("elsewhere", ["backups", "/tmp/another"])
def test_another_backup_dir_and_a_folder_of_the_state_folder_need_no_earlier_backup(
    elsewhere: str, site: Site
) -> None:
    journal.record(
        site.state, event="backup", result="done", folder=str(site.state / "backups" / "1")
    )
    backup.backup(site)
    assert backup_folder.fault(with_settings(site, BACKUP_DIR=elsewhere).settings) == ""


def test_a_state_folder_with_lost_files_is_not_backed_up(site: Site) -> None:
    backup.backup(site)
    (site.state / "secrets.env").unlink()
    with pytest.raises(PreconditionFailed, match="has lost files") as error:
        backup.backup(site)
    assert "secrets.env" in error.value.saw and f"FROM={backup.there(site)[0]}" in error.value.do
    assert len(backup.there(site)) == 1


def test_a_copy_without_a_valid_database_is_not_a_backup(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def copy_out(settings: object, target: Path) -> None:
        target.mkdir()
        (target / "webui.db").write_text("x" * 5000)

    monkeypatch.setattr(chat_volume, "copy_out", copy_out)
    with pytest.raises(GlueError, match="incomplete"):
        backup.backup(site)
    assert backup.there(site) == []


def test_a_backup_name_is_a_free_time_stamp(tmp_path: Path) -> None:
    now = datetime(2026, 1, 1, 23, 59, 59, tzinfo=UTC)
    (tmp_path / backup.free_name(tmp_path, now)).mkdir()
    assert backup.free_name(tmp_path, now) == "20260102T000000Z"


def test_without_space_the_backups_to_remove_by_hand_are_named(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make_as_if_at(site, "20260101T000000Z")
    monkeypatch.setattr(host, "free_disk_bytes", lambda folder: 0)
    with pytest.raises(PreconditionFailed, match="no room") as error:
        backup.make(site)
    assert made.name not in error.value.do
    (made / files.MANIFEST_CHECKSUM).unlink()
    facts = json.loads((made / files.MANIFEST).read_text())
    (made / files.MANIFEST).write_text(
        json.dumps({key: facts[key] for key in ("made", "sha256", "links", "images")})
    )
    with pytest.raises(PreconditionFailed, match="no room") as error:
        backup.make(site)
    assert f"other machines or versions made: {made.name}" in error.value.do
