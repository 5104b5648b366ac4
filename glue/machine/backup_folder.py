"""The folder of backups: whether it is the right one, whose they are, and which can be deleted."""

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
    """A complete backup of this machine.

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
    """An ID of this machine and project, so that several can share a folder. Another host name
    does not change it, unless the machine has no machine-id."""
    return hashed(settings, "" if MACHINE_ID.exists() else platform.node())


def earlier_machine(settings: Settings) -> str:
    """The ID in backups of earlier versions, which includes the host name."""
    return hashed(settings, platform.node())


def hashed(settings: Settings, host_name: str) -> str:
    """A hash, since a machine-id is confidential (man 5 machine-id)."""
    known = MACHINE_ID.read_text(encoding="utf-8") if MACHINE_ID.exists() else ""
    parts = (known, host_name, settings["PROJECT"], str(settings.state))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def there(settings: Settings) -> list[Kept]:
    """The complete backups of this machine, in the order in which they were made. A folder that was
    renamed or copied does not count: it is a person's own."""
    own = (machine(settings), earlier_machine(settings))
    found = [read(folder, own) for folder in folders(settings)]
    return sorted((kept for kept in found if kept), key=lambda kept: kept.number)


def folders(settings: Settings) -> list[Path]:
    return [path.parent for path in place(settings).glob(f"[!.]*/{files.MANIFEST}")]


def read(folder: Path, own: tuple[str, ...]) -> Kept | None:
    """None for what another machine, another program or an early version has made."""
    try:
        found = files.read_manifest(folder, REQUIRED | OF_A_MACHINE)
    except (OSError, ValueError):
        return None
    if found["machine"] not in own or found["made"] != folder.name:
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
    """Why this is not the folder of the earlier backups, as without its disk; empty if it is."""
    rows = journal.since(files.read_lines(settings.state / "journal.jsonl"), journal.NEW_BACKUPS)
    folder = place(settings)
    last = journal.last_backup(
        [row for row in rows if Path(row.get("folder", "")).parent == folder]
    )
    if last is None or folder.resolve().is_relative_to(settings.state.resolve()):
        return ""
    made = f"the last backup there was made on {last['time']}"
    if not folders(settings):
        return f"{folder} contains no backup; {made}"
    if on_own_disk(settings) and last.get("own_disk") is False:
        return f"{folder} is on the chat's own disk; {made}, on a separate disk"
    return ""


# ---------------------------------------------------------------------- which may go


def fewer(now: Counts, before: Counts) -> list[str]:
    """In words, what shrank below half."""
    return [
        f"{before[what]} {what}, now {now.get(what, 0)}"
        for what in before
        if now.get(what, 0) * 2 < before[what]
    ]


def removable(kept: list[Kept], keep: int) -> list[Kept]:
    """The oldest beyond the newest keep, except the newest one with over twice as much as all
    that stay: backups of an emptied chat must not push out the last full one."""
    stay, rest = kept[-keep:], kept[:-keep]
    full = [old for old in rest if all(fewer(new.counts, old.counts) for new in stay)]
    return [old for old in rest if old not in full[-1:]]


def facts(settings: Settings, kept: list[Kept], counts: Counts, anew: bool) -> dict[str, Any]:
    """For a manifest. most: the largest counts since a person last confirmed a smaller chat."""
    before = kept[-1].most if kept and not anew else {}
    most = {what: max(count, before.get(what, 0)) for what, count in counts.items()}
    number = kept[-1].number + 1 if kept else 1
    return {"machine": machine(settings), "number": number, "counts": dict(counts), "most": most}
