"""Damaged backups, and damaged files that are backed up. The volume is a folder; everything else
is real."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, cast

import pytest

from glue.clients.docker import Stacks
from glue.clients.site import Site
from glue.core import desired_state, files, settings
from glue.core.errors import GlueError, PreconditionFailed
from glue.machine import backup_folder
from glue.operations import backup, restore, setup
from glue.serving import status
from tests.operations.kept_site import (
    WEIGHTS,
    NoStacks,
    make_as_if_at,
    make_site,
    volume_is,
    with_settings,
    write_chat,
)

RANGES = 6
Files = dict[str, bytes]


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    return make_site(tmp_path / "here", monkeypatch)


@pytest.fixture
def other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """Another machine, with its own good chat, adapters and settings."""
    found = make_site(tmp_path / "other", monkeypatch)
    (found.state / WEIGHTS).write_text("its own weights")
    home, data = tmp_path / "home", tmp_path / "volume"
    (home / "env" / "recipes").mkdir(parents=True)
    shutil.copy(settings.REPOSITORY / "env" / "images.env", home / "env")
    monkeypatch.setattr(restore, "REPOSITORY", home)
    data.mkdir()
    write_chat(data / "webui.db", people=9)
    volume_is(data, monkeypatch)
    monkeypatch.setattr(setup, "ensure_state", lambda *_: None)
    return replace(found, stacks=cast(Stacks, NoStacks()))


def good_files(site: Site) -> Files:
    """The files that a restore may replace: the other machine's state, volume and settings."""
    root = site.state.parents[1]
    kept = [
        site.state / WEIGHTS,
        site.state / "secrets.env",
        *files.listed(root / "volume"),
        *files.listed(root / "home"),
    ]
    return {str(path): path.read_bytes() for path in kept}


def flipped(content: bytes, begin: int, end: int) -> bytes:
    return content[:begin] + bytes(255 - byte for byte in content[begin:end]) + content[end:]


def damages(content: bytes) -> Iterator[bytes | None]:
    """The content with each byte range changed once; truncated; extended; empty; and None for a
    missing file."""
    step = max(1, -(-len(content) // RANGES))
    yield from (flipped(content, begin, begin + step) for begin in range(0, len(content), step))
    yield from (content[:-1], content + b"\0", b"", None)


def test_any_damage_is_detected_and_overwrites_nothing(site: Site, other: Site) -> None:
    made, before, tried = backup.make(site), good_files(other), 0
    for path in list(files.listed(made)):
        content = path.read_bytes()
        for damaged in damages(content):
            if damaged == content:
                continue
            path.unlink()
            if damaged is not None:
                path.write_bytes(damaged)
            with pytest.raises(PreconditionFailed):
                restore.restore(other, made, replace=True)
            tried += 1
        path.write_bytes(content)
    assert good_files(other) == before and tried > 60
    restore.restore(other, made, replace=True)
    assert good_files(other) != before, "undamaged, it is restored"


@pytest.mark.parametrize(
    "name", ["chat/webui.db", f"state/{WEIGHTS}", "state/secrets.env", "env/recipes/team.toml"]
)
def test_a_file_damaged_after_the_check_replaces_nothing(
    name: str, site: Site, other: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, before, check = backup.make(site), good_files(other), backup.verified

    def check_and_damage(folder: Path) -> dict[str, Any]:
        manifest = check(folder)
        (made / name).write_bytes(flipped((made / name).read_bytes(), 0, 1))
        return manifest

    monkeypatch.setattr(backup, "verified", check_and_damage)
    with pytest.raises(GlueError, match="changed while it was read"):
        restore.restore(other, made, replace=True)
    target = {"chat": "volume/", "state": "other/state/", "env": "home/env/"}[
        name.split("/")[0]
    ] + name.split("/", 1)[1]
    path = other.state.parents[1] / target
    assert (path.read_bytes() if path.exists() else None) == before.get(str(path))
    assert desired_state.unfinished_restore(other.state), "no day begins on a mixture"
    assert not list(other.state.parents[1].rglob("*.toml.unfinished"))


def test_files_not_in_the_manifest_are_not_restored(site: Site, other: Site) -> None:
    made = backup.make(site)
    (made / "state" / "secrets.env.orig").write_text("of somebody else")
    (made / "chat" / "webui.db-wal").write_text("of another database")
    restore.restore(other, made, replace=True)
    assert not (other.state / "secrets.env.orig").exists()
    assert not (other.state.parents[1] / "volume" / "webui.db-wal").exists()


def test_restored_files_have_the_right_modes(site: Site, other: Site) -> None:
    (site.state / "tls").mkdir()
    for name in ("tls/authority.key", "tls/chat.pem", "journal.jsonl", "models.json"):
        (site.state / name).write_text("")
    (site.state / "nights" / "one" / "dataset").mkdir(parents=True)
    (site.state / "nights" / "one" / "dataset" / "train.jsonl").write_text("")
    made = backup.make(site)
    for path in [made, *made.rglob("*")]:
        path.chmod(0o755)  # what an office's share shows
    umask = os.umask(0)
    try:
        restore.restore(other, made, replace=True)
    finally:
        os.umask(umask)
    modes = {
        name: (other.state / name).stat().st_mode & 0o777
        for name in ("tls", "nights", "nights/one/dataset", "adapters")
    }
    assert modes == {"tls": 0o700, "nights": 0o755, "nights/one/dataset": 0o700, "adapters": 0o755}
    for name in (
        "secrets.env",
        "tls/authority.key",
        "tls/chat.pem",
        "nights/one/dataset/train.jsonl",
    ):
        assert (other.state / name).stat().st_mode & 0o777 == 0o600
    for name in (
        WEIGHTS,
        "models.json",
    ):  # which containers read as another user, or as root without root's powers
        assert (other.state / name).stat().st_mode & 0o777 == 0o644


# ---------------------------------------------------------------------- a manifest that is none of
# ours


def remake(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Changes the manifest, with a matching checksum."""
    manifest = json.loads((folder / files.MANIFEST).read_text())
    files.write_json(folder / files.MANIFEST, change(manifest))
    files.write(folder / files.MANIFEST_CHECKSUM, files.checksum_line(folder))


@pytest.mark.parametrize(
    "change",
    [
        lambda manifest: [],
        lambda manifest: "text",
        lambda manifest: {"name": "an app", "version": 3},
        lambda manifest: manifest | {"sha256": []},
        lambda manifest: manifest | {"links": None},
        lambda manifest: manifest | {"images": "open-webui"},
        lambda manifest: manifest | {"sha256": {"../../secrets.env": "0"}},
        lambda manifest: manifest | {"sha256": {"/etc/passwd": "0"}},
        lambda manifest: manifest | {"links": {"state/../../current": "one"}},
        lambda manifest: manifest | {"sha256": manifest["sha256"] | {"chat/webui.db": 7}},
    ],
)
def test_a_manifest_by_another_program_is_refused(
    change: Callable[[dict[str, Any]], Any], site: Site
) -> None:
    made = backup.make(site)
    remake(made, change)
    with pytest.raises(PreconditionFailed) as error:
        backup.verified(made)
    assert str(made) in error.value.saw


def test_a_format_1_backup_without_a_manifest_checksum_is_restored(site: Site, other: Site) -> None:
    made = backup.make(site)
    old = ("made", "sha256", "links", "images")
    remake(made, lambda manifest: {key: manifest[key] for key in old})
    (made / files.MANIFEST_CHECKSUM).unlink()
    assert restore.restore(other, made, replace=True)["restored"] == made.name


# ---------------------------------------------------------------------- damage before it is backed
# up


def test_a_damaged_adapter_of_the_earlier_backup_is_not_linked_to_and_is_a_warning(
    site: Site,
) -> None:
    first = make_as_if_at(site, "20260101T000000Z")
    os.truncate(first / "state" / WEIGHTS, 3)
    backup.backup(site)
    second = backup.there(site)[-1]
    assert (second / "state" / WEIGHTS).read_text() == "weights"
    rows = files.read_lines(site.state / "journal.jsonl")
    assert rows[-1]["warnings"] == [f"{first / 'state' / WEIGHTS} is damaged"]
    said = status.overdue(rows, datetime.now().astimezone(), 216, 216)
    assert said == [f"the last backup: {first / 'state' / WEIGHTS} is damaged"]


def test_a_damaged_adapter_here_is_a_warning_and_the_earlier_backups_copy_is_kept(
    site: Site,
) -> None:
    make_as_if_at(site, "20260101T000000Z")
    (site.state / WEIGHTS).write_text("weighty")
    second = make_as_if_at(site, "20260102T000000Z")
    assert (second / "state" / WEIGHTS).read_text() == "weights"
    assert json.loads((second / files.MANIFEST).read_text())["warnings"] == [
        f"{site.state / WEIGHTS} is damaged"
    ]


def test_an_adapter_damaged_before_its_backup_replaces_no_good_one(site: Site, other: Site) -> None:
    (other.state / WEIGHTS).write_text("weights")
    (site.state / WEIGHTS).write_text("weighty")
    made = backup.make(site)
    told: list[str] = []
    restore.restore(replace(other, tell=told.append), made, replace=True)
    assert (other.state / WEIGHTS).read_text() == "weights"
    assert any("was damaged before it was backed up" in line for line in told)


# ---------------------------------------------------------------------- never a backup in a backup


@pytest.mark.parametrize("before", ["backups", "old/backups", "."])
def test_backups_of_an_earlier_backup_dir_are_in_no_backup(
    before: str, site: Site, tmp_path: Path
) -> None:
    backup.make(with_settings(site, BACKUP_DIR=before))
    made = backup.make(with_settings(site, BACKUP_DIR=str(tmp_path / "elsewhere")))
    assert not [path for path in made.rglob("webui.db") if path.parent != made / "chat"]


def test_a_backup_dir_that_is_reached_by_a_link_is_in_no_backup(site: Site) -> None:
    (site.state / "place").mkdir()
    (site.state / "way").symlink_to("place")
    here = with_settings(site, BACKUP_DIR="way")
    for _ in range(2):
        made = backup.make(here)
    assert not (made / "state" / "place").exists()
    assert backup_folder.place(here.settings) / made.name == made
