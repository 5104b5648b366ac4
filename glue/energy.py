"""What a stretch of the night took from the socket, as far as nvidia-smi tells: the GPU's power, summed over time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from glue import gpu, waiting

EVERY_SECONDS = 5.0
JOULES_A_WATT_HOUR = 3600.0


def gpu_watts() -> float | None:
    """None where nothing can be read."""
    found = gpu.observe()
    return found.power_watts if found else None


@contextmanager
def measured(read: Callable[[], float | None] = gpu_watts, every_seconds: float = EVERY_SECONDS) -> Iterator[dict[str, float]]:
    """The dictionary holds watt_hours and seconds once it is over; it stays empty where the power cannot be read."""
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
        found |= {"watt_hours": round(joules[0] / JOULES_A_WATT_HOUR, 2), "seconds": round(time.monotonic() - started)}
