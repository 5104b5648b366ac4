"""Does a night forget? Non-inferiority with power. Pure.

It passes if the lower end of its mean change on general rows, paired with the one before, lies
above -margin. A row's change spreads (SD 0.55 to 0.9 nats a token, measured on a real model), so
with few rows even a night that changes nothing is refused: rows_needed says how many it takes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean, stdev

CONFIDENCE = 0.95  # one-sided: a night that loses the margin is refused as often
PASSES = 0.95  # how often a night that changes nothing is to pass


@dataclass(frozen=True)
class Forgetting:
    """In nats a token. unchanged_passes: how often a night that changes nothing would pass, with so
    many rows of this spread."""

    mean: float
    low: float
    rows: int
    passes: bool
    unchanged_passes: float
    rows_needed: int

    @property
    def decides(self) -> bool:
        """There are as many rows as it takes to see the margin."""
        return 0 < self.rows_needed <= self.rows


def judged(changes: Sequence[float], margin: float) -> Forgetting:
    """changes: for each general row the candidate's mean log-probability less that of the one
    before. Refuses what it cannot see: fewer than two rows, or a change that is not finite."""
    if len(changes) < 2 or not all(map(math.isfinite, changes)):
        return Forgetting(math.nan, -math.inf, len(changes), False, 0.0, 0)
    mean, spread = fmean(changes), stdev(changes)
    low = mean - student(CONFIDENCE, len(changes) - 1) * spread / math.sqrt(len(changes))
    return Forgetting(
        mean,
        low,
        len(changes),
        low > -margin,
        pass_rate(0.0, spread, len(changes), margin),
        rows_needed(spread, margin),
    )


def pass_rate(change: float, spread: float, rows: int, margin: float) -> float:
    """How often a night passes whose true mean change is this."""
    error = spread / math.sqrt(rows)
    if not error:
        return float(change > -margin)
    return NormalDist().cdf((change + margin) / error - student(CONFIDENCE, rows - 1))


def rows_needed(spread: float, margin: float) -> int:
    """So that a night which changes nothing passes PASSES of the time, and one that loses the
    margin is refused CONFIDENCE of the time."""
    z = NormalDist().inv_cdf(PASSES) + NormalDist().inv_cdf(CONFIDENCE)
    return max(2, math.ceil((z * spread / margin) ** 2) + 1)


def student(confidence: float, freedom: int) -> float:
    """Student's t, one-sided, by its expansion around the normal (Abramowitz and Stegun 26.7.5);
    within 1 % from 5 degrees of freedom on."""
    z = NormalDist().inv_cdf(confidence)
    return (
        z
        + (z**3 + z) / (4 * freedom)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * freedom**3)
    )
