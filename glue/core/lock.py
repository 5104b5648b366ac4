"""Locks that end with their holder: the kernel releases flock. The file stays; it is no lock."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, TextIO

from glue.core import files, waiting
from glue.core.errors import Locked, PreconditionFailed
from glue.core.waiting import Seen

# The files keep their names: during an upgrade, processes of both versions must see each other.
# Guards the trainer and what it reads and writes: data sets, nights, adapters. A night holds it
# from its first step to its last.
TRAINING = "night.lock"
# from an upgrade's backup to its end, while code and compose files may be another version's
UPGRADE = "upgrade.lock"
SWITCH = "glue.lock"  # while something changes what serves; not while a night trains
LOCAL_DISK = (
    "set STATE_DIR in env/site.env to a folder on a disk of this machine, such as ext4 or xfs"
)
RUNNING = "another command is running"
WAIT = "wait for it to finish (make status shows progress), then run this again"
LOOK_SECONDS = 2  # held() takes the lock for a moment, which must not make another command fail


@contextmanager
def hold(state: Path, name: str, purpose: str, wait_seconds: float | None = None) -> Iterator[None]:
    """Raises Locked, naming the holder, if it is not free within wait_seconds (or LOOK_SECONDS)."""
    files.make_folder(state)
    with (state / name).open("a+", encoding="utf-8", errors="replace") as file:
        if os.geteuid() == 0:  # a file that root creates must not keep the owner's timers out
            files.give(file.fileno(), state, 0o644)

        def look() -> Seen[None]:
            return Seen(take(file, fcntl.LOCK_EX), holder(state, name))

        deadline = LOOK_SECONDS if wait_seconds is None else wait_seconds
        waiting.until("", look, deadline, 0.2, WAIT, lambda _, *rest: Locked(RUNNING, *rest))
        sign(file, {"pid": os.getpid(), "purpose": purpose, "since": time.strftime("%F %T %Z")})
        yield
        sign(file, None)


def take(file: IO[Any], kind: int) -> bool:
    """Whether it was free, and is now held. Raises PreconditionFailed on a disk without locks."""
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        what = "the state folder's disk has no file locks"
        raise PreconditionFailed(what, f"{file.name}: {error}", LOCAL_DISK) from error
    return True


def fault(state: Path) -> str:
    """Why the state folder's disk gives no lock or no file; empty if it gives both."""
    try:
        with (
            tempfile.NamedTemporaryFile(dir=state, prefix=".lock-probe-") as one,
            Path(one.name).open("r+b") as other,
        ):
            if not take(one, fcntl.LOCK_EX):
                return "a new file is locked"
            return "two programs can hold the same lock" if take(other, fcntl.LOCK_EX) else ""
    except PreconditionFailed as error:
        return f"{error.what}: {error.saw}"
    except OSError as error:
        return str(error) if error.errno in (errno.EROFS, errno.EIO) else ""


def sign(file: TextIO, name: dict[str, object] | None) -> None:
    """Unbuffered, and a full disk is ignored: the holder's name is for messages only."""
    with suppress(OSError):
        os.ftruncate(file.fileno(), 0)
        os.write(file.fileno(), json.dumps(name).encode() if name else b"")


def holder(state: Path, name: str) -> str:
    """In words: what runs, since when, and its process."""
    try:
        found = json.loads((state / name).read_bytes())
        return f"{found['purpose']}, since {found['since']} (pid {found['pid']})"
    except (ValueError, KeyError, TypeError):  # not signed yet, or cut by a full disk
        return "an unknown command"


def held_seconds(state: Path, name: str) -> float:
    """How long it has been held; 0 if it is free."""
    return time.time() - (state / name).stat().st_mtime if held(state, name) else 0.0


def held(state: Path, name: str) -> bool:
    """Whether it is held at this moment. If not, an earlier holder certainly ended."""
    try:
        with (state / name).open("rb") as file:
            return not take(file, fcntl.LOCK_SH)
    except FileNotFoundError:
        return False
