"""The GPU, as nvidia-smi tells it. Nothing about memory: a GB10 has none of its own to tell of."""

from __future__ import annotations

import re
import subprocess
from contextlib import suppress
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
ANSWER_SECONDS = 30.0
END_SECONDS = 1.0  # for one that was killed to be gone


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
    """Whether an NVIDIA GPU is here. One that hangs is: a Spark becomes no rehearsal because of it."""
    try:
        return ask("-L") is not None
    except subprocess.TimeoutExpired:
        return True


def observe() -> Gpu | None:
    """The first GPU, if one answers in time."""
    try:
        said = ask(f"--query-gpu={','.join(FIELDS)}", "--format=csv,noheader,nounits")
    except subprocess.TimeoutExpired:
        return None
    return None if said is None else read(said)


def ask(*arguments: str) -> str | None:
    """What nvidia-smi says; None where it fails or is not here. Raises TimeoutExpired where it hangs."""
    command, quiet = ["nvidia-smi", *arguments], subprocess.DEVNULL
    try:
        process = subprocess.Popen(command, stdin=quiet, stdout=subprocess.PIPE, stderr=quiet, text=True, errors="replace")
    except OSError:
        return None
    try:
        said, _ = process.communicate(timeout=ANSWER_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        with suppress(subprocess.TimeoutExpired):  # subprocess.run would wait for ever: what hangs in a driver cannot be killed
            process.wait(END_SECONDS)
        raise
    return said if process.returncode == 0 else None


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
