"""What a night will be asked: held-out variants of what the team taught, kept with its data set.
Pure."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Sequence
from typing import Any

from learning.dataset import split, support, variants
from learning.dataset.facts import Fact
from learning.dataset.variants import NO_WAYS, Shares, Variant, Ways
from learning.dataset.wording import Wording
from learning.examples import Example

MOST_FACTS = 50  # four questions each, to three models: minutes on a Spark
SEED = 3407


def held_out(
    examples: Sequence[Example],
    known: Container[str],
    fits: Callable[[Example], bool],
    words: Wording | None = None,
    ways: Ways = NO_WAYS,
) -> tuple[Variant, ...]:
    """Of the examples whose passages hold a fact MOST_FACTS at most, first of all new ones.

    known: fingerprints of what earlier nights had.
    """
    made = variants.held_out(newest(supported(examples), known), Shares(), SEED, words, ways)
    return tuple(one for one in made if fits(one.example))


def facts_in(asked: Iterable[Variant]) -> int:
    """How many examples with a fact in their passages are asked about."""
    return len({one.fact for one in asked if one.kind in variants.KINDS})


def supported(examples: Sequence[Example]) -> list[Example]:
    return [row for row in examples if support.of(row) == support.SUPPORTED]


def newest(rows: Sequence[Example], known: Container[str]) -> list[Example]:
    """What people said before what documents say; examples come oldest first."""
    last = sorted(
        enumerate(rows),
        key=lambda one: (split.fingerprint(one[1]) in known, not one[1].origin.user, -one[0]),
    )
    return [row for _, row in last[:MOST_FACTS]]


def as_row(one: Variant) -> dict[str, Any]:
    right = {"value": one.right.value, "words": sorted(one.right.words)}
    return {"kind": one.kind, "fact": one.fact, "right": right, "stale": one.stale} | split.as_row(
        one.example
    )


def from_row(row: dict[str, Any]) -> Variant:
    right = Fact(row["right"]["value"], frozenset(row["right"]["words"]))
    return Variant(row["kind"], split.from_row(row), row["fact"], right, row["stale"])
