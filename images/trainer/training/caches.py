"""Seconds that the caches of compiled and tuned kernels save each night: the first steps of a run
compared with its median step.

The seconds of the first run are stored beside the caches, so that both are lost together.
"""

from __future__ import annotations

import json
import statistics
from pathlib import Path

FIRST_STEPS = 10  # the case study was steady from step 11


def warm_up_seconds(seconds: list[float]) -> float:
    """By how much the first steps took longer than the median step; 0 for too few steps."""
    if len(seconds) <= FIRST_STEPS:
        return 0.0
    usual = statistics.median(seconds[FIRST_STEPS:])
    return round(max(0.0, sum(seconds[:FIRST_STEPS]) - FIRST_STEPS * usual), 2)


def seconds_saved(folder: Path, versions: dict[str, str], warm_up: float) -> float | None:
    """Compared with the slowest run of the same versions with these caches; None for the first
    run."""
    path, key = folder / "warm-up.json", json.dumps(versions, sort_keys=True)
    slowest: dict[str, float] = (
        json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    )
    before = slowest.get(key)
    if before is None or warm_up > before:
        folder.mkdir(parents=True, exist_ok=True)
        unfinished = folder / "warm-up.unfinished"
        unfinished.write_text(json.dumps({key: warm_up}), encoding="utf-8")
        unfinished.replace(path)
    return None if before is None else round(max(0.0, before - warm_up), 2)
