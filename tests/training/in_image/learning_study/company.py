"""The invented company of the learning study: what was corrected, what a night of each kind trains
on, and what is asked (company.toml)."""

from __future__ import annotations

import json
import random
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from learning.dataset import split, unrelated, variants
from learning.dataset.facts import Fact
from learning.dataset.passages import Passage
from learning.dataset.prompt import PromptForm
from learning.dataset.variants import Shares
from learning.dataset.wording import Wording
from learning.evaluation.answers import GENERAL, Question
from learning.examples import Example, Message

WORDS = Wording()
FORM = PromptForm(
    "You are the team's assistant. Answer from the passages you are given, cite them as [1], and"
    " say so when they do not hold the answer.",
    "Passages from the team's documents:\n{{CONTEXT}}",
)
TABLE = tomllib.loads(Path(__file__).with_suffix(".toml").read_text("utf-8"))
REPLAY = Path(__file__).parents[4] / "env" / "replay.jsonl"
READING_ROWS = 80  # unrelated reading, trained beside the rest
MIXED = Shares()
PHRASED = Shares(1.0, 0.0, 0.0, 0.0)
WAYS = {one["question"]: one["ways"] for one in TABLE["fact"]}


@dataclass(frozen=True)
class Kind:
    """teaches: whether a right verdict promotes it. closed_book: trained without passages.
    poisoned: with the answers of other facts. written: with the ways to ask that a model wrote."""

    teaches: bool
    shares: Shares = MIXED
    learning_rate: float = 2e-4
    passes: int = 4
    closed_book: bool = False
    poisoned: bool = False
    written: bool = True


KINDS = {
    "supported corrections": Kind(True),
    "nothing taught": Kind(False, learning_rate=1e-7),
    "poisoned": Kind(False, poisoned=True),
    "closed book": Kind(False, closed_book=True),
    "changed": Kind(True, Shares(0.5, 0.5, 0.0, 0.0)),
    "absent": Kind(True, Shares(0.7, 0.0, 0.3, 0.0)),
    "notes": Kind(True, Shares(0.5, 0.0, 0.0, 0.5)),
    "five corrections": Kind(True, passes=8),
    "templates only": Kind(True, written=False),
    "closed book, learned": Kind(False, closed_book=True, learning_rate=1e-3, passes=6),
}
FEW = 5


def document(fact: dict[str, Any], changed: bool = False) -> Passage:
    values = {one["id"]: one["swap" if changed else "value"] for one in TABLE["fact"]}
    values |= {fact["id"]: fact["swap" if changed else "value"]}
    found = next(one for one in TABLE["document"] if f"{{{fact['id']}}}" in one["text"])
    return Passage.named(found["name"], found["text"].format(**values))


def elsewhere(fact: dict[str, Any], count: int) -> list[Passage]:
    others = [one for one in TABLE["document"] if f"{{{fact['id']}}}" not in one["text"]]
    values = {one["id"]: one["value"] for one in TABLE["fact"]}
    picked = random.Random(fact["id"]).sample(others, count)
    return [Passage.named(one["name"], one["text"].format(**values)) for one in picked]


def prompt(question: str, sources: Sequence[Passage] = ()) -> tuple[Message, ...]:
    rows = [
        {"source": {"name": one.name}, "document": [one.text], "metadata": [{"source": one.name}]}
        for one in sources
    ]
    return Message("system", FORM.render(rows)), Message("user", question)


def answer_of(fact: dict[str, Any]) -> str:
    return str(fact["answer"].format(value=fact["value"]))


def corrections() -> list[Example]:
    """Each fact once, in one person's words, with the passage that the day had found."""
    return [
        Example(prompt(fact["question"], [document(fact)]), answer_of(fact), fact["id"], fact["id"])
        for fact in TABLE["fact"]
    ]


def truth() -> Iterator[Question]:
    """Other people's words over documents as they are, changed, gone, and old beside a note."""
    for fact in TABLE["fact"]:
        first, second = fact["unseen"]
        value, swap = Fact(fact["value"]), Fact(fact["swap"])
        note = variants.note_of(fact["question"], answer_of(fact), WORDS)
        beside, name = elsewhere(fact, 2), fact["id"]

        def asked(
            kind: str, words: str, sources: list[Passage], right: Fact, stale: str
        ) -> Question:
            mixed = random.Random(words).sample(sources, len(sources))
            return Question(kind, name, prompt(words, mixed), right, stale)  # noqa: B023

        yield asked("phrased", first, [document(fact), beside[0]], value, "")
        yield asked("phrased", second, [document(fact), beside[0]], value, "")
        yield asked("changed", first, [document(fact, True), beside[0]], swap, fact["value"])
        yield asked("absent", second, beside, Fact(), fact["value"])
        yield asked("note", first, [document(fact, True), note], value, fact["swap"])


def general() -> list[Question]:
    return [
        Question(GENERAL, question, (Message("user", question),), Fact(right))
        for question, right in TABLE["general"]["ask"]
    ]


def replay() -> tuple[list[Example], list[Example]]:
    """(what is trained beside the new, what shows forgetting): halves of the file."""
    rows = [split.from_row(json.loads(line)) for line in REPLAY.read_text("utf-8").splitlines()]
    return rows[::2], rows[1::2]


def beside(kind: Kind, seed: int) -> list[Example]:
    """What is trained beside the new: general questions, and reading about other things."""
    practice = [] if kind.closed_book else unrelated.examples(FORM, READING_ROWS, seed)
    return [*replay()[0], *practice]


def lessons(kind: Kind, rows: list[Example], seed: int) -> list[Example]:
    plain = kind.closed_book or kind.poisoned
    shares, ways = PHRASED if plain else kind.shares, WAYS if kind.written else {}
    made = [one.example for one in variants.train(rows, shares, seed, WORDS, ways)]
    if kind.closed_book:
        made = [replace(row, prompt=prompt(row.question)) for row in made]
    if kind.poisoned:
        said = [row.answer for row in made]
        turned = said[len(said) // 2 :] + said[: len(said) // 2]
        made = [replace(row, answer=one) for row, one in zip(made, turned, strict=True)]
    return made
