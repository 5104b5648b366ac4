"""What a night trains of what people taught, sorted by whether its own passages support it. Pure.

The recipe's keys: sort_by_support, most_without_passage, variants_each and the shares.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from learning.dataset import facts, passages, split, support, variants
from learning.dataset.asked import SEED
from learning.dataset.variants import NO_WAYS, Shares, Variant, Ways
from learning.dataset.wording import Wording
from learning.examples import Dataset, Example

OTHERWISE = "its passages say otherwise"
UNPROVED = "a fact that its passages do not support"
TOO_MANY = "more answers without a passage than the recipe trains"
LEFT_OUT = (OTHERWISE, UNPROVED, TOO_MANY)


@dataclass(frozen=True)
class Taught:
    """supported: trained and asked in variants. plain: trained as they are. left_out: (why,
    example)."""

    supported: tuple[Example, ...]
    plain: tuple[Example, ...]
    left_out: tuple[tuple[str, Example], ...] = ()

    @property
    def kept(self) -> tuple[Example, ...]:
        return self.plain + self.supported


def sort(examples: Iterable[Example], recipe: Mapping[str, Any]) -> Taught:
    """Plain are documents' questions and terms, which are proved or the site's own words; what
    passages neither hold nor deny, if it tells no value; and the newest
    most_without_passage answers without any passage that tell no value."""
    examples = tuple(examples)
    if not recipe["sort_by_support"]:
        return Taught((), examples)
    fates = [fate(row) for row in examples]
    bare = [number for number, row in enumerate(examples) if is_bare(row) and not fates[number]]
    for number in bare[: max(0, len(bare) - recipe["most_without_passage"])]:
        fates[number] = TOO_MANY
    pairs = list(zip(fates, examples, strict=True))
    return Taught(
        tuple(row for what, row in pairs if what == support.SUPPORTED),
        tuple(row for what, row in pairs if not what),
        tuple((what, row) for what, row in pairs if what in LEFT_OUT),
    )


def fate(row: Example) -> str:
    """support.SUPPORTED, one of LEFT_OUT, or empty for what is trained as it is."""
    if not row.origin.user:
        return ""
    kind = support.of(row)
    if kind == support.NO_PASSAGE:
        return UNPROVED if unproved(row) else ""
    return OTHERWISE if kind == support.CONTRADICTED else kind


def is_bare(row: Example) -> bool:
    return bool(row.origin.user) and not passages.of(row)


def unproved(row: Example) -> bool:
    """It tells a number, a code or a name that its question does not, and its passages do not
    support it: it would be recited against the documents. Whether one of them holds the value
    elsewhere proves nothing."""
    told = (value for _, value in facts.values(row.answer))
    return not all(facts.says(row.question, value) for value in told)


def to_decide(why: str, row: Example) -> tuple[str, Example]:
    """With the names of the documents that whoever keeps them may have to change."""
    names = sorted({one.name for one in passages.of(row) if one.name})
    return f"{why}: {', '.join(names)}" if names and why == OTHERWISE else why, row


def trained(
    found: Taught,
    recipe: Mapping[str, Any],
    words: Wording | None = None,
    ways: Ways = NO_WAYS,
) -> tuple[Example, ...]:
    made = variants.train(found.supported, shares(recipe), SEED, words, ways)
    return tuple(one.example for one in made)


def shares(recipe: Mapping[str, Any]) -> Shares:
    changed, absent, note = (recipe[f"{kind}_share"] for kind in ("changed", "absent", "note"))
    phrased = 1 - changed - absent - note
    each = recipe["variants_each"]
    return Shares(phrased, changed, absent, note, recipe["distracted_share"], each)


def judged(
    built: Dataset, asked: Iterable[Variant], found: Taught, known: Container[str], fewest: int
) -> Dataset:
    """The data set, judged also by how likely the answers of supported examples are in a way to ask
    that no night trains."""
    mine = set(map(split.fingerprint, found.supported))
    phrased = [one for one in asked if one.kind == variants.PHRASED and one.fact in mine]
    rows = tuple(one.example for one in reversed(phrased))  # the newest last, as everywhere
    old = {split.fingerprint(one.example) for one in phrased if one.fact in known}
    old |= {f for row in built.held_out if (f := split.fingerprint(row)) in known}
    whole = replace(built, held_out=built.held_out + rows)
    return split.judged_by_what_is_new(whole, old, fewest)
