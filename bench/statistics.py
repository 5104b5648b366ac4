"""Means and medians with 95 % intervals, and 99th percentiles, which have none. Pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

Interval = tuple[float, float]
# with fewer values, even the smallest and largest enclose the median in less than 95 % of cases
LEAST_FOR_AN_INTERVAL = 6
OUTSIDE = 0.025  # on either side of a 95 % interval


@dataclass(frozen=True)
class Summary:
    """An interval is None for too few values. A P99 has none: of few values it is the largest,
    and means little."""

    count: int
    mean: float
    median: float
    p99: float
    mean_interval: Interval | None
    median_interval: Interval | None


def percentile(values: Sequence[float], percent: int) -> float:
    """Linear between the two nearest values, as numpy's default."""
    if len(values) == 1:
        return values[0]
    if percent in (0, 100):
        return min(values) if percent == 0 else max(values)
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


def p99(values: Sequence[float]) -> float:
    return percentile(values, 99)


def median_interval(values: Sequence[float]) -> Interval | None:
    """Two of the sorted values that enclose the median in at least 95 % of cases, for any
    distribution."""
    count, below, rank = len(values), 0.0, 0
    if count < LEAST_FOR_AN_INTERVAL:
        return None
    while (below := below + math.comb(count, rank) / 2**count) <= OUTSIDE:
        rank += 1
    found = sorted(values)
    return found[rank - 1], found[-rank]


def mean_interval(values: Sequence[float]) -> Interval | None:
    """Student's."""
    if len(values) < LEAST_FOR_AN_INTERVAL:
        return None
    middle = statistics.fmean(values)
    reach = student(len(values) - 1) * statistics.stdev(values) / math.sqrt(len(values))
    return middle - reach, middle + reach


def student(freedom: int) -> float:
    """The 97.5 % point of Student's distribution, by the usual expansion around the normal one;
    within 0.2 % from 5 degrees of freedom on."""
    z = statistics.NormalDist().inv_cdf(1 - OUTSIDE)
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / freedom + second / freedom**2 + third / freedom**3


def summary(values: Sequence[float]) -> Summary | None:
    """None for no values."""
    if not values:
        return None
    return Summary(
        count=len(values),
        mean=statistics.fmean(values),
        median=statistics.median(values),
        p99=p99(values),
        mean_interval=mean_interval(values),
        median_interval=median_interval(values),
    )
