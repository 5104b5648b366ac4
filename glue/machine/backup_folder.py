"""The folder of backups: whether it is the right one, whose they are, and which may be deleted."""

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
REQUIRED = {"made": str, "links": dict, "images": dict}  # in a manifest, beside the checksums
OF_A_MACHINE = {"machine": str, "number": int, "counts": dict, "most": dict}
Counts = Mapping[str, int]


@dataclass(frozen=True)
class Kept:
    """A complete backup of this machine. number: 1 for its first, whatever clocks say. counts: of
    people, conversations and documents. most: see facts."""

    folder: Path
    number: int
    counts: Counts = field(default_factory=dict)
    most: Counts = field(default_factory=dict)
    checksums: Mapping[str, str] = field(default_factory=dict)


def place(settings: Settings) -> Path:
    return settings.state / settings["BACKUP_DIR"]  # an absolute path stays itself


def machine(settings: Settings) -> str:
    """An ID of this machine and project. A hash: a machine-id is confidential (man 5)."""
    known = MACHINE_ID.read_text(encoding="utf-8") if MACHINE_ID.exists() else ""
    parts = (known, platform.node(), settings["PROJECT"], str(settings.state))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def there(settings: Settings) -> list[Kept]:
    """The complete backups of this machine, oldest first. A renamed one does not count."""
    found = [read(folder, machine(settings)) for folder in folders(settings)]
    return sorted((kept for kept in found if kept), key=lambda kept: kept.number)


def folders(settings: Settings) -> list[Path]:
    return [path.parent for path in place(settings).glob(f"[!.]*/{files.MANIFEST}")]


def read(folder: Path, by: str) -> Kept | None:
    """None for what another machine, another program or an early version has made."""
    try:
        found = files.read_manifest(folder, REQUIRED | OF_A_MACHINE)
    except (OSError, ValueError):
        return None
    if found["machine"] != by or found["made"] != folder.name:
        return None
    return Kept(folder, found["number"], found["counts"], found["most"], found["sha256"])


def others(settings: Settings) -> list[str]:
    """Names of the backups of other machines, or of versions before there() knew them apart."""
    own = {kept.folder.name for kept in there(settings)}
    backups = (folder for folder in folders(settings) if is_backup(folder))
    return sorted(folder.name for folder in backups if folder.name not in own)


def is_backup(folder: Path) -> bool:
    """Whether it holds a backup of any machine, complete or not."""
    return all((folder / part).is_dir() for part in ("chat", "state", "env"))


# ---------------------------------------------------------------------- whether it is the right one


def on_own_disk(settings: Settings) -> bool:
    return host.on_one_disk(place(settings), settings.state)


def fault(settings: Settings) -> str:
    """Why this cannot be the folder of the earlier backups, such as the empty mount point of a
    disk that is not mounted; empty if it can."""
    rows = journal.since(files.read_lines(settings.state / "journal.jsonl"), journal.NEW_BACKUPS)
    folder = place(settings)
    last = journal.last_backup([r for r in rows if Path(r.get("folder", "")).parent == folder])
    if last is None or folder.resolve().is_relative_to(settings.state.resolve()):
        return ""
    made = f"{last['folder']} was made there on {last['time']}"
    if not folders(settings):
        return f"{folder} holds no backup, but {made}: its disk is not mounted"
    if on_own_disk(settings) and last.get("own_disk") is False:
        moved = f"on {last['time']} it was on another: that disk is not mounted"
        return f"{folder} is on the chat's own disk, but {moved}"
    return ""


# ---------------------------------------------------------------------- which may go


def fewer(now: Counts, before: Counts) -> list[str]:
    """In words, what shrank below half."""
    pairs = [(what, count, now.get(what, 0)) for what, count in before.items()]
    return [f"{was} {what}, now {count}" for what, was, count in pairs if count * 2 < was]


def removable(kept: list[Kept], keep: int) -> list[Kept]:
    """The oldest beyond the newest keep. Backups of an emptied chat do not push out the last full
    one: the newest with over twice as much as all that stay."""
    stay, rest = kept[-keep:], kept[:-keep]
    full = [old for old in rest if all(fewer(new.counts, old.counts) for new in stay)]
    return [old for old in rest if old not in full[-1:]]


def facts(settings: Settings, kept: list[Kept], counts: Counts, anew: bool) -> dict[str, Any]:
    """For a manifest. most: the largest counts since a person last confirmed a smaller chat."""
    before = kept[-1].most if kept and not anew else {}
    most = {what: max(count, before.get(what, 0)) for what, count in counts.items()}
    number = kept[-1].number + 1 if kept else 1
    return {"machine": machine(settings), "number": number, "counts": dict(counts), "most": most}
