"""This machine: system, memory, disk, port, clock.

On a GB10 one memory holds everything, and no container limit sees the GPU's part.
"""

from __future__ import annotations

import os
import platform
import pwd
import re
import shlex
import shutil
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

from dotenv import dotenv_values

from glue.core import gpu, waiting
from glue.core.errors import PreconditionFailed
from glue.core.gpu import Gpu

MEMINFO = Path("/proc/meminfo")
MEMORY_PRESSURE = Path("/proc/pressure/memory")
DROP_CACHES = Path("/proc/sys/vm/drop_caches")


@dataclass(frozen=True)
class Machine:
    """time_zone: such as "Europe/Berlin". gpu_fault: what nvidia-smi says where gpu is None."""

    system: str
    architecture: str
    gpu: Gpu | None
    available_bytes: int
    cached_bytes: int
    may_drop_cache: bool
    time_zone: str
    gpu_fault: str = ""


def observe() -> Machine:
    found, gpu_fault = gpu.look()
    return Machine(
        system=system(),
        architecture=platform.machine(),
        gpu=found,
        available_bytes=available_bytes(),
        cached_bytes=meminfo_bytes("Cached"),
        may_drop_cache=os.access(DROP_CACHES, os.W_OK),
        time_zone=time_zone(),
        gpu_fault=gpu_fault,
    )


def system(folder: Path = Path("/etc")) -> str:
    """DGX OS by its newest update, or the distribution's own name."""
    dgx, distribution = (release(folder / name) for name in ("dgx-release", "os-release"))
    if dgx:
        version = dgx.get("DGX_OTA_VERSION") or dgx.get("DGX_SWBUILD_VERSION")
        return f"{dgx.get('DGX_PRETTY_NAME')}, DGX OS {version}"
    return distribution.get("PRETTY_NAME") or "unknown"


def release(path: Path) -> dict[str, str | None]:
    text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    return dotenv_values(stream=StringIO(text))


def meminfo_bytes(key: str, meminfo: Path = MEMINFO) -> int:
    match = re.search(rf"^{key}:\s+(\d+) kB$", meminfo.read_text(), re.MULTILINE)
    if match is None:
        raise OSError(f"{meminfo} has no {key}")
    return int(match[1]) * 1024


def available_bytes(meminfo: Path = MEMINFO) -> int:
    """MemAvailable: free memory and what the kernel can reclaim from its page cache."""
    return meminfo_bytes("MemAvailable", meminfo)


def memory_stall_percent(pressure: Path = MEMORY_PRESSURE) -> float:
    """Share of the last 10 s in which all tasks waited for memory; 0 where it is not known: "full
    avg10" of https://docs.kernel.org/accounting/psi.html. "some" also counts kswapd."""
    try:
        match = re.search(r"^full avg10=([\d.]+)", pressure.read_text(), re.MULTILINE)
    except OSError:  # a kernel without it, or with psi=0
        return 0.0
    return float(match[1]) if match else 0.0


def drop_page_cache(switch: Path = DROP_CACHES) -> bool:
    """Empties the page cache, where this user may. Unwritten data is not lost."""
    try:
        os.sync()
        switch.write_text("3\n")
    except OSError:
        return False
    return True


def free_disk_bytes(folder: Path) -> int:
    return shutil.disk_usage(standing(folder)).free


def on_one_disk(one: Path, other: Path) -> bool:
    return standing(one).stat().st_dev == standing(other).stat().st_dev


def standing(folder: Path) -> Path:
    """The folder, or the nearest existing one above it."""
    return next(path for path in (folder, *folder.parents) if path.exists())


def readable(count: float) -> str:
    """Such as "20.0 GB", in decimal units as disks have."""
    return f"{count / 1e9:.1f} GB"


def port_is_free(address: str, port: int) -> bool:
    """Whether a server can start there. A port that only root may use counts as free."""
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((address, port))
        except PermissionError:
            return True
        except OSError:
            return False
    return True


def file_mode(path: Path) -> int | None:
    """Permissions, such as 0o600; None for no file."""
    return stat.S_IMODE(path.stat().st_mode) if path.exists() else None


def user_name(uid: int) -> str:
    """The number as text where no account has it, as in a folder from another machine."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def chown_line(uid: int, folder: Path) -> str:
    return f"sudo chown -R {user_name(uid)}: {shlex.quote(str(folder))}"


def denied(path: Path) -> PreconditionFailed:
    """The error for a path that this user may not read or write."""
    me, folder = os.geteuid(), own_folder(path)
    saw = f"{ownership(path)}, and this is {user_name(me)}"
    owner = standing(folder).stat().st_uid if folder else 0
    if folder is None:
        do = f"see its owner and mode: ls -ld {shlex.quote(str(path))}"
    elif owner in (0, me) or user_name(owner).isdigit():
        do = chown_line(me, folder)
    elif me == 0 or path.lstat().st_uid != owner:
        do = chown_line(owner, folder)
    else:
        name = user_name(owner)
        do = f"run it as {name}: sudo -u {name} make ...; or {chown_line(me, folder)}"
    return PreconditionFailed("a file belongs to another user", saw, do)


def own_folder(path: Path) -> Path | None:
    """The state folder or the repository that path is in; None for any other folder."""
    names = ("secrets.env", "journal.jsonl", "compose.day.yaml")

    def is_own(folder: Path) -> bool:
        closed = folder.exists() and not os.access(folder, os.X_OK)
        return closed or any(os.path.lexists(folder / name) for name in names)

    above = (folder for folder in path.parents if len(folder.parts) > 2)
    return next(filter(is_own, above), None)


def foreign_files(folder: Path) -> list[Path]:
    """Paths in folder that another user owns or that this user cannot open; none below those."""
    owner = folder.stat().st_uid if folder.exists() else 0
    found = [] if not folder.exists() or os.access(folder, os.W_OK | os.X_OK) else [folder]
    for top, folders, names in os.walk(folder):
        inside = (*folders, *names)
        foreign = {name for name in inside if owner_of(Path(top) / name) not in (owner, None)}
        folders[:] = [name for name in folders if name not in foreign]
        found += [Path(top) / name for name in sorted(foreign)]
    return found


def owner_of(path: Path) -> int | None:
    """None for a file that is removed or renamed meanwhile."""
    try:
        return path.lstat().st_uid
    except FileNotFoundError:
        return None


def ownership(path: Path) -> str:
    """Such as "/srv/state is root's, mode 700", of path or the nearest visible folder above it."""
    shown = next(part for part in (path, *path.parents) if os.path.lexists(part))
    details = shown.lstat()
    return f"{shown} is {user_name(details.st_uid)}'s, mode {stat.S_IMODE(details.st_mode):o}"


def closed_to_containers(paths: Iterable[Path]) -> list[Path]:
    """Paths that not every user, and so not a container's, can read: see umask 027 and 077."""
    below = [one for path in paths for one in (path, *sorted(path.rglob("*")))]
    seen = [path for path in below if "__pycache__" not in path.parts and path.exists()]
    return [path for path in seen if ~path.stat().st_mode & readable_bits(path)]


def open_to_containers(paths: Sequence[Path]) -> None:
    """Lets every user read them. Raises PreconditionFailed for files of another user."""
    for path in closed_to_containers(paths):
        try:
            path.chmod(path.stat().st_mode | readable_bits(path))
        except PermissionError as error:
            what = "containers cannot read a file of this repository"
            raise PreconditionFailed(what, ownership(path), open_line(paths)) from error


def open_line(paths: Iterable[Path]) -> str:
    return f"sudo chmod -R a+rX {shlex.join(map(str, paths))}"


def readable_bits(path: Path) -> int:
    return 0o555 if path.is_dir() else 0o444


def time_zone(localtime: Path = Path("/etc/localtime")) -> str:
    target = str(localtime.resolve())
    return os.environ.get("TZ") or target.partition("zoneinfo/")[2] or time.tzname[0]


EVERY_SECONDS = 5.0
JOULES_A_WATT_HOUR = 3600.0


def gpu_watts() -> float | None:
    found, _ = gpu.look()
    return found.power_watts if found else None


@contextmanager
def measured(
    read: Callable[[], float | None] = gpu_watts, every_seconds: float = EVERY_SECONDS
) -> Iterator[dict[str, float]]:
    """Gives a dictionary that has watt_hours and seconds at the end, or nothing if unreadable."""
    found: dict[str, float] = {}
    first = read()
    if first is None:
        yield found
        return
    joules = [0.0]

    def watch(over: threading.Event) -> None:
        watts, then = first, time.monotonic()
        while not over.wait(every_seconds):
            now, seen = time.monotonic(), read()
            joules[0] += (watts if seen is None else (watts + seen) / 2) * (now - then)
            watts, then = watts if seen is None else seen, now
        joules[0] += watts * (time.monotonic() - then)

    started = time.monotonic()
    try:
        with waiting.beside(watch):
            yield found
    finally:
        found |= {
            "watt_hours": round(joules[0] / JOULES_A_WATT_HOUR, 2),
            "seconds": round(time.monotonic() - started),
        }
