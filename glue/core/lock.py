"""Locks that cannot outlive their holder: flock, which the kernel frees at any death. The file
stays; it is not the lock."""

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

NIGHT = "night.lock"  # one night at a time, from its first step to its last
# from an upgrade's backup to its end, while code and compose files may be another version's
UPGRADE = "upgrade.lock"
MOVE = "glue.core.lock"  # held only while something changes what serves, never while training
LOCAL_DISK = (
    "set STATE_DIR in env/site.env to a folder on a disk of this machine, such as ext4 or xfs"
)
LOOK_SECONDS = (
    2  # to look whether a lock is held is to hold it for a moment, and nobody is refused for that
)


@contextmanager
def hold(state: Path, name: str, purpose: str, wait_seconds: float | None = None) -> Iterator[None]:
    """Raises Locked, naming the holder, if it is not free within wait_seconds (or LOOK_SECONDS).

    Children do not inherit it: Python opens files close-on-exec.
    """
    files.make_folder(state)
    with (state / name).open("a+", encoding="utf-8", errors="replace") as file:
        if (
            os.geteuid() == 0
        ):  # else a lock that root took first keeps the owner's timers out for good
            files.give(file.fileno(), state, 0o644)

        def look() -> Seen[None]:
            if not free(file, fcntl.LOCK_EX):
                file.seek(0)
                return Seen(False, file.read().strip() or "a holder that left no name")
            return Seen(True, "free")

        deadline = LOOK_SECONDS if wait_seconds is None else wait_seconds
        waiting.until(
            f"the lock for {purpose!r}", look, deadline, 0.2, "wait for it, or: make status", Locked
        )
        sign(file, {"pid": os.getpid(), "purpose": purpose, "since": time.strftime("%F %T %Z")})
        yield
        sign(file, None)


def free(file: IO[Any], kind: int) -> bool:
    """Takes the lock, if nobody else has it. Raises PreconditionFailed where the file system has no
    locks."""
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise PreconditionFailed(
            "the state folder's disk has no file locks", f"{file.name}: {error}", LOCAL_DISK
        ) from error
    return True


def fault(state: Path) -> str:
    """Why no lock or no file can be had in the state folder, in words; empty if both can, or if
    that is not its disk's fault."""
    try:
        with (
            tempfile.NamedTemporaryFile(dir=state, prefix=".lock-probe-") as one,
            Path(one.name).open("r+b") as other,
        ):
            if not free(one, fcntl.LOCK_EX):
                return "a new file is locked"
            return "a second program gets a lock that is held" if free(other, fcntl.LOCK_EX) else ""
    except PreconditionFailed as error:
        return f"{error.what}: {error.saw}"
    except OSError as error:
        return str(error) if error.errno in (errno.EROFS, errno.EIO) else ""


def sign(file: TextIO, holder: dict[str, object] | None) -> None:
    """The holder's name is a courtesy: a full disk must not keep anybody from the lock, nor
    Python's buffer when it is closed."""
    with suppress(OSError):
        os.ftruncate(file.fileno(), 0)
        os.write(file.fileno(), json.dumps(holder).encode() if holder else b"")


def require_no_upgrade(state: Path) -> None:
    """For what timers begin, under a lock that an upgrade waits for. Raises Locked while an upgrade
    is alive."""
    if held(state, UPGRADE):
        holder = (state / UPGRADE).read_text(encoding="utf-8", errors="replace").strip()
        raise Locked(
            "an upgrade is going on",
            holder or "its holder left no name",
            "wait for its end, or: make status",
        )


def held_seconds(state: Path, name: str) -> float:
    """How long its holder has had it, who signed it then; 0 where nobody holds it."""
    return time.time() - (state / name).stat().st_mtime if held(state, name) else 0.0


def held(state: Path, name: str) -> bool:
    """Whether anybody holds it now. A yes is old when it is told; a no is certain of whoever held
    it before."""
    try:
        with (state / name).open("rb") as file:
            return not free(file, fcntl.LOCK_SH)
    except FileNotFoundError:
        return False
