"""Files written so that no reader, and no power cut, leaves half of one; and checksums."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import shlex
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from glue.core.errors import GlueError, PreconditionFailed

T = TypeVar("T", list[Any], dict[str, Any])
# what glue writes in the state folder, as JSON and as text; not the files of training and models
OWN_JSON = (
    "*.json",
    "adapters/*.json",
    "adapters/*/*.json",
    "desk/*.json",
    "nights/*/*.json",
    "nights/*/dataset/*.json",
    "peers/*.json",
)
OWN_TEXT = ("*.jsonl", "nights/*/*.jsonl", "nights/*/dataset/*.jsonl", "tls/*")
MANIFEST, MANIFEST_CHECKSUM = "manifest.json", "manifest.sha256"
MANIFEST_FORMAT = 2  # since this one, manifest.sha256 is beside it


class Damaged(PreconditionFailed):
    """A file that glue wrote is empty or truncated, as after a power cut on some disks."""

    def __init__(self, path: Path, why: object) -> None:
        lose = f"rm {shlex.quote(str(path))}; make setup"
        do = f"restore it from the newest backup, or discard its content: {lose}"
        super().__init__("a file of the state folder is damaged", f"{path}: {why}", do)


def sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def replacing(path: Path, mode: int) -> Iterator[io.BufferedRandom]:
    """Writes all or nothing: beside it, synced, renamed into place. It gets this mode, whatever
    the umask, and the folder's owner."""
    unfinished = path.with_name(path.name + ".unfinished")
    try:
        descriptor = os.open(unfinished, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w+b") as file:
            give(descriptor, path.parent, mode)
            yield file
            file.flush()
            os.fsync(descriptor)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
    unfinished.replace(path)
    sync_folder(path.parent)


def write(path: Path, text: str, mode: int = 0o644) -> None:
    with replacing(path, mode) as file:
        file.write(text.encode())


def give(descriptor: int, folder: Path, mode: int) -> None:
    """Sets the mode, whatever the umask, and gives files that root makes to the folder's owner."""
    if os.geteuid() == 0:
        owner = folder.stat()
        os.fchown(descriptor, owner.st_uid, owner.st_gid)
    os.fchmod(descriptor, mode)


def make_folder(folder: Path, mode: int = 0o755) -> None:
    """The folder and its missing parents, each of the owner above it. One that exists stays."""
    if folder.is_dir():
        return
    make_folder(folder.parent, mode)
    folder.mkdir(exist_ok=True)
    take_over(folder, mode)


def take_over(path: Path, mode: int) -> None:
    """Gives another program's file this mode and the owner of its folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        give(descriptor, path.parent, mode)
    finally:
        os.close(descriptor)


def write_json(path: Path, value: Any, mode: int = 0o644) -> None:
    write(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n", mode)


def overwrite_json(path: Path, value: Any) -> None:
    """In place, which works on a full disk; a crash leaves a damaged file. Raises OSError if the
    old content is shorter, or missing."""
    with path.open("r+b", buffering=0) as file:
        room, text = os.fstat(file.fileno()).st_size, json.dumps(value).encode()
        if len(text) > room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        file.write(text.ljust(room))
        os.fsync(file.fileno())


def reserve(path: Path, size: int) -> None:
    """Allocates size bytes without writing them. Raises OSError if the disk has less space."""
    with path.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, size)


def append_line(path: Path, value: dict[str, Any], mode: int = 0o644) -> None:
    """mode: of a new or empty file. A line cut short by a full disk does not spoil the next."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, mode)
    with os.fdopen(descriptor, "ab", buffering=0) as file:
        size = os.fstat(descriptor).st_size
        if not size:
            give(descriptor, path.parent, mode)
        whole = not size or os.pread(descriptor, 1, size - 1) == b"\n"
        # what a model writes may hold half a character, which no file can
        line = json.dumps(value, ensure_ascii=False).encode(errors="replace") + b"\n"
        written = file.write(line if whole else b"\n" + line)
        if written != len(line) + (not whole):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        os.fsync(descriptor)


def read_json(path: Path, default: T) -> T:
    """default if there is no such file. Raises Damaged unless it holds JSON of default's type."""
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
    """default also for a damaged file, where the loss costs little; the doctor names it."""
    try:
        return read_json(path, default)
    except Damaged:
        return default


def damaged_files(state: Path) -> Iterator[Path]:
    """Of those that glue writes and can read. Readers skip a cut line of *.jsonl."""
    for is_damaged, patterns in ((is_no_json, OWN_JSON), (lambda text: b"\0" in text, OWN_TEXT)):
        for path in sorted(path for pattern in patterns for path in state.glob(pattern)):
            with suppress(OSError):
                if is_damaged(path.read_bytes()):
                    yield path


def is_no_json(content: bytes) -> bool:
    try:
        json.loads(content)
    except ValueError:
        return True
    return False


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Every JSON object, one a line. Skips a truncated line, even one cut inside a character."""
    if not path.exists():
        return []
    rows = []
    # not splitlines: it also splits at characters that people's texts contain, such as U+2028
    for line in path.read_text(encoding="utf-8", errors="replace").split("\n"):
        with suppress(ValueError):
            rows.append(json.loads(line))
    return [row for row in rows if isinstance(row, dict)]


def time_stamp(moment: datetime | None = None) -> str:
    """The name of what is made at a moment, by default now: 20260107T190000Z."""
    return f"{(moment or datetime.now(UTC)).astimezone(UTC):%Y%m%dT%H%M%SZ}"


def names(found: Iterable[object], most: int = 3) -> str:
    """Such as "a, b, c and 4 more"."""
    shown = [str(one) for one in found]
    more = len(shown) - most
    return ", ".join(shown[:most]) + (f" and {more} more" if more > 0 else "")


# ---------------------------------------------------------------------- checksums


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def listed(folder: Path) -> Iterator[Path]:
    """Every regular file below folder, sorted."""
    return (path for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink())


def damaged(folder: Path, checksums: Mapping[str, str]) -> list[str]:
    """The names in checksums of files that are missing, cannot be read or have another SHA-256."""

    def is_damaged(name: str) -> bool:
        try:
            return sha256(folder / name) != checksums[name]
        except OSError:
            return True

    return [name for name in checksums if is_damaged(name)]


def below(folder: str, checksums: Mapping[str, str]) -> dict[str, str]:
    """Of a manifest's files, those of one folder, by their paths below it."""
    found = {name: name.removeprefix(f"{folder}/") for name in checksums}
    return {short: checksums[name] for name, short in found.items() if short != name}


def write_checksums(folder: Path, facts: Mapping[str, Any]) -> None:
    """manifest.json: facts, and the SHA-256 of every file; manifest.sha256: its own."""
    checksums = {str(path.relative_to(folder)): sha256(path) for path in listed(folder)}
    write_json(folder / MANIFEST, {"format": MANIFEST_FORMAT, **facts, "sha256": checksums})
    write(folder / MANIFEST_CHECKSUM, checksum_line(folder))


def checksum_line(folder: Path) -> str:
    return f"{sha256(folder / MANIFEST)}  {MANIFEST}\n"


def read_manifest(folder: Path, wanted: Mapping[str, type]) -> dict[str, Any]:
    """What write_checksums wrote. wanted: the type of each fact that must be in it. Raises
    ValueError or OSError in words. A manifest of format 1 has no checksum of its own."""
    text = (folder / MANIFEST).read_text(encoding="utf-8")
    manifest = json.loads(text)
    if not isinstance(manifest, dict):
        raise ValueError(f"{MANIFEST} holds no table")
    for key, kind in {"sha256": dict, **wanted}.items():
        if not isinstance(manifest.get(key), kind):
            raise ValueError(f"{MANIFEST} has no valid {key!r}: it is damaged, or not by glue")
    require_below(manifest["sha256"])
    signed = (folder / MANIFEST_CHECKSUM).exists() or manifest.get("format", 1) != 1
    if signed and (folder / MANIFEST_CHECKSUM).read_bytes() != checksum_line(folder).encode():
        raise ValueError(f"{MANIFEST} does not match {MANIFEST_CHECKSUM}")
    return manifest


def require_below(names: Iterable[Any]) -> None:
    """Raises ValueError for a name that leads out of the folder it is relative to."""
    for name in names:
        path = PurePosixPath(name) if isinstance(name, str) else PurePosixPath("/")
        if path.is_absolute() or ".." in path.parts:
            raise ValueError(f"{name!r} is not a path inside the folder")


def copy_checked(source: Path, target: Path, checksum: str, mode: int) -> None:
    """All or nothing. Raises GlueError, with target unchanged, for another SHA-256."""
    seen = hashlib.sha256()
    with source.open("rb") as file, replacing(target, mode) as copy:
        while block := file.read(2**20):
            seen.update(block)
            copy.write(block)
        if seen.hexdigest() != checksum:
            saw, do = f"{source}: SHA-256 has changed", "check its disk, then try again"
            raise GlueError("a file changed while it was read", saw, do)


@contextmanager
def receiving(target: Path, checksum: str, mode: int) -> Iterator[io.BufferedRandom]:
    """As replacing, for what another machine sends. Raises GlueError, with target unchanged, for
    another SHA-256."""
    with replacing(target, mode) as file:
        yield file
        file.seek(0)
        if (seen := hashlib.file_digest(file, "sha256").hexdigest()) != checksum:
            saw = f"{target.name}: {file.tell()} bytes of SHA-256 {seen}, expected {checksum}"
            raise GlueError("a file arrived damaged", saw, "check the link and both disks")
