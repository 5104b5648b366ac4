"""What a stretch of the night took from the socket, as far as nvidia-smi tells: the GPU's power, summed over time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from glue import gpu

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
    over = threading.Event()
    first = read()
    if first is None:
        yield found
        return
    joules = [0.0]

    def watch() -> None:
        watts, then = first, time.monotonic()
        while not over.wait(every_seconds):
            now, seen = time.monotonic(), read()
            joules[0] += (watts if seen is None else (watts + seen) / 2) * (now - then)
            watts, then = watts if seen is None else seen, now
        joules[0] += watts * (time.monotonic() - then)

    started, thread = time.monotonic(), threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        over.set()
        thread.join(timeout=60)
        found |= {"watt_hours": round(joules[0] / JOULES_A_WATT_HOUR, 2), "seconds": round(time.monotonic() - started)}
