"""The GPU, as nvidia-smi tells it. Nothing about memory: a GB10 has none of its own to tell of."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass

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


@dataclass(frozen=True)
class Gpu:
    """None where nvidia-smi tells no number. capability: such as "12.1". slowed_by: in words, empty if nothing slows it."""

    name: str
    driver: str
    capability: str
    clock_mhz: float | None
    largest_clock_mhz: float | None
    power_watts: float | None
    busy_percent: float | None
    slowed_by: tuple[str, ...] = ()


def answers() -> bool:
    """Whether an NVIDIA GPU is here."""
    if not shutil.which("nvidia-smi"):
        return False
    return subprocess.run(["nvidia-smi", "-L"], capture_output=True, timeout=30, check=False).returncode == 0


def observe() -> Gpu | None:
    """The first GPU, if one answers."""
    if not answers():
        return None
    command = ["nvidia-smi", f"--query-gpu={','.join(FIELDS)}", "--format=csv,noheader,nounits"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    return read(done.stdout) if done.returncode == 0 else None


def read(text: str) -> Gpu | None:
    """text: a line for each GPU, of which the first is read. "[N/A]" and "[Not Supported]" are no numbers."""
    cells = [cell.strip() for cell in text.strip().partition("\n")[0].split(",")]
    if len(cells) != len(FIELDS):
        return None
    name, driver, capability, clock, largest_clock, power, busy, reasons = cells
    bits = int(reasons, 16) if re.fullmatch(r"0x[0-9a-fA-F]+", reasons) else 0
    slowed_by = tuple(words for bit, words in SLOWED_BY.items() if bits & bit)
    return Gpu(name, driver, capability, number(clock), number(largest_clock), number(power), number(busy), slowed_by)


def number(cell: str) -> float | None:
    return float(cell) if re.fullmatch(r"\d+(\.\d+)?", cell) else None
