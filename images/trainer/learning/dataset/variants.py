"""More examples out of one that its passages support: asked otherwise, with a changed passage, with
none that holds the answer, with a note beside an old document. Pure; one seed makes the same again.

Nights on such examples make a model read what stands before it, nights on the bare answers make it
recite (learning-answers.md). Some ways to ask train and others are held out, so that a
correction that was made once can be learned and judged. The distractors are RAFT's (arXiv
2403.10131).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import cycle

from learning.dataset import facts, passages, split, support, values, wording
from learning.dataset.facts import Fact
from learning.dataset.passages import Passage
from learning.dataset.wording import Wording
from learning.examples import Example, Message

PHRASED, CHANGED, ABSENT, NOTE = KINDS = ("phrased", "changed", "absent", "note")
TRAINED_WAYS = 2 / 3  # of the ways to ask; the others are held out
MOST_DISTRACTORS = 2
MOST_ASIDE = 16  # passages that one example's distractors are taken from
FEWEST_LEFT = 40  # characters of a passage whose sentence about the fact was cut out
NEAR = 0.7  # of the absent examples: the own passage without the sentence that matters
UNKNOWN = Fact()  # what an absent answer is about


# A question, and other ways to ask it that a model wrote. One that may not be used is empty: each
# of the others is then trained, or held out, as before.
Ways = Mapping[str, Sequence[str]]
NO_WAYS: Ways = {}


@dataclass(frozen=True)
class Shares:
    """A recipe's part; learning-answers.md says why these. The four kinds are shares of
    per_example rows and add up to 1; distracted is the share of all rows that get passages about
    something else beside their own."""

    phrased: float = 0.4
    changed: float = 0.25
    absent: float = 0.15
    note: float = 0.2
    distracted: float = 0.5
    per_example: int = 10


@dataclass(frozen=True)
class Variant:
    """fact: the unit that all variants of one example share. right: what an answer must say; empty
    where it must say that the documents do not. stale: what it must not say: what the example
    itself says (changed, absent), or the old document (note)."""

    kind: str
    example: Example
    fact: str
    right: Fact = UNKNOWN
    stale: str = ""


@dataclass(frozen=True)
class Material:
    """What a variant is made from. written: other ways to ask, by the day's model. other: another
    value of the same form. aside: passages that do not hold the fact."""

    example: Example
    fact: Fact
    language: str
    own: tuple[Passage, ...]
    aside: tuple[Passage, ...]
    written: tuple[str, ...]
    words: Wording
    choose: random.Random
    other: Callable[[], str]

    @property
    def is_noted(self) -> bool:
        """Whether a note is among its own passages: its document may say otherwise."""
        return any(one.name == self.words.note_name for one in self.own)


def train(
    supported: Sequence[Example],
    shares: Shares,
    seed: int,
    words: Wording | None = None,
    ways: Ways = NO_WAYS,
) -> tuple[Variant, ...]:
    """What a night trains on. Examples whose passages do not support them are left out."""
    made: list[Variant] = []
    for material in materials(supported, f"train {seed}", words or Wording(), ways):
        kinds = allotted(shares, possible(material))
        for kind, way in zip(kinds, trained_ways(material, len(kinds)), strict=True):
            made += variant(material, kind, way, shares.distracted)
    return tuple(made)


def held_out(
    supported: Sequence[Example],
    shares: Shares,
    seed: int,
    words: Wording | None = None,
    ways: Ways = NO_WAYS,
) -> tuple[Variant, ...]:
    """What a night is judged by: one of each kind for each example, in a way to ask that train
    never uses, with values that it does not use either but by chance."""
    made: list[Variant] = []
    for material in materials(supported, f"held out {seed}", words or Wording(), ways):
        ways_held = held_ways(material)
        for number, kind in enumerate(possible(material)):
            way = ways_held[number % len(ways_held)]
            made += variant(material, kind, way, shares.distracted)
    return tuple(made)


# ---------------------------------------------------------------------- what they are made from


def materials(rows: Sequence[Example], seed: str, words: Wording, ways: Ways) -> Iterator[Material]:
    rows = [row for row in rows if support.of(row) == support.SUPPORTED]
    found = [fact_of(row) for row in rows]
    pool = tuple(dict.fromkeys(passage for row in rows for passage in passages.of(row)))
    known = [fact.value for fact in found if fact.value]
    for row, fact in zip(rows, found, strict=True):
        choose = random.Random(f"{seed} {split.fingerprint(row)}")
        own = passages.of(row)
        texts = "\n".join(passage.text for passage in own)
        yield Material(
            row,
            fact,
            wording.language(row.question, row.answer, texts),
            own,
            beside(pool, own, fact, choose),
            tuple(ways.get(row.question, ())),
            words,
            choose,
            partial(values.other, fact.value, known, texts, choose),
        )


def beside(
    pool: Sequence[Passage], own: Sequence[Passage], fact: Fact, choose: random.Random
) -> tuple[Passage, ...]:
    """Some passages that do not hold the fact; not all, of which there may be thousands."""
    some = choose.sample(pool, min(MOST_ASIDE, len(pool)))
    return tuple(one for one in some if one not in own and not facts.says_fact(one.text, fact))


def fact_of(row: Example) -> Fact:
    texts = [passage.text for passage in passages.of(row)]
    return facts.of(row.question, row.answer, support.evidence(row.question, row.answer, texts))


def trained_ways(material: Material, count: int) -> list[str]:
    """The question itself and the templates in turn; every other one a written way, where there
    are some. Mixed, so that no way goes with one kind."""
    trained, _ = templates(material)
    written, _ = divided(material.written, material.example.question)
    turns = [("{q}", *trained), *([written] if written else [])]
    ways = [
        turn[number // len(turns) % len(turn)]
        for number, turn in zip(range(count), cycle(turns), strict=False)
    ]
    return material.choose.sample(ways, count)


def held_ways(material: Material) -> tuple[str, ...]:
    """Written ones where there are some: a template has the question's own words and is easier."""
    return divided(material.written, material.example.question)[1] or templates(material)[1]


def templates(material: Material) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Others for each fact, so that no template is always the held-out one."""
    said = material.words.templates_in(material.language)
    return divided(said, split.fingerprint(material.example))


def divided(ways: Sequence[str], seed: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(those that train, those that are held out)."""
    mixed = list(ways)
    random.Random(seed).shuffle(mixed)
    trained = round(len(mixed) * TRAINED_WAYS)
    return tuple(filter(None, mixed[:trained])), tuple(filter(None, mixed[trained:]))


# ---------------------------------------------------------------------- the kinds


def possible(material: Material) -> tuple[str, ...]:
    """A passage can be changed where the fact is one value; absent needs another passage."""
    changes = bool(material.fact.value) and bool(material.other())
    notes = changes and not material.is_noted
    allowed = {PHRASED: True, CHANGED: changes, NOTE: notes, ABSENT: bool(material.aside)}
    return tuple(kind for kind in KINDS if allowed[kind])


def allotted(shares: Shares, kinds: Sequence[str]) -> list[str]:
    """per_example kinds in their shares, by largest remainder, mixed."""
    weights = {kind: getattr(shares, kind) for kind in kinds}
    total = sum(weights.values()) or 1.0
    exact = {kind: shares.per_example * weight / total for kind, weight in weights.items()}
    counts = {kind: int(size) for kind, size in exact.items()}
    by_rest = sorted(exact, key=lambda kind: counts[kind] - exact[kind])
    for kind in by_rest[: shares.per_example - sum(counts.values())]:
        counts[kind] += 1
    most = max(counts.values(), default=0)
    return [kind for turn in range(most) for kind in counts if turn < counts[kind]]


def variant(material: Material, kind: str, way: str, distracted: float) -> Iterator[Variant]:
    made = MAKERS[kind](material)
    if made is None:
        return
    own, answer, right, stale = made
    if kind != ABSENT and material.choose.random() < distracted:
        own = with_distractors(material, own)
    asked = wording.asked(way, material.example.question)
    row = passages.put(material.example, own)
    prompt = (*row.prompt[:-1], Message("user", asked))
    row = replace(row, prompt=prompt, answer=answer, source=f"{row.source}, {kind}")
    yield Variant(kind, row, split.fingerprint(material.example), right, stale)


Made = tuple[tuple[Passage, ...], str, Fact, str]  # passages, answer, right, stale


def phrased(material: Material) -> Made | None:
    return material.own, material.example.answer, material.fact, ""


def changed(material: Material) -> Made | None:
    value, new = material.fact.value, material.other()
    own, answer = turned_to(material.own, value, new), material.example.answer
    answer = facts.replaced(answer, value, new)
    return (own, answer, Fact(new), value) if new and facts.says(answer, new) else None


def note(material: Material) -> Made | None:
    """The document is old: it holds another value. The note is right."""
    value, old = material.fact.value, material.other()
    told = note_of(material.example.asked, material.example.answer, material.words)
    own = [*turned_to(material.own, value, old), told]
    material.choose.shuffle(own)
    return (tuple(own), material.example.answer, material.fact, old) if old else None


def absent(material: Material) -> Made | None:
    """Mostly its own passage without the sentence that matters, else passages about
    something else."""
    own = () if material.is_noted else material.own
    near = tuple(filter(None, (without(passage, material.fact) for passage in own)))
    count = material.choose.randint(1, MOST_DISTRACTORS)
    far = tuple(material.choose.sample(material.aside, min(count, len(material.aside))))
    kept = near if near and material.choose.random() < NEAR else far
    answer = material.words.absent_in(material.language)
    return kept, answer, UNKNOWN, material.fact.value


MAKERS: dict[str, Callable[[Material], Made | None]] = {
    PHRASED: phrased,
    CHANGED: changed,
    ABSENT: absent,
    NOTE: note,
}


def turned_to(own: Iterable[Passage], value: str, new: str) -> tuple[Passage, ...]:
    return tuple(replace(one, text=facts.replaced(one.text, value, new)) for one in own)


def without(passage: Passage, fact: Fact) -> Passage | None:
    """None where hardly anything is left, or the rest still says it."""
    left = [one for one in facts.sentences(passage.text) if not facts.says_fact(one, fact)]
    text = " ".join(left)
    if len(text) < FEWEST_LEFT or facts.says_fact(text, fact):
        return None
    return replace(passage, text=text)


def with_distractors(material: Material, own: tuple[Passage, ...]) -> tuple[Passage, ...]:
    count = min(material.choose.randint(1, MOST_DISTRACTORS), len(material.aside))
    mixed = [*own, *material.choose.sample(material.aside, count)]
    material.choose.shuffle(mixed)
    return tuple(mixed)


def note_of(question: str, answer: str, words: Wording) -> Passage:
    """As the day finds it."""
    return Passage.named(words.note_name, words.noted(question, answer), words.notes)
