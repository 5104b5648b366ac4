"""What was seen of a candidate, beside the current adapter and the base model, in the vLLM that
serves. Plain data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from learning.examples import Example

Scores = tuple[float, ...]
SIDES = ("candidate", "current", "base")


@dataclass(frozen=True)
class Scored:
    """Mean log-probability, in nats a token, of the same reference answers, in order.

    units: for each answer, which fact it is about; phrasings of one fact are one unit, for they
    succeed or fail together.
    decoy: what the candidate makes of the same questions with the right answer to another of them.
    """

    candidate: Scores = ()
    current: Scores = ()
    base: Scores = ()
    units: tuple[int, ...] = ()
    decoy: Scores = ()


@dataclass(frozen=True)
class Reply:
    """One answer. cut: it was still going on at the longest that an answer may be. call: the tool
    that it asked for."""

    text: str
    tokens: int = 0
    seconds: float = 0.0
    cut: bool = False
    call: str = ""


@dataclass(frozen=True)
class Sample:
    """The same question, answered by both. taught: it is about what the night taught, and not about
    what was known before."""

    question: str
    wanted: str
    candidate: Reply
    current: Reply
    taught: bool = True


@dataclass(frozen=True)
class GoldenAnswer:
    """A golden question, asked through the chat; for each of SIDES its answer, and what was wrong
    with it, in words."""

    question: str
    answers: dict[str, str]
    wrong: dict[str, tuple[str, ...]]


@dataclass(frozen=True)
class Graded:
    """memorised: it repeats what was taught against the passage. absent: it says that the documents
    do not say it."""

    right: bool
    memorised: bool = False
    absent: bool = False


@dataclass(frozen=True)
class Answered:
    """A question whose answer is right or wrong by a fact (learning.evaluation.answers); for each
    of SIDES what it answered and how good that is."""

    kind: str
    fact: str
    question: str
    texts: dict[str, str]
    grades: dict[str, Graded]


@dataclass(frozen=True)
class Evidence:
    """earlier: held-out answers that earlier nights had already. forms: what was asked for, and
    whether candidate and current
    gave it in that form. facts: how many examples have a fact in their passages. answered: the
    questions about them; none where they are too few. own: the base model's own answers, of which
    no night trains any; candidate and base only."""

    held_out: Scored = Scored()
    general: Scored = Scored()
    samples: tuple[Sample, ...] = ()
    golden: tuple[GoldenAnswer, ...] = ()
    forms: dict[str, tuple[bool, bool]] | None = None
    earlier: Scored = Scored()
    facts: int = 0
    answered: tuple[Answered, ...] = ()
    own: Scored = Scored()


def decoys(rows: Sequence[Example]) -> tuple[Example, ...]:
    """Each row with the answer of the next row that is about another fact; empty if all are about
    one."""
    about = units(rows)
    if len(set(about)) < 2:
        return ()
    turned = [
        next(other for other in range(at, at + len(rows)) if about[other % len(rows)] != about[at])
        for at in range(len(rows))
    ]
    return tuple(
        replace(row, answer=rows[other % len(rows)].answer)
        for row, other in zip(rows, turned, strict=True)
    )


def units(rows: Sequence[Example]) -> tuple[int, ...]:
    """Rows of one conversation, and rows with the same answer, are about one fact: they share a
    number."""
    number: list[int] = []
    seen: dict[str, int] = {}
    for row in rows:
        keys = [f"in {row.conversation}"] * bool(row.conversation) + [
            f"says {' '.join(row.answer.lower().split())}"
        ]
        found = sorted({seen[key] for key in keys if key in seen}) or [len(number)]
        number = [found[0] if other in found else other for other in number]
        seen = {
            key: found[0] if other in found else other for key, other in seen.items()
        } | dict.fromkeys(keys, found[0])
        number.append(found[0])
    return tuple(number)
