"""This machine: its memory and its disk. On a GB10 one memory holds everything, and no container limit sees the GPU's part."""

from __future__ import annotations

import re
import shutil
from pathlib import Path


def available_bytes(meminfo: Path = Path("/proc/meminfo")) -> int:
    """MemAvailable: free memory and what the kernel would give back from its page cache."""
    match = re.search(r"^MemAvailable:\s+(\d+) kB$", meminfo.read_text(), re.MULTILINE)
    if match is None:
        raise OSError(f"{meminfo} has no MemAvailable")
    return int(match[1]) * 1024


def free_disk_bytes(folder: Path) -> int:
    return shutil.disk_usage(folder).free


def readable(count: int) -> str:
    """Bytes in the words that disks are sold in: 20.0 GB."""
    return f"{count / 1e9:.1f} GB"
