"""The numbers of a night that the gate decides by: by how much right answers became likelier, and
within which bounds. Pure."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from statistics import NormalDist, fmean, median

from learning.evaluation import right_answers
from learning.evaluation.forgetting import Forgetting
from learning.evaluation.measurements import Evidence, Sample, Scored, Scores

RESAMPLES = 4000
CONFIDENCE = 0.95
SEED = 3407


@dataclass(frozen=True)
class Interval:
    """The mean difference over units, and the ends between which it lies but for noise."""

    mean: float = 0.0
    low: float = 0.0
    high: float = 0.0
    units: int = 0


def gained(evidence: Evidence) -> Interval:
    held_out = evidence.held_out
    return interval(held_out.candidate, held_out.current, held_out.units)


def of_own(own: Forgetting) -> dict[str, float]:
    """Of the base model's own answers; empty where none were scored."""
    if not own.rows:
        return {}
    found = {
        "own_change": own.mean,
        "own_change_low": own.low,
        "own_rows": own.rows,
        "own_rows_needed": own.rows_needed,
        "unchanged_passes": own.unchanged_passes,
    }
    return {name: value for name, value in found.items() if math.isfinite(value)}


def of(evidence: Evidence) -> dict[str, float]:
    """likelihood_ratio: exp of the mean gain, so the geometric mean over tokens of candidate over
    current. 1.3 is 30 % better."""
    found: dict[str, float] = {}
    for name, part in (("held_out", evidence.held_out), ("general", evidence.general)):
        found |= side_means(name, part)
    gain, change = gained(evidence), against(evidence.general, evidence.general.current)
    beyond_base = against(evidence.general, evidence.general.base)
    found |= {
        "gain": gain.mean,
        "gain_low": gain.low,
        "gain_high": gain.high,
        "held_out_units": gain.units,
    }
    if evidence.held_out.decoy:
        margin = interval(
            evidence.held_out.candidate, evidence.held_out.decoy, evidence.held_out.units
        )
        found |= {"margin": margin.mean, "margin_low": margin.low}
    earlier = against(evidence.earlier, evidence.earlier.current)
    found |= (
        {"earlier_change": earlier.mean, "earlier_units": earlier.units} if earlier.units else {}
    )
    found |= {"likelihood_ratio": math.exp(gain.mean) if gain.mean < 100 else math.inf}
    found |= {
        "general_change": change.mean,
        "general_change_low": change.low,
        "general_units": change.units,
    }
    found |= {
        "general_change_from_base": beyond_base.mean,
        "general_change_from_base_low": beyond_base.low,
    }
    slower, before = pace(evidence.samples)
    found |= {"seconds_a_token": slower, "seconds_a_token_current": before} if before else {}
    found |= right_answers.figures(right_answers.table(evidence.samples, evidence.golden))
    # a NaN is no JSON
    return {name: value for name, value in found.items() if math.isfinite(value)}


def side_means(name: str, part: Scored) -> dict[str, float]:
    sides = {"candidate": part.candidate, "current": part.current, "base": part.base}
    return {f"{name}_{side}": fmean(scores) for side, scores in sides.items() if scores}


def against(part: Scored, before: Scores) -> Interval:
    return interval(part.candidate, before, part.units)


def interval(candidate: Scores, before: Scores, units: tuple[int, ...]) -> Interval:
    """Paired, and resampled by unit. With few units a bootstrap's interval is too narrow: its ends
    are moved out to those of Student's t (Hesterberg 2015, "expanded percentile"). One unit has no
    interval."""
    by_unit: dict[int, list[float]] = {}
    for unit, new, old in zip(units, candidate, before, strict=True):
        by_unit.setdefault(unit, []).append(new - old)
    means = [fmean(differences) for differences in by_unit.values()]
    if not means:
        return Interval()
    if len(means) == 1 or not all(map(math.isfinite, means)):
        return Interval(fmean(means), -math.inf, math.inf, len(means))
    choose = random.Random(SEED)
    resampled = sorted(fmean(choose.choices(means, k=len(means))) for _ in range(RESAMPLES))
    cut = int(RESAMPLES * tail(len(means)))
    return Interval(fmean(means), resampled[cut], resampled[RESAMPLES - 1 - cut], len(means))


def tail(units: int) -> float:
    """The share of resamples to leave out at each end."""
    freedom, z = units - 1, NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    student = z + (z**3 + z) / (4 * freedom) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
    return NormalDist().cdf(-math.sqrt(units / freedom) * student)


def pace(samples: tuple[Sample, ...]) -> tuple[float, float]:
    """Median seconds a token of candidate and current, on the questions that both answered at some
    length; else (0, 0)."""
    both = [
        (sample.candidate, sample.current)
        for sample in samples
        if min(sample.candidate.tokens, sample.current.tokens) >= 4
    ]
    if not both:
        return 0.0, 0.0
    new, old = (median(pair[side].seconds / pair[side].tokens for pair in both) for side in (0, 1))
    return new, old
