"""Backups, without Docker: SQLite is real and written to during the copy; tests/e2e has the full
round trip."""

import io
import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

import webui_data
from glue.clients import chat_volume
from glue.clients.docker import Stacks
from glue.clients.site import Site
from glue.core import commands, files, lock, settings
from glue.core.errors import GlueError, PreconditionFailed
from glue.core.files import sha256
from glue.machine import backup_folder
from glue.operations import backup, backup_contents, restore, setup
from glue.serving import adapters, export
from tests.core.test_state import make_checkpoint, publish
from tests.operations.kept_site import NoStacks, make_as_if_at, make_site


def chat(folder: Path) -> Path:
    """A volume as Open WebUI leaves it, with databases in WAL mode."""
    data = folder / "data"
    (data / "vector_db" / "index").mkdir(parents=True)
    (data / "uploads").mkdir()
    for name in ("webui.db", "vector_db/chroma.sqlite3"):
        with sqlite3.connect(data / name) as database:
            database.execute("PRAGMA journal_mode=WAL")
            database.execute("CREATE TABLE t (a INTEGER, b INTEGER)")
    (data / "vector_db" / "index" / "data_level0.bin").write_bytes(b"vectors")
    (data / "uploads" / "a.pdf").write_bytes(b"pdf")
    (data / "cache").mkdir()
    (data / "cache" / "big").write_bytes(b"not needed")
    return data


def packed(data: Path) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w|") as tar:
        webui_data.pack(data, tar)
    return stream.getvalue()


def test_a_database_in_use_is_copied_consistently(tmp_path: Path) -> None:
    data, stop = chat(tmp_path), threading.Event()

    def write_pairs() -> None:
        with sqlite3.connect(data / "webui.db", timeout=60) as database:
            number = 0
            while not stop.is_set():
                number += 1
                with database:
                    database.execute("INSERT INTO t VALUES (?, 0)", (number,))
                    database.execute("UPDATE t SET b = a WHERE a = ?", (number,))

    writer = threading.Thread(target=write_pairs)
    writer.start()
    try:
        copies = [packed(data) for _ in range(5)]
    finally:
        stop.set()
        writer.join()
    for number, copy in enumerate(copies):
        target = tmp_path / f"restored-{number}"
        target.mkdir()
        with tarfile.open(fileobj=io.BytesIO(copy), mode="r|") as tar:
            webui_data.unpack(target, tar)
        with sqlite3.connect(target / "webui.db") as database:
            assert database.execute("SELECT count(*) FROM t WHERE a != b").fetchone() == (0,)
        assert (target / "vector_db" / "index" / "data_level0.bin").read_bytes() == b"vectors"
        assert (target / "uploads" / "a.pdf").exists() and not (target / "cache").exists()


def test_a_restore_first_empties_the_volume_including_journals(
    tmp_path: Path,
) -> None:
    copy = packed(chat(tmp_path))
    there = tmp_path / "there"
    (there / "uploads").mkdir(parents=True)
    for name in ("webui.db-wal", "webui.db-shm", "uploads/old.pdf"):
        (there / name).write_bytes(b"old")
    with tarfile.open(fileobj=io.BytesIO(copy), mode="r|") as tar:
        webui_data.unpack(there, tar)
    assert sorted(path.name for path in there.rglob("*") if path.is_file()) == [
        "a.pdf",
        "chroma.sqlite3",
        "data_level0.bin",
        "webui.db",
    ]


def test_a_copy_of_constantly_changing_vectors_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = chat(tmp_path)
    index = data / "vector_db" / "index" / "data_level0.bin"
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    copy = webui_data.copy_database

    def copy_and_change(source: Path, target: Path) -> None:
        copy(source, target)
        with index.open("ab") as file:
            file.write(b"more")

    monkeypatch.setattr(webui_data, "copy_database", copy_and_change)
    with pytest.raises(ValueError, match="changed during every attempt"):
        packed(data)


def test_a_copy_of_an_empty_volume_fails_and_creates_nothing(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    with pytest.raises(ValueError, match=r"there is no webui\.db"):
        packed(tmp_path / "data")
    assert list((tmp_path / "data").iterdir()) == []


def test_a_tar_cannot_write_outside_its_folder(tmp_path: Path) -> None:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
        for name in ("in/it", "/tmp/out-of-it", "../out"):
            entry = tarfile.TarInfo(name)
            entry.size = 1
            tar.addfile(entry, io.BytesIO(b"x"))
    stream.seek(0)
    fault = chat_volume.unpack(cast(commands.Output, stream), tmp_path / "target")
    assert isinstance(fault, tarfile.OutsideDestinationError)
    assert {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()} == {
        "target/in/it",
        "target/tmp/out-of-it",
    }


# ---------------------------------------------------------------------- on the host


def small_disk(folder: Path, size: str) -> Iterator[Path]:
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode != 0:
        pytest.skip("only root may mount a small disk")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    yield from small_disk(tmp_path / "disk", "12m")


def run_here(data: Path, monkeypatch: pytest.MonkeyPatch, more: str = "") -> None:
    """Runs the program of Open WebUI's image here. more: code to run after its verb."""
    code = "import pathlib, sys; import glue; import webui_data as here; "
    code += f"here.DATA = pathlib.Path({str(data)!r}); here.main(sys.argv[1]); {more}"
    monkeypatch.setattr(
        chat_volume, "command", lambda settings, verb: [sys.executable, "-c", code, verb]
    )


def test_copying_a_chat_needs_its_size_only_once(
    tmp_path: Path, disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = chat(tmp_path)
    (data / "uploads" / "big").write_bytes(bytes(8 * 2**20))
    run_here(data, monkeypatch)
    chat_volume.copy_out(settings.load("rehearsal"), disk / "unfinished" / "chat")
    assert sorted(path.name for path in (disk / "unfinished").rglob("*") if path.is_file()) == [
        "a.pdf",
        "big",
        "chroma.sqlite3",
        "data_level0.bin",
        "webui.db",
    ]
    assert (disk / "unfinished" / "chat" / "uploads" / "big").stat().st_size == 8 * 2**20


@pytest.mark.parametrize("data", ["whole", "empty"])
def test_a_copy_whose_program_fails_raises_with_its_output(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty").mkdir()
    run_here(
        chat(tmp_path) if data == "whole" else tmp_path / "empty",
        monkeypatch,
        "sys.exit('the volume went away')",
    )
    with pytest.raises(GlueError, match="failed") as error:
        chat_volume.copy_out(settings.load("rehearsal"), tmp_path / "chat")
    assert (
        "the volume went away" if data == "whole" else "there is no webui.db"
    ) in error.value.saw


@pytest.mark.parametrize("written", ["", "head -c 1000 /dev/urandom"], ids=["nothing", "no tar"])
def test_a_copy_that_is_not_a_tar_fails(
    written: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chat_volume, "command", lambda settings, verb: ["bash", "-c", written])
    with pytest.raises(GlueError, match="incomplete"):
        chat_volume.copy_out(settings.load("rehearsal"), tmp_path / "chat")


def test_a_chat_s_size_is_measured_before_copying(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_here(chat(tmp_path), monkeypatch)
    databases, uploads = chat_volume.sizes(settings.load("rehearsal"))
    assert uploads == len(b"pdf") and 2 * 4096 + len(b"vectors") <= databases < 10**5
    chat_volume.copy_out(settings.load("rehearsal"), tmp_path / "copy")
    copied = sum(path.stat().st_size for path in (tmp_path / "copy").rglob("*") if path.is_file())
    assert copied <= databases + uploads


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    return make_site(tmp_path, monkeypatch)


def test_a_backup_contains_only_what_cannot_be_made_again(site: Site) -> None:
    made = backup.make(site)
    manifest = backup.verified(made)
    assert {name for name in manifest["sha256"] if not name.startswith("env/")} == {
        "chat/webui.db",
        "state/adapters/one/adapter_model.safetensors",
        "state/adapters/one/manifest.json",
        "state/secrets.env",
    }
    assert manifest["links"] == {"state/adapters/current": "one"}
    assert (
        made / "state" / "secrets.env"
    ).stat().st_mode & 0o777 == 0o600 and made.stat().st_mode & 0o077 == 0


def test_only_whole_names_are_left_out_of_a_backup_and_a_restore(site: Site) -> None:
    kept = {"reservations/alarm.json.md", "our.locksmith", "nights/reserve.txt", "my.lock/a"}
    left_out = {"night.lock", ".lock-probe-1", "x.json.unfinished", "adapters/.unfinished-1/a"}
    for name in kept | left_out:
        (site.state / name).parent.mkdir(parents=True, exist_ok=True)
        (site.state / name).write_text("a")
    made = backup.make(site)
    names = {name.removeprefix("state/") for name in backup.verified(made)["sha256"]}
    assert kept <= names and not left_out & names
    (site.state / "reservations" / "alarm.json.md").unlink()
    restore.put_back_state(site.state, made, backup.verified(made))
    assert (site.state / "reservations" / "alarm.json.md").read_text() == "a"


def test_no_backup_contains_a_lock_of_glue() -> None:
    sources = [path.read_text() for path in (settings.REPOSITORY / "glue").rglob("*.py")]
    locks = {
        name for text in sources for name in re.findall(r'^[A-Z]+ = "(\w+\.lock)"', text, re.M)
    }
    assert len(locks) > 4 and locks <= set(backup_contents.NOT_NEEDED)


def test_an_adapter_in_an_earlier_backup_takes_no_space(site: Site) -> None:
    first, second = make_as_if_at(site, "20260101T000000Z"), make_as_if_at(site, "20260102T000000Z")
    weights = "state/adapters/one/adapter_model.safetensors"
    assert (first / weights).stat().st_ino == (second / weights).stat().st_ino
    assert (first / "state/secrets.env").stat().st_ino != (
        second / "state/secrets.env"
    ).stat().st_ino


def test_the_newest_backups_are_kept_and_incomplete_ones_do_not_count(site: Site) -> None:
    for day in (1, 2, 3):
        make_as_if_at(site, f"2026010{day}T000000Z")
    (backup_folder.place(site.settings) / "20260104T000000Z").mkdir()
    backup.forget_old(site)
    assert [path.name for path in backup.there(site)] == ["20260102T000000Z", "20260103T000000Z"]
    backup.verified(backup.there(site)[0])


def test_a_failed_backup_is_recorded_and_leaves_no_files(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backup, "to_restic", lambda site, made: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        backup.backup(site)
    last = files.read_lines(site.state / "journal.jsonl")[-1]
    assert (last["event"], last["result"]) == ("backup", "failed")


def test_a_backup_that_does_not_fit_is_deleted_at_once(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill_the_disk(settings: object, target: Path) -> None:
        target.mkdir()
        (target / "webui.db").write_text("peo")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(chat_volume, "copy_out", fill_the_disk)
    with pytest.raises(OSError, match="No space"):
        backup.backup(site)
    assert not list(backup_folder.place(site.settings).iterdir())


def on_small_disk(site: Site, disk: Path) -> Site:
    """The site with its state folder on a disk of 12 MB, 4 MB of which are reserved for the chat
    and a night."""
    shutil.copytree(site.state, disk / "state", symlinks=True)
    values = site.settings.values | {"STATE_DIR": str(disk / "state"), "DISK_FREE_BYTES": "4000000"}
    return replace(site, settings=replace(site.settings, values=values))


@pytest.mark.parametrize(
    ("databases", "uploads", "elsewhere", "fits"),
    [
        (1, 1, False, True),
        (5, 0, False, False),  # twice: the container holds them too
        (0, 7, False, True),
        (0, 9, False, False),  # the reserve
        (4, 5, True, True),  # nobody writes to that disk but the backup
        (4, 9, True, False),
    ],
)
def test_a_backup_starts_only_if_it_leaves_the_reserve_on_the_chat_s_disk(
    databases: int,
    uploads: int,
    elsewhere: bool,
    fits: bool,
    site: Site,
    tmp_path: Path,
    disk: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    here = on_small_disk(site, disk)
    if elsewhere:
        values = here.settings.values | {
            "STATE_DIR": str(tmp_path / "state"),
            "BACKUP_DIR": str(disk / "backups"),
        }
        here = replace(site, settings=replace(site.settings, values=values))
    monkeypatch.setattr(chat_volume, "sizes", lambda settings: (databases * 10**6, uploads * 10**6))
    if fits:
        backup.backup(here)
        return
    copied: list[Path] = []
    monkeypatch.setattr(chat_volume, "copy_out", lambda settings, target: copied.append(target))
    with pytest.raises(PreconditionFailed, match="no room") as error:
        backup.backup(here)
    assert not copied and not list(backup_folder.place(here.settings).iterdir())
    assert "GB needed on the disk of" in error.value.saw and "GB free" in error.value.saw
    last = files.read_lines(here.state / "journal.jsonl")[-1]
    assert (
        last["result"] == "failed"
        and "needed" in last["reason"]
        and "BACKUP_KEEP" in last["reason"]
    )


def test_known_adapters_need_space_only_without_hard_links(
    site: Site, disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = on_small_disk(site, disk)
    (here.state / "adapters" / "one" / "adapter_model.safetensors").write_bytes(bytes(3 * 10**6))
    (here.state / "scratch").mkdir()
    (here.state / "scratch" / "not-needed").write_bytes(bytes(10**6))
    make_as_if_at(here, "20260101T000000Z")  # 4 MB of 12 left, and 4 reserved
    make_as_if_at(here, "20260102T000000Z")

    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    with pytest.raises(PreconditionFailed, match="no room"):
        make_as_if_at(here, "20260103T000000Z")


def test_a_smaller_backup_keep_frees_the_missing_space(
    site: Site, disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = on_small_disk(site, disk)

    def copy_out(settings: object, target: Path) -> None:
        target.mkdir()
        (target / "big").write_bytes(bytes(3 * 10**6))

    monkeypatch.setattr(chat_volume, "copy_out", copy_out)
    monkeypatch.setattr(chat_volume, "sizes", lambda settings: (0, 3 * 10**6))
    for day in (1, 2):
        make_as_if_at(here, f"2026010{day}T000000Z")
    with pytest.raises(PreconditionFailed, match="no room"):
        backup.backup(here)
    fewer = replace(here.settings, values=here.settings.values | {"BACKUP_KEEP": "1"})
    backup.backup(replace(here, settings=fewer))


@pytest.mark.parametrize("change", ["a byte", "a file", "the manifest"])
def test_a_changed_backup_is_not_restored(change: str, site: Site) -> None:
    made = backup.make(site)
    if change == "a byte":
        (made / "chat" / "webui.db").write_text("People")
    if change == "a file":
        (made / "state" / "secrets.env").unlink()
    if change == "the manifest":
        (made / "manifest.json").write_text("{")
    with pytest.raises(PreconditionFailed):
        backup.verified(made)


def test_state_is_restored_over_a_fresh_one(site: Site, tmp_path: Path) -> None:
    made = backup.make(site)
    fresh = tmp_path / "fresh"
    (fresh / "adapters").mkdir(parents=True)
    (fresh / "adapters" / "current").symlink_to("another")
    (fresh / "secrets.env").write_text("KEY=new")
    restore.put_back_state(fresh, made, backup.verified(made))
    assert (fresh / "secrets.env").read_text() == "KEY=secret"
    assert (fresh / "adapters" / "current").resolve() == fresh / "adapters" / "one"
    assert sha256(fresh / "adapters" / "one" / "adapter_model.safetensors") == sha256(
        site.state / "adapters" / "one" / "adapter_model.safetensors"
    )


def test_own_recipes_and_models_are_restored_and_different_images_are_reported(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    for home in (old, new):
        shutil.copytree(
            settings.REPOSITORY / "env", home / "env", ignore=shutil.ignore_patterns("site.env")
        )
    (old / "env" / "recipes" / "ours.toml").write_text("ours")
    (old / "env" / "models" / "mine.toml").write_text("mine")
    (new / "env" / "recipes" / "team.toml").write_text("this machine's")
    monkeypatch.setattr(backup_contents, "REPOSITORY", old)
    monkeypatch.setattr(restore, "REPOSITORY", new)
    made = backup.make(site)
    words = restore.put_back_settings(
        made / "env", files.below("env", backup.verified(made)["sha256"])
    )
    assert "models restored: mine.toml; recipes restored: ours.toml" in words
    assert "team.toml" not in words and "images.env" not in words
    assert (new / "env" / "recipes" / "ours.toml").read_text() == "ours"
    assert (new / "env" / "recipes" / "team.toml").read_text() == "this machine's"
    (new / "env" / "images.env").write_text("VLLM_IMAGE=newer\n")
    words = restore.put_back_settings(
        made / "env", files.below("env", backup.verified(made)["sha256"])
    )
    assert "images.env is this machine's, and differs" in words and "ours.toml" not in words


def test_a_merged_adapter_is_restored_and_its_checkpoint_can_be_made_again(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for content in ("two", "three"):
        name = publish(site.store, content)
        make_checkpoint(site.store, name, content)
        site.store.serve_as(name, True)
        site.store.advance(name)
    made = backup.make(site)
    fresh = replace(
        site,
        settings=replace(
            site.settings, values=site.settings.values | {"STATE_DIR": str(tmp_path / "fresh")}
        ),
    )
    restore.put_back_state(fresh.state, made, backup.verified(made))
    before = site.store.before()
    assert fresh.store.current() == name and not fresh.store.serves_merged()
    assert adapters.without_unfit(fresh, fresh.store.before()) == before, (
        "a good release was passed over"
    )

    def make_again(site: Site, command: list[str], release: str) -> dict[str, object]:
        folder = site.state / command[3].removeprefix("/")
        folder.mkdir()
        (folder / "config.json").write_text("{}")
        return {}

    monkeypatch.setattr(export, "make", make_again)
    (fresh.state / "nights").mkdir(exist_ok=True)
    no_trainer = SimpleNamespace(missing_images=lambda references: [], trainer=lambda: None)
    assert adapters.prepare(replace(fresh, stacks=cast(Stacks, no_trainer)), name, "merged")
    assert (fresh.store.folder / name / "checkpoint" / "config.json").exists()


@pytest.mark.parametrize(
    ("here", "made_with", "refused"),
    [
        ("x/open-webui:v0.12.4", "x/open-webui:v0.12.4", False),
        ("x/open-webui:v0.13.0@sha256:ab", "x/open-webui:v0.12.4", False),
        ("x/open-webui:v0.12.4", "x/open-webui:v0.12.10", True),
        ("dual-use/open-webui:1", "dual-use/open-webui:2", True),
    ],
)
def test_a_backup_of_a_newer_chat_is_refused(
    here: str, made_with: str, refused: bool, site: Site
) -> None:
    older = replace(
        site.settings, values=site.settings.values | {"REHEARSAL_OPEN_WEBUI_IMAGE": here}
    )
    manifest = {"images": {"OPEN_WEBUI_IMAGE": made_with}}
    if refused:
        with pytest.raises(PreconditionFailed, match="newer Open WebUI"):
            restore.refuse_downgrade(replace(site, settings=older), manifest)
    else:
        restore.refuse_downgrade(replace(site, settings=older), manifest)


@pytest.mark.parametrize("alive", [False, True])
def test_a_restore_ends_a_dead_upgrade_but_not_one_that_called_it(
    alive: bool, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, note = backup.make(site), site.state / "upgrade.json"
    (made / "state" / "upgrade.json").write_text("of an older version's backup")
    for module, name in (
        (chat_volume, "fill"),
        (restore, "put_back_settings"),
        (setup, "ensure_state"),
    ):
        monkeypatch.setattr(module, name, lambda *_: "")
    idle = replace(site, stacks=cast(Stacks, NoStacks()))
    with lock.hold(site.state, lock.UPGRADE, "an upgrade") if alive else nullcontext():
        restore.restore(idle, made, replace=True)
    assert note.exists() == alive and (not alive or note.read_text() == "{}")


def test_backup_and_restore_work_on_a_share_without_links(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stand-in for such a share, which a test cannot mount: it refuses every link."""

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    with monkeypatch.context() as share:
        share.setattr(os, "link", refuse)
        share.setattr(os, "symlink", refuse)
        make_as_if_at(site, "20260101T000000Z")
        second = make_as_if_at(site, "20260102T000000Z")
    manifest = backup.verified(second)
    assert not any(path.is_symlink() for path in second.rglob("*"))
    restore.put_back_state(tmp_path / "fresh", second, manifest)
    assert (
        tmp_path / "fresh" / "adapters" / "current" / "adapter_model.safetensors"
    ).read_text() == "weights"


def test_a_failing_second_copy_does_not_stop_the_deletion_of_old_backups(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    for day in (1, 2):
        make_as_if_at(site, f"2020010{day}T000000Z")
    monkeypatch.setattr(backup, "to_restic", lambda site, made: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        backup.backup(site)
    assert len(backup.there(site)) == 2


def test_restic_runs_if_configured_and_its_failure_fails_the_backup(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stand-in for restic that records its arguments."""
    stand_in = tmp_path / "bin" / "restic"
    stand_in.parent.mkdir()
    stand_in.write_text(
        f'#!/bin/sh\necho "$RESTIC_REPOSITORY $@" >> {tmp_path}/asked\n[ "$1" = backup ] ||'
        " exit 3\n"
    )
    stand_in.chmod(0o755)
    monkeypatch.setenv("PATH", f"{stand_in.parent}:{os.environ['PATH']}")
    configured = replace(site.settings, values=site.settings.values | {"RESTIC_REPOSITORY": "/nas"})
    with pytest.raises(Exception, match="restic forget failed"):
        backup.backup(replace(site, settings=configured))
    asked = (tmp_path / "asked").read_text().splitlines()
    assert asked[0].startswith("/nas backup --tag=dual-use ") and asked[1].startswith("/nas forget")
    assert (
        json.loads((site.state / "journal.jsonl").read_text().splitlines()[-1])["result"]
        == "failed"
    )
