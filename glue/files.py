"""Writing so that a reader, or a power cut, never finds half of it."""

from __future__ import annotations

import errno
import json
import os
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

from glue.types import PreconditionFailed

T = TypeVar("T", list[Any], dict[str, Any])
# what glue writes as JSON, in the state folder; not what training and models have below these
OWN_JSON = ("*.json", "adapters/*.json", "adapters/*/*.json", "desk/*.json", "nights/*/*.json", "nights/*/dataset/card.json")
OWN_TEXT = ("*.jsonl", "nights/*/*.jsonl", "nights/*/dataset/*.jsonl", "tls/*")


class Damaged(PreconditionFailed):
    """A file of ours is empty, cut or full of other bytes, as a power cut leaves it on some disks."""

    def __init__(self, path: Path, why: object) -> None:
        do = f"put it back from the newest backup, or, without what it held: rm {shlex.quote(str(path))}; make setup"
        super().__init__("a file of the state folder is damaged", f"{path}: {why}", do)


def sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write(path: Path, text: str, mode: int = 0o644) -> None:
    """All of it or nothing: written beside, synced, renamed into place. Whatever the umask: mode, and the folder's owner."""
    unfinished = path.with_name(path.name + ".unfinished")
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        give(descriptor, path.parent, mode)
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)
    sync_folder(path.parent)


def give(descriptor: int, folder: Path, mode: int) -> None:
    """mode, which open() cuts by the umask; and what root makes belongs to the folder's owner, who writes there tomorrow."""
    if os.geteuid() == 0:
        owner = folder.stat()
        os.fchown(descriptor, owner.st_uid, owner.st_gid)
    os.fchmod(descriptor, mode)


def write_json(path: Path, value: Any, mode: int = 0o644) -> None:
    write(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n", mode)


def overwrite_json(path: Path, value: Any) -> None:
    """In place of what is as long at least, so that a full disk takes it too. A crash in the middle leaves what nothing reads.

    Raises OSError where there is nothing, or not enough, to write over.
    """
    with path.open("r+b", buffering=0) as file:
        room, text = os.fstat(file.fileno()).st_size, json.dumps(value).encode()
        if len(text) > room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        file.write(text.ljust(room))
        os.fsync(file.fileno())


def reserve(path: Path, size: int) -> None:
    """Takes the room on the disk and writes nothing into it. Raises OSError if there is not as much."""
    with path.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, size)


def append_line(path: Path, value: dict[str, Any], mode: int = 0o644) -> None:
    """mode: of a file that is new or empty; else it keeps its own. A line that a full disk cut short spoils no later one."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, mode)
    with os.fdopen(descriptor, "ab", buffering=0) as file:
        size = os.fstat(descriptor).st_size
        if not size:
            give(descriptor, path.parent, mode)
        whole = not size or os.pread(descriptor, 1, size - 1) == b"\n"
        line = json.dumps(value, ensure_ascii=False).encode() + b"\n"
        written = file.write(line if whole else b"\n" + line)
        if written != len(line) + (not whole):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        os.fsync(descriptor)


def read_json(path: Path, default: T) -> T:
    """default where there is no such file. Raises Damaged where it holds nothing, half of it, or another kind than default."""
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        return default
    except ValueError as error:
        raise Damaged(path, error) from error
    if not isinstance(found, type(default)):
        raise Damaged(path, f"it holds a {type(found).__name__}")
    return found


def read_json_if_whole(path: Path, default: T) -> T:
    """default also for a damaged file: where the loss costs little, and the doctor names it."""
    try:
        return read_json(path, default)
    except Damaged:
        return default


def damaged_files(state: Path) -> Iterator[Path]:
    """Of the files that glue writes. Lines may be cut, and are then left out by their reader; none is full of NULs."""
    for path in sorted(path for pattern in OWN_JSON for path in state.glob(pattern)):
        try:
            json.loads(path.read_bytes())
        except ValueError:
            yield path
    texts = (path for pattern in OWN_TEXT for path in state.glob(pattern))
    yield from sorted(path for path in texts if path.is_file() and b"\0" in path.read_bytes())


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Every whole JSON line that is a table; one that a crash cut short is left out, also one cut inside a character."""
    rows = []
    # not splitlines: it also cuts at characters that stand in people's texts, such as U+2028
    for line in path.read_text(encoding="utf-8", errors="replace").split("\n") if path.exists() else []:
        try:
            rows.append(json.loads(line))
        except ValueError:
            continue
    return [row for row in rows if isinstance(row, dict)]
