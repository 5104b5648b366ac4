"""Which parts of the state folder and settings a backup contains, and how they are copied."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path

from glue.core import files, upgrade_note
from glue.core.files import sha256
from glue.core.settings import REPOSITORY
from glue.machine import backup_folder
from glue.machine.backup_folder import Kept

# folders anywhere in the state folder
LEFT_OUT = ("scratch", "adapter", "checkpoint", "desk", "demo")
# parts of names; the note of an upgrade is about now and must not be restored
NOT_NEEDED = (
    *(".lock", ".unfinished", "reserve", "alarm.json", "attempts.json"),
    upgrade_note.NOTE,
)


def unneeded(folder: Path, names: list[str], backups: Path) -> set[str]:
    """The names in a folder of the state folder that no backup contains, including other
    backups, of this BACKUP_DIR or an earlier one."""

    def is_unneeded(name: str) -> bool:
        path = folder / name
        if name in LEFT_OUT or any(part in name for part in NOT_NEEDED):
            return True
        return backup_folder.is_backup(path) or path.resolve() == backups.resolve()

    return set(filter(is_unneeded, names))


def state_bytes(state: Path, linked_to: Path | None, backups: Path) -> int:
    """What copy_state will write. linked_to: an earlier backup's state folder, if links to it can
    be made."""
    size = 0
    for folder, folders, names in os.walk(state):
        left_out = unneeded(Path(folder), [*folders, *names], backups)
        folders[:] = [name for name in folders if name not in left_out]
        paths = [Path(folder) / name for name in names if name not in left_out]
        size += sum(path.lstat().st_size for path in paths if not held(path, state, linked_to))
    return size


def held(path: Path, state: Path, earlier: Path | None) -> bool:
    """Whether an earlier backup's state folder has this adapter: a published one never changes."""
    is_adapter = path.suffix == ".safetensors"
    return earlier is not None and is_adapter and (earlier / path.relative_to(state)).exists()


def takes_links(before: Path, unfinished: Path) -> bool:
    """Whether hard links to an earlier backup are possible; many network shares have none."""
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
    """Returns the symbolic links, which are not copied, by their paths; and a sentence for each
    adapter that is damaged, here or in the earlier backup.

    An adapter that the earlier backup holds undamaged is linked to, where that disk has links.
    """
    links: dict[str, str] = {}
    warnings: list[str] = []

    def link_or_copy(source: str, copy: str) -> str:
        path = Path(source)
        if before and path.suffix == ".safetensors":
            earlier = before.folder / "state" / path.relative_to(state)
            if is_whole(path, earlier, before, warnings):
                with suppress(OSError):
                    os.link(earlier, copy)
                    return copy
        return shutil.copy2(source, copy)

    def not_copied(folder: str, names: list[str]) -> set[str]:
        left_out = unneeded(Path(folder), names, backups)
        linked = [Path(folder) / name for name in names if name not in left_out]
        linked = [path for path in linked if path.is_symlink()]
        for path in linked:
            links[str("state" / path.relative_to(state))] = str(path.readlink())
        return left_out | {path.name for path in linked}

    shutil.copytree(state, target, ignore=not_copied, copy_function=link_or_copy)
    return links, warnings


def is_whole(path: Path, earlier: Path, before: Kept, warnings: list[str]) -> bool:
    """Whether the earlier backup holds this adapter as it was published. Adds damage to
    warnings."""
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
    """The SHA-256 of an adapter's file by the manifest beside it; None if that has none."""
    with suppress(OSError):
        found = files.read_json_if_whole(path.parent / files.MANIFEST, {}).get("sha256")
        if isinstance(found, dict) and path.name in found:
            return str(found[path.name])
    return None


def copy_settings(target: Path) -> None:
    shutil.copytree(REPOSITORY / "env" / "recipes", target / "recipes")
    for name in ("site.env", "images.env"):
        if (REPOSITORY / "env" / name).exists():
            shutil.copy2(REPOSITORY / "env" / name, target / name)
