"""Both rates of the check on forgetting, at the spread that real nights have."""

import json
import math
import random
from pathlib import Path
from statistics import fmean, stdev

import pytest

from learning.evaluation import forgetting

NIGHTS = 1000
# what a real model's general rows changed by in three nights (SmolLM2-135M-Instruct, 2026-11-26)
MEASURED = json.loads((Path(__file__).parent / "data" / "general-changes.json").read_text())


def passed(change: float, rows: int, margin: float, spread: list[float], seed: int = 1) -> float:
    """The share of nights that pass whose rows change by this on average and spread as measured."""
    choose = random.Random(seed)
    middle = fmean(spread)
    shifted = [one - middle + change for one in spread]
    verdicts = [
        forgetting.judged(choose.choices(shifted, k=rows), margin).passes for _ in range(NIGHTS)
    ]
    return sum(verdicts) / NIGHTS


@pytest.mark.parametrize("name", list(MEASURED))
@pytest.mark.parametrize("margin", [0.1, 0.15])
def test_with_enough_rows_no_change_passes_and_the_loss_that_matters_is_refused(
    name: str, margin: float
) -> None:
    spread = MEASURED[name]
    rows = forgetting.rows_needed(stdev(spread), margin)
    assert passed(0.0, rows, margin, spread) >= 0.93, "1000 nights of 95 % see 93.6 % at least"
    assert passed(-margin, rows, margin, spread) <= 0.07
    assert passed(-2 * margin, rows, margin, spread) == 0


@pytest.mark.parametrize(
    ("spread", "margin", "rows"),
    [(0.55, 0.1, 329), (0.9, 0.1, 878), (0.55, 0.15, 147), (0.9, 0.15, 391), (0.55, 0.05, 1311)],
)
def test_the_rows_that_it_takes(spread: float, margin: float, rows: int) -> None:
    assert forgetting.rows_needed(spread, margin) == rows
    assert forgetting.pass_rate(0.0, spread, rows, margin) == pytest.approx(0.95, abs=0.005)
    assert forgetting.pass_rate(-margin, spread, rows, margin) == pytest.approx(0.05, abs=0.005)


def test_the_limit_of_today_s_recipes_refuses_most_nights_that_change_nothing() -> None:
    """64 rows at 0.05 nats: not a check on forgetting but a lottery."""
    assert forgetting.pass_rate(0.0, 0.55, 64, 0.05) < 0.2


def test_it_says_how_far_to_trust_it() -> None:
    choose = random.Random(3)
    few = forgetting.judged([choose.gauss(0, 0.55) for _ in range(64)], 0.1)
    assert few.unchanged_passes < 0.6 and few.rows_needed > 200


@pytest.mark.parametrize("changes", [[], [0.1], [0.1, math.nan], [0.0, -math.inf]])
def test_what_cannot_be_seen_does_not_pass(changes: list[float]) -> None:
    assert not forgetting.judged(changes, 0.1).passes


def test_rows_without_any_change_pass() -> None:
    assert forgetting.judged([0.0] * 50, 0.1).passes
