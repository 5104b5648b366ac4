"""The folder that backups go to: whether it is the right one, whose backups are in it, and which of
them may go."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from glue.clients import host
from glue.core import files, journal
from glue.core.settings import Settings

MACHINE_ID = Path("/etc/machine-id")
REQUIRED = {
    "made": str,
    "links": dict,
    "images": dict,
}  # of a backup's manifest, beside the checksums
Counts = Mapping[str, int]


@dataclass(frozen=True)
class Kept:
    """A whole backup of this machine.

    number: 1 for its first, whatever clocks say. counts: of people, conversations and documents.
    most: see facts.
    """

    folder: Path
    number: int
    counts: Counts = field(default_factory=dict)
    most: Counts = field(default_factory=dict)
    checksums: Mapping[str, str] = field(default_factory=dict)


def place(settings: Settings) -> Path:
    return settings.state / settings["BACKUP_DIR"]  # an absolute path stays itself


def machine(settings: Settings) -> str:
    """Names this machine and project, so that several may share a folder. Hashed: man 5 machine-id
    asks to keep it private."""
    known = MACHINE_ID.read_text(encoding="utf-8") if MACHINE_ID.exists() else ""
    parts = (known, platform.node(), settings["PROJECT"], str(settings.state))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def there(settings: Settings) -> list[Kept]:
    """Whole backups of this machine, in the order they were made in. A renamed or copied folder is
    a person's own."""
    found = [
        read(path.parent, machine(settings))
        for path in place(settings).glob(f"[!.]*/{files.MANIFEST}")
    ]
    return sorted((kept for kept in found if kept), key=lambda kept: kept.number)


def read(folder: Path, by: str) -> Kept | None:
    """None for what another machine, another program or a version of before machines were told
    apart has made."""
    try:
        manifest = files.read_manifest(
            folder, REQUIRED | {"machine": str, "number": int, "counts": dict, "most": dict}
        )
    except (OSError, ValueError):
        return None
    if manifest["machine"] != by or manifest["made"] != folder.name:
        return None
    return Kept(
        folder, manifest["number"], manifest["counts"], manifest["most"], manifest["sha256"]
    )


def others(settings: Settings) -> list[str]:
    """Names of the backups that are not of this machine, or not by this version or a later one."""
    own = {kept.folder.name for kept in there(settings)}
    found = (path.parent for path in place(settings).glob(f"[!.]*/{files.MANIFEST}"))
    return sorted(folder.name for folder in found if is_backup(folder) and folder.name not in own)


def is_backup(folder: Path) -> bool:
    """Whether a backup of any machine is in it, whole or not."""
    return (folder / "chat").is_dir() and (folder / "state").is_dir() and (folder / "env").is_dir()


# ---------------------------------------------------------------------- whether it is the right one


def on_own_disk(settings: Settings) -> bool:
    return host.on_one_disk(place(settings), settings.state)


def fault(settings: Settings) -> str:
    """In words, why this cannot be the folder that earlier backups went to; empty if it can.

    Where a disk is not mounted, its mount point is an empty folder of the disk below.
    """
    rows = journal.since(files.read_lines(settings.state / "journal.jsonl"), journal.NEW_BACKUPS)
    folder = place(settings)
    last = journal.last_backup(
        [row for row in rows if Path(row.get("folder", "")).parent == folder]
    )
    if last is None or folder.resolve().is_relative_to(settings.state.resolve()):
        return ""
    if not any(folder.glob(f"[!.]*/{files.MANIFEST}")):
        return (
            f"{folder} holds no backup, and {last['folder']} was made there on {last['time']}: its"
            " disk is not mounted"
        )
    if on_own_disk(settings) and last.get("own_disk") is False:
        return (
            f"{folder} is on the chat's own disk, and on {last['time']} it was on another: that"
            " disk is not mounted"
        )
    return ""


# ---------------------------------------------------------------------- which may go


def fewer(now: Counts, before: Counts) -> list[str]:
    """In words, of what there is less than half by now."""
    return [
        f"{before[what]} {what}, now {now.get(what, 0)}"
        for what in before
        if now.get(what, 0) * 2 < before[what]
    ]


def removable(kept: list[Kept], keep: int) -> list[Kept]:
    """Those beyond the newest keep, kept in order. The newest that holds over twice what any of
    those holds stays with them:
    backups of a chat that was emptied do not push out the last full one."""
    stay, rest = kept[-keep:], kept[:-keep]
    full = [old for old in rest if all(fewer(new.counts, old.counts) for new in stay)]
    return [old for old in rest if old not in full[-1:]]


def facts(settings: Settings, kept: list[Kept], counts: Counts, anew: bool) -> dict[str, Any]:
    """What a manifest says beside checksums. most: the most there was of each, since a person last
    said that less is right."""
    before = kept[-1].most if kept and not anew else {}
    most = {what: max(count, before.get(what, 0)) for what, count in counts.items()}
    number = kept[-1].number + 1 if kept else 1
    return {"machine": machine(settings), "number": number, "counts": dict(counts), "most": most}
