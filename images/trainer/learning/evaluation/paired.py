"""Better or worse beyond noise: the exact paired test over facts, and how much it can see. Pure.

A fact is won where the candidate answers it right more often than the one before, lost where less
often; facts without a difference say nothing (McNemar 1947, exact form: a sign test).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from math import comb

LEVEL = 0.05  # how often noise alone may pass for a difference
SEEN = 0.8  # the usual power: what is called seen is seen that often
USUAL_NOISE = 0.05  # of the facts turn the other way in a good night
STEPS = 100


@dataclass(frozen=True)
class Paired:
    facts: int = 0
    won: int = 0
    lost: int = 0

    @property
    def p_better(self) -> float:
        return at_least(self.won, self.won + self.lost, 0.5)

    @property
    def p_worse(self) -> float:
        return at_least(self.lost, self.won + self.lost, 0.5)


def over_facts(rows: Iterable[tuple[str, bool, bool]]) -> Paired:
    """rows: (fact, the candidate is right, the one before was)."""
    net: dict[str, int] = {}
    for fact, now, before in rows:
        net[fact] = net.get(fact, 0) + now - before
    differences = net.values()
    return Paired(
        len(net), sum(one > 0 for one in differences), sum(one < 0 for one in differences)
    )


def at_least(count: int, of: int, chance: float) -> float:
    """The chance of so many or more."""
    return sum(exactly(number, of, chance) for number in range(count, of + 1))


def exactly(count: int, of: int, chance: float) -> float:
    return float(comb(of, count)) * chance**count * (1 - chance) ** (of - count)


def power(facts: int, won: float, lost: float, level: float = LEVEL) -> float:
    """How often the test says better if each fact is won and lost with these chances."""
    changed = won + lost
    if not changed:
        return 0.0
    return sum(
        exactly(different, facts, changed)
        * at_least(fewest_to_win(different, level), different, won / changed)
        for different in range(facts + 1)
    )


def fewest_to_win(different: int, level: float) -> int:
    """different + 1 where even all of them would not do."""
    return next(
        (n for n in range(different + 1) if at_least(n, different, 0.5) <= level), different + 1
    )


@cache
def smallest_seen(facts: int, level: float = LEVEL) -> float:
    """The smallest share of the facts whose gain (or loss) is seen four times in five; above 1 if
    none is."""
    shares = [step / STEPS for step in range(1, STEPS + 1)]
    first = bisect_left(
        shares, SEEN, key=lambda share: power(facts, share, min(USUAL_NOISE, 1 - share), level)
    )
    return shares[first] if first < STEPS else 1 + 1 / STEPS
