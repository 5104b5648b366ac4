"""This machine: system, memory, disk, port, clock.

On a GB10 one memory holds everything, and no container limit sees the GPU's part.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import socket
import stat
import time
from dataclasses import dataclass
from pathlib import Path

from dotenv import dotenv_values

from glue import gpu
from glue.gpu import Gpu

MEMINFO = Path("/proc/meminfo")
MEMORY_PRESSURE = Path("/proc/pressure/memory")
DROP_CACHES = Path("/proc/sys/vm/drop_caches")


@dataclass(frozen=True)
class Machine:
    """time_zone: its name, such as "Europe/Berlin"."""

    system: str
    architecture: str
    gpu: Gpu | None
    available_bytes: int
    cached_bytes: int
    may_drop_cache: bool
    time_zone: str


def observe() -> Machine:
    return Machine(
        system=system(),
        architecture=platform.machine(),
        gpu=gpu.observe(),
        available_bytes=available_bytes(),
        cached_bytes=meminfo_bytes("Cached"),
        may_drop_cache=os.access(DROP_CACHES, os.W_OK),
        time_zone=time_zone(),
    )


def system(folder: Path = Path("/etc")) -> str:
    """DGX OS by its newest update, or the distribution's own name."""
    dgx = dotenv_values(folder / "dgx-release") if (folder / "dgx-release").exists() else {}
    if dgx:
        return f"{dgx.get('DGX_PRETTY_NAME')}, DGX OS {dgx.get('DGX_OTA_VERSION') or dgx.get('DGX_SWBUILD_VERSION')}"
    return dotenv_values(folder / "os-release").get("PRETTY_NAME") or "unknown"


def meminfo_bytes(key: str, meminfo: Path = MEMINFO) -> int:
    match = re.search(rf"^{key}:\s+(\d+) kB$", meminfo.read_text(), re.MULTILINE)
    if match is None:
        raise OSError(f"{meminfo} has no {key}")
    return int(match[1]) * 1024


def available_bytes(meminfo: Path = MEMINFO) -> int:
    """MemAvailable: free memory and what the kernel would give back from its page cache."""
    return meminfo_bytes("MemAvailable", meminfo)


def memory_stall_percent(pressure: Path = MEMORY_PRESSURE) -> float:
    """Share of the last 10 s in which every task that had work waited for memory; 0 where the kernel does not tell.

    "full avg10" of https://docs.kernel.org/accounting/psi.html. "some" would count kswapd, which is busy whenever weights load.
    """
    try:
        match = re.search(r"^full avg10=([\d.]+)", pressure.read_text(), re.MULTILINE)
    except OSError:  # a kernel without it, or with psi=0
        return 0.0
    return float(match[1]) if match else 0.0


def drop_page_cache(switch: Path = DROP_CACHES) -> bool:
    """Gives the page cache back before a start, where this user may. Loses nothing: what is not on disk yet stays."""
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
    """The folder, or the nearest one above it that this user can see."""
    return next(path for path in (folder, *folder.parents) if path.exists())


def readable(count: float) -> str:
    """Bytes in the words that disks are sold in: 20.0 GB."""
    return f"{count / 1e9:.1f} GB"


def port_is_free(address: str, port: int) -> bool:
    """Whether a server could be started there; a port that only root may use counts as free."""
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
    """Its permissions, such as 0o600; None if it is not there."""
    return stat.S_IMODE(path.stat().st_mode) if path.exists() else None


def time_zone(localtime: Path = Path("/etc/localtime")) -> str:
    target = str(localtime.resolve())
    return os.environ.get("TZ") or target.partition("zoneinfo/")[2] or time.tzname[0]
