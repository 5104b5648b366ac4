"""May the night's adapter serve? Pure: likelihoods in, a verdict with reasons out."""

from __future__ import annotations

import random
from collections.abc import Sequence
from statistics import fmean

from glue.types import Verdict

RESAMPLES = 2000
CONFIDENCE = 0.95
SEED = 3407

Scores = Sequence[float]


def verdict(
    held_out: tuple[Scores, Scores], general: tuple[Scores, Scores], least_gain: float, most_forgetting: float
) -> Verdict:
    """held_out and general: (candidate, current), each the mean log-probability a token of the same answers, in order.

    Promotes only what is better on answers it never trained on, beyond noise, and not worse on what it knew before.
    """
    gain, gain_low = paired(held_out)
    change, change_low = paired(general)
    figures = {"gain": gain, "gain_low": gain_low, "general_change": change, "general_change_low": change_low}
    figures |= {"candidate": fmean(held_out[0])} if held_out[0] else {}
    complaints = []
    if not all(abs(score) != float("inf") and score == score for side in (*held_out, *general) for score in side):
        return Verdict(False, ("the adapter gives answers no finite likelihood",), figures)
    if not held_out[0]:
        complaints.append("nothing was held out to judge it by")
    elif gain_low <= least_gain:
        complaints.append(f"no gain beyond noise: {gain:+.3f} a token, at least {gain_low:+.3f}, wanted over {least_gain:+.3f}")
    if change_low < -most_forgetting:
        complaints.append(
            f"it forgets: {change:+.3f} a token on what it knew, {change_low:+.3f} at worst, allowed {-most_forgetting:+.3f}"
        )
    good = f"better on {len(held_out[0])} held-out answers by {gain:+.3f} a token, and {change:+.3f} on {len(general[0])} it knew"
    return Verdict(not complaints, tuple(complaints) or (good,), figures)


def paired(scores: tuple[Scores, Scores]) -> tuple[float, float]:
    """Mean of candidate minus current, and the low end of its bootstrap interval. (0, 0) for no pairs."""
    differences = [candidate - current for candidate, current in zip(*scores, strict=True)]
    if not differences:
        return 0.0, 0.0
    choose = random.Random(SEED)
    means = sorted(fmean(choose.choices(differences, k=len(differences))) for _ in range(RESAMPLES))
    return fmean(differences), means[int(RESAMPLES * (1 - CONFIDENCE) / 2)]
