"""Writing so that a reader, or a power cut, never finds half of it."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any


def sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write(path: Path, text: str, mode: int = 0o644) -> None:
    """All of it or nothing: written beside, synced, renamed into place."""
    unfinished = path.with_name(path.name + ".unfinished")
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)
    sync_folder(path.parent)


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
    """mode: of a file that is new; one that is there keeps its own. A line that a full disk cut short spoils no later one."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, mode)
    with os.fdopen(descriptor, "ab", buffering=0) as file:
        size = os.fstat(descriptor).st_size
        whole = not size or os.pread(descriptor, 1, size - 1) == b"\n"
        line = json.dumps(value, ensure_ascii=False).encode() + b"\n"
        written = file.write(line if whole else b"\n" + line)
        if written != len(line) + (not whole):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        os.fsync(descriptor)


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Every whole JSON line; a line that a crash cut short is left out, also one that was cut inside a character."""
    rows = []
    # not splitlines: it also cuts at characters that stand in people's texts, such as U+2028
    for line in path.read_text(encoding="utf-8", errors="replace").split("\n") if path.exists() else []:
        try:
            rows.append(json.loads(line))
        except ValueError:
            continue
    return rows
