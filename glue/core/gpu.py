"""The GPU as nvidia-smi reports it; without memory, of which a GB10 has none of its own."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from glue.core import commands

FIELDS = (
    "name",
    "driver_version",
    "compute_cap",
    "clocks.sm",
    "clocks.max.sm",
    "power.draw",
    "utilization.gpu",
    "clocks_event_reasons.active",
)
SLOWED_BY = {0x08: "hardware", 0x20: "heat, by the driver", 0x40: "heat", 0x80: "the power supply"}
ANSWER_SECONDS = 30.0
REBOOT = "sudo reboot"
REINSTALL = f"{REBOOT}; if that does not help, reinstall the driver; see: sudo dmesg | grep -i nvrm"
POWER_CYCLE = (
    "shut down, unplug the power supply for a minute, start again; see: sudo dmesg | grep -i xid"
)
# words of nvidia-smi -> what to type; the first match counts
REMEDIES = {
    # https://github.com/NVIDIA/nvidia-container-toolkit/issues/394
    "version mismatch": f"{REBOOT}: the driver was updated and the old one still runs",
    "Insufficient Permissions": "see who may open the device files: ls -l /dev/nvidia*",
    "GPU is lost": POWER_CYCLE,
    "device handle": POWER_CYCLE,
    "No devices were found": f"{POWER_CYCLE}; without a GPU: PROFILE=rehearsal in env/site.env",
    "NVML": REINSTALL,
    "communicate with the NVIDIA driver": REINSTALL,
    "not installed": "install the NVIDIA driver",
}


@dataclass(frozen=True)
class Gpu:
    """None: nvidia-smi reports no number. capability: such as "12.1"."""

    name: str
    driver: str
    capability: str
    clock_mhz: float | None
    largest_clock_mhz: float | None
    power_watts: float | None
    busy_percent: float | None
    slowed_by: tuple[str, ...] = ()


def look() -> tuple[Gpu | None, str]:
    """The first GPU, or None and the reason in nvidia-smi's words."""
    query = ("nvidia-smi", f"--query-gpu={','.join(FIELDS)}", "--format=csv,noheader,nounits")
    try:
        code, words = commands.stream(query, dict(os.environ), commands.unheard, ANSWER_SECONDS)
    except FileNotFoundError:
        return None, "not installed"
    except OSError as error:
        return None, str(error)
    if code == commands.HANGS:
        return None, f"no answer in {ANSWER_SECONDS:.0f} s"
    found = read(words) if code == 0 else None
    return found, "" if found else " ".join(words.split()) or f"exit {code} without output"


def remedy(fault: str) -> str:
    """What to do about a fault of look()."""
    return next((do for words, do in REMEDIES.items() if words.lower() in fault.lower()), REINSTALL)


def read(text: str) -> Gpu | None:
    """The first complete line of text. A lost GPU has "[GPU is lost]" as its name."""
    rows = [[cell.strip() for cell in line.split(",")] for line in text.splitlines()]
    cells = next((row for row in rows if len(row) == len(FIELDS)), [""])
    if not cells[0] or cells[0].startswith("["):
        return None
    name, driver, capability, *figures, reasons = cells
    bits = int(reasons, 16) if re.fullmatch(r"0x[0-9a-fA-F]+", reasons) else 0
    slowed_by = tuple(words for bit, words in SLOWED_BY.items() if bits & bit)
    clock, largest_clock, power, busy = map(number, figures)
    return Gpu(name, driver, capability, clock, largest_clock, power, busy, slowed_by)


def number(cell: str) -> float | None:
    return float(cell) if re.fullmatch(r"\d+(\.\d+)?", cell) else None
