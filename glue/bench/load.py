"""Simultaneous users: so many questions at once, again and again."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

from glue.bench.client import Sample

Ask = Callable[[int, int], Sample]


def level(ask: Ask, users: int, rounds: int, first: int = 0) -> list[Sample]:
    """Every user asks at the same moment; the next round begins when all have been answered, as in the case study.

    ask: gets the user's number and the question's, which counts on from `first`.
    """
    together = Barrier(users)

    def one(user: int, number: int) -> Sample:
        together.wait(timeout=60)
        return ask(user, number)

    samples: list[Sample] = []
    with ThreadPoolExecutor(users) as people:
        for turn in range(rounds):
            begin = first + turn * users
            samples += people.map(one, range(users), range(begin, begin + users))
    return samples


def always_busy(ask: Ask, users: int, count: int) -> list[Sample]:
    """So many are always at it: who has an answer asks the next question at once, as `vllm bench serve` does."""
    with ThreadPoolExecutor(users) as people:
        return list(people.map(ask, [0] * count, range(count)))
