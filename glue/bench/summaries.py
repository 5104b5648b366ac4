"""Averages, medians and 99th percentiles with their 95 % intervals. Pure; the same numbers give the same intervals."""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

RESAMPLES = 1000
SEED = 20


@dataclass(frozen=True)
class Summary:
    """Each interval is the middle 95 % of what resampling gives; of few values a P99 is their largest, and says little."""

    count: int
    mean: float
    median: float
    p99: float
    mean_interval: tuple[float, float]
    median_interval: tuple[float, float]
    p99_interval: tuple[float, float]


def percentile(values: Sequence[float], percent: int) -> float:
    """Linear between the two nearest values, as numpy's default."""
    if len(values) == 1:
        return values[0]
    if percent in (0, 100):
        return min(values) if percent == 0 else max(values)
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


def p99(values: Sequence[float]) -> float:
    return percentile(values, 99)


def interval(values: Sequence[float], statistic: Callable[[Sequence[float]], float]) -> tuple[float, float]:
    """The 95 % bootstrap interval: what the statistic is for samples drawn again, with replacement."""
    choose = random.Random(SEED)
    drawn = sorted(statistic(choose.choices(values, k=len(values))) for _ in range(RESAMPLES))
    return drawn[round(0.025 * RESAMPLES)], drawn[round(0.975 * RESAMPLES) - 1]


def summary(values: Sequence[float]) -> Summary | None:
    """None for no values: where nothing was measured nothing is said."""
    if not values:
        return None
    return Summary(
        count=len(values),
        mean=statistics.fmean(values),
        median=statistics.median(values),
        p99=p99(values),
        mean_interval=interval(values, statistics.fmean),
        median_interval=interval(values, statistics.median),
        p99_interval=interval(values, p99),
    )
