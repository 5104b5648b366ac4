"""An invented company: its documents, what people correct, and what is asked afterwards.

company.toml is the one on which nights were chosen, company2.toml the one that is reported.
"""

from __future__ import annotations

import random
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from learning.dataset import facts, variants
from learning.dataset.facts import Fact
from learning.dataset.passages import Passage
from learning.dataset.prompt import PromptForm
from learning.dataset.wording import Wording
from learning.evaluation.answers import GENERAL, Question
from learning.examples import Message

CHOSEN_ON, REPORTED = "company", "company2"
FOLDER = Path(__file__).parent
WORDS = Wording()
SYSTEM = (
    "You are the team's assistant. Answer from the passages you are given, cite them as [1], and"
    " say so when they do not hold the answer."
)
TEMPLATE = "Passages from the team's documents:\n{{CONTEXT}}"
FORM = PromptForm(SYSTEM, TEMPLATE)
Row = dict[str, Any]


@dataclass(frozen=True)
class Said:
    """One rating: who says that this is the right answer, over which passages."""

    user: str
    question: str
    answer: str
    sources: tuple[Passage, ...] = ()


@dataclass(frozen=True)
class Company:
    facts: tuple[Row, ...]
    documents: tuple[Row, ...]

    def document(self, fact: Row, changed: bool = False) -> Passage:
        found = next(one for one in self.documents if f"{{{fact['id']}}}" in one["text"])
        return self.filled(found, changed)

    def filled(self, document: Row, changed: bool = False) -> Passage:
        values = {one["id"]: one["swap" if changed else "value"] for one in self.facts}
        return Passage.named(document["name"], document["text"].format(**values))

    def elsewhere(self, fact: Row, count: int, changed: bool = False) -> list[Passage]:
        """Documents that do not hold the fact; always the same ones."""
        others = [one for one in self.documents if f"{{{fact['id']}}}" not in one["text"]]
        picked = random.Random(fact["id"]).sample(others, count)
        return [self.filled(one, changed) for one in picked]


def read(name: str) -> Row:
    return tomllib.loads((FOLDER / f"{name}.toml").read_text("utf-8"))


@cache
def load(name: str) -> Company:
    table = read(name)
    return Company(tuple(table["fact"]), tuple(table["document"]))


@cache
def house_words() -> Row:
    return read("house_words")


def prompt(question: str, sources: Sequence[Passage] = ()) -> tuple[Message, ...]:
    return Message("system", FORM.render(as_sources(sources))), Message("user", question)


def as_sources(sources: Iterable[Passage]) -> list[Row]:
    """As Open WebUI keeps them with an answer."""
    return [
        {"source": {"name": one.name}, "document": [one.text], "metadata": [{"source": one.name}]}
        for one in sources
    ]


def answer_of(fact: Row, key: str = "value") -> str:
    return str(fact["answer"].format(value=fact[key]))


def note(fact: Row) -> Passage:
    return variants.note_of(fact["question"], answer_of(fact), WORDS)


# ---------------------------------------------------------------------- what is asked afterwards


def truth(company: Company, taught: Sequence[Row]) -> Iterator[Question]:
    """Other people's words over documents as they are, changed, gone, and old beside a note; a
    document about something else beside each."""
    for fact in taught:
        first, second = fact["unseen"]
        value, swap = Fact(fact["value"]), Fact(fact["swap"])
        beside, own = company.elsewhere(fact, 2), company.document(fact)
        old = company.document(fact, changed=True)
        rows = (
            (variants.PHRASED, first, [own, beside[0]], value, ""),
            (variants.PHRASED, second, [own, beside[0]], value, ""),
            (variants.CHANGED, first, [old, beside[0]], swap, fact["value"]),
            (variants.ABSENT, second, beside, variants.UNKNOWN, fact["value"]),
            (variants.NOTE, first, [old, note(fact)], value, fact["swap"]),
        )
        for kind, words, sources, right, stale in rows:
            yield question(fact["id"], kind, words, sources, right, stale)


def after_a_change(company: Company, taught: Sequence[Row]) -> Iterator[Question]:
    """Every document says something else than when people corrected."""
    for fact in taught:
        sources = [company.document(fact, True), *company.elsewhere(fact, 1, changed=True)]
        for words in fact["unseen"]:
            right = Fact(fact["swap"])
            yield question(fact["id"], variants.CHANGED, words, sources, right, fact["value"])


def question(
    fact: str, kind: str, words: str, sources: Sequence[Passage], right: Fact, stale: str
) -> Question:
    mixed = random.Random(words).sample(list(sources), len(sources))
    return Question(kind, fact, prompt(words, mixed), right, stale)


def jargon(company: Company, taught: Sequence[Row]) -> Iterator[Question]:
    """The term's note and a document before the model."""
    for term in house_words()["term"]:
        right = facts.of(term["ask"][0], term["meaning"], term["meaning"])
        sources = [term_note(term), company.filled(company.documents[0])]
        for words in term["unseen"]:
            yield question(term["word"], variants.PHRASED, words, sources, right, "")


def style(company: Company, taught: Sequence[Row]) -> Iterator[Question]:
    """Right is an answer that ends in the house's own words; no document helps."""
    letter, closing = house_words()["letter"], Fact(house_words()["closing"])
    for task in letter["unseen"]:
        yield question(task, variants.PHRASED, letter_task(task), (), closing, "")


def term_note(term: Row) -> Passage:
    return variants.note_of(term["ask"][0], term["meaning"], WORDS)


def letter_task(task: str) -> str:
    return f"Write a short letter. It is to {task}."


def general() -> list[Question]:
    return [
        Question(GENERAL, words, (Message("user", words),), Fact(right))
        for words, right in read(CHOSEN_ON)["general"]["ask"]
    ]
