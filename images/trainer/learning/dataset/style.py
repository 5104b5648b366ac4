"""The team's style: the words that nearly all of its answers without a passage begin or end with,
asked for in questions that no night trains. Pure.

A style without such words (shorter answers, say) has no right or wrong: likelihoods judge it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from learning.dataset import split, taught
from learning.dataset.facts import Fact
from learning.dataset.variants import Variant
from learning.examples import Dataset

STYLE = "style"  # a kind of question, beside those of variants
FEWEST_WORDS = 3  # that answers do not share by chance
LEAST_SHARED = 0.8  # of the answers


def held_out(built: Dataset) -> tuple[Variant, ...]:
    """Questions without passages that the night holds out; right is an answer with the words that
    the trained ones share. None if they share none."""
    words = shared([row.answer for row in built.train if taught.is_bare(row)])
    return tuple(
        Variant(STYLE, row, split.fingerprint(row), Fact(words))
        for row in built.held_out
        if words and taught.is_bare(row)
    )


def shared(answers: Sequence[str]) -> str:
    """The most words in a row that LEAST_SHARED of the answers end with, or else begin with; empty
    if these are fewer than FEWEST_WORDS, or there are fewer than two answers."""
    said = [answer.split() for answer in answers]
    longest = max(map(len, said), default=0) if len(said) > 1 else 0
    for count in range(longest, FEWEST_WORDS - 1, -1):
        for part in (slice(-count, None), slice(count)):
            parts = Counter(" ".join(words[part]) for words in said if len(words) > count)
            text, often = next(iter(parts.most_common(1)), ("", 0))
            if often >= LEAST_SHARED * len(said):
                return text
    return ""
