"""Locks that cannot outlive their holder: flock, which the kernel frees at any death. The file stays; it is not the lock."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from glue import waiting
from glue.types import Locked
from glue.waiting import Seen

NIGHT = "night.lock"  # one night at a time, from its first step to its last
UPGRADE = "upgrade.lock"  # from an upgrade's backup to its end, while code and compose files may be another version's
MOVE = "glue.lock"  # held only while something changes what serves, never while training
LOOK_SECONDS = 2  # to look whether a lock is held is to hold it for a moment, and nobody is refused for that


@contextmanager
def hold(state: Path, name: str, purpose: str, wait_seconds: float | None = None) -> Iterator[None]:
    """Raises Locked, naming the holder, if it is not free within wait_seconds (or LOOK_SECONDS).

    Children do not inherit it: Python opens files close-on-exec.
    """
    state.mkdir(parents=True, exist_ok=True)
    with (state / name).open("a+", encoding="utf-8") as file:

        def look() -> Seen[None]:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                return Seen(False, file.read().strip() or "a holder that left no name")
            return Seen(True, "free")

        deadline = LOOK_SECONDS if wait_seconds is None else wait_seconds
        waiting.until(f"the lock for {purpose!r}", look, deadline, 0.2, "wait for it, or: make status", Locked)
        sign(file, {"pid": os.getpid(), "purpose": purpose, "since": time.strftime("%F %T %Z")})
        yield
        sign(file, None)


def sign(file: TextIO, holder: dict[str, object] | None) -> None:
    """The holder's name is a courtesy: a full disk must not keep anybody from the lock, nor Python's buffer when it is closed."""
    with suppress(OSError):
        os.ftruncate(file.fileno(), 0)
        os.write(file.fileno(), json.dumps(holder).encode() if holder else b"")


def require_no_upgrade(state: Path) -> None:
    """For what timers begin, under a lock that an upgrade waits for. Raises Locked while an upgrade is alive."""
    if held(state, UPGRADE):
        holder = (state / UPGRADE).read_text(encoding="utf-8").strip()
        raise Locked("an upgrade is going on", holder or "its holder left no name", "wait for its end, or: make status")


def held_seconds(state: Path, name: str) -> float:
    """How long its holder has had it, who signed it then; 0 where nobody holds it."""
    return time.time() - (state / name).stat().st_mtime if held(state, name) else 0.0


def held(state: Path, name: str) -> bool:
    """Whether anybody holds it now. A yes is old when it is told; a no is certain of whoever held it before."""
    try:
        with (state / name).open("r", encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False
