import math

from glue import gate
from glue.types import Verdict


def ask(gains: list[float], changes: list[float]) -> Verdict:
    current = ([-1.0] * len(gains), [-0.5] * len(changes))
    better = [score + gain for score, gain in zip(current[0], gains, strict=True)]
    general = [score + change for score, change in zip(current[1], changes, strict=True)]
    return gate.verdict((better, current[0]), (general, current[1]), least_gain=0.05, most_forgetting=0.1)


def test_better_beyond_noise_and_nothing_forgotten_is_promoted() -> None:
    assert ask([0.5, 0.6, 0.4, 0.5], [0.0, -0.02, 0.01]).promote


def test_no_change_is_refused() -> None:
    verdict = ask([0.0] * 6, [0.0] * 6)
    assert not verdict.promote and "no gain" in verdict.reasons[0]


def test_a_gain_that_may_be_luck_is_refused() -> None:
    assert not ask([2.0, -1.5, 1.0, -1.0], [0.0] * 4).promote


def test_forgetting_is_refused_however_large_the_gain() -> None:
    verdict = ask([3.0] * 6, [-1.0] * 6)
    assert not verdict.promote and "forgets" in verdict.reasons[0]


def test_nothing_held_out_is_refused() -> None:
    assert not ask([], [0.0]).promote


def test_an_adapter_that_gives_no_finite_likelihood_is_refused() -> None:
    for broken in (math.nan, math.inf, -math.inf):
        assert not ask([0.5, broken], [0.0]).promote
