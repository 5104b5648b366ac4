"""What a backup contains, and how it is copied."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from glue.core import files, lock, upgrade_note
from glue.core.files import sha256
from glue.core.settings import REPOSITORY
from glue.machine import backup_folder
from glue.machine.backup_folder import Kept

# names of folders, anywhere in the state folder
LEFT_OUT = ("scratch", "adapter", "checkpoint", "desk", "demo", "received-from-peer")
# names of files; the note of an upgrade is about now and must not be restored
NOT_NEEDED = (
    *(
        lock.TRAINING,
        lock.UPGRADE,
        lock.SWITCH,
        "assistant.lock",
        "backup.lock",
        "ingest.lock",
        "jobs.lock",
        "notes.lock",
    ),
    *("reserve", "alarm.json", "attempts.json", upgrade_note.NOTE),
)


def entries(folder: Path, backups: Path) -> Iterator[Path]:
    """Every file and link of the state folder that a backup contains: no other backup."""
    for path in folder.iterdir():
        if path.name in LEFT_OUT or not is_needed(path):
            continue
        if backup_folder.is_backup(path) or path.resolve() == backups.resolve():
            continue
        is_folder = path.is_dir() and not path.is_symlink()
        yield from entries(path, backups) if is_folder else [path]


def is_needed(path: Path) -> bool:
    """Compares whole names: a site's own folder `reservations` is needed."""
    half_written = path.name.startswith((".unfinished-", ".lock-probe-"))
    return path.name not in NOT_NEEDED and path.suffix != ".unfinished" and not half_written


def state_bytes(state: Path, linked_to: Path | None, backups: Path) -> int:
    """What copy_state will write. linked_to: the state folder of a backup that takes links."""
    paths = entries(state, backups)
    return sum(path.lstat().st_size for path in paths if not held(path, state, linked_to))


def held(path: Path, state: Path, earlier: Path | None) -> bool:
    """Whether an earlier backup has this adapter: a published one never changes."""
    is_adapter = path.suffix == ".safetensors"
    return earlier is not None and is_adapter and (earlier / path.relative_to(state)).exists()


def takes_links(before: Path, unfinished: Path) -> bool:
    """Whether hard links to an earlier backup work. Many network shares have none."""
    probe = unfinished / "probe"
    try:
        os.link(before / files.MANIFEST, probe)
    except OSError:
        return False
    probe.unlink()
    return True


def copy_state(
    state: Path, target: Path, before: Kept | None, backups: Path
) -> tuple[dict[str, str], list[str]]:
    """Copies files, and links to adapters that the earlier backup has undamaged.

    Returns the target of each symbolic link by its path, and a sentence for each damaged adapter.
    """
    links: dict[str, str] = {}
    warnings: list[str] = []
    for path in entries(state, backups):
        name = path.relative_to(state)
        if path.is_symlink():
            links[str("state" / name)] = str(path.readlink())
            continue
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        if before and path.suffix == ".safetensors":
            earlier = before.folder / "state" / name
            if is_whole(path, earlier, before, warnings):
                with suppress(OSError):
                    os.link(earlier, target / name)
                    continue
        shutil.copy2(path, target / name)
    return links, warnings


def is_whole(path: Path, earlier: Path, before: Kept, warnings: list[str]) -> bool:
    """Whether the earlier backup has this adapter undamaged. Adds damage to warnings."""
    name = str(earlier.relative_to(before.folder))
    here, known = sha256(path), before.checksums.get(name)
    wanted = published(path) or here
    if here != wanted:
        warnings.append(f"{path} is damaged")
    if known is None:
        return False
    if files.damaged(before.folder, {name: known}):
        warnings.append(f"{earlier} is damaged")
        return False
    return known == wanted


def published(path: Path) -> str | None:
    """The SHA-256 of an adapter in the manifest beside it; None without one."""
    with suppress(OSError):
        found = files.read_json_if_whole(path.parent / files.MANIFEST, {}).get("sha256")
        if isinstance(found, dict) and path.name in found:
            return str(found[path.name])
    return None


def copy_settings(target: Path) -> None:
    for name in ("models", "recipes"):
        shutil.copytree(REPOSITORY / "env" / name, target / name)
    for name in ("site.env", "images.env"):
        if (REPOSITORY / "env" / name).exists():
            shutil.copy2(REPOSITORY / "env" / name, target / name)
