"""Turns the seconds of steps into the figures of a row."""

from __future__ import annotations

import statistics
from typing import Any


def timing(seconds: list[float], tokens: list[int], warm_up: int) -> dict[str, Any]:
    """tokens: without padding. step_seconds is the median after the warm-up."""
    steady, real = seconds[warm_up:], tokens[warm_up:]
    return {
        "step_seconds": round(statistics.median(steady), 4),
        "tokens_per_second": round(statistics.median(real) / statistics.median(steady), 1),
        "tokens_per_second_with_warm_up": round(sum(tokens) / sum(seconds), 1),
        "seconds_of_each_step": seconds,
        "real_tokens": sum(tokens),
    }
