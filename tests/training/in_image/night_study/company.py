"""The learning study's company, as a data set builds it and as people ask: what both studies here
train on and are judged by."""

from __future__ import annotations

import json
import random
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from learning.dataset import split, unrelated, variants
from learning.dataset.facts import Fact
from learning.dataset.passages import Passage
from learning.dataset.prompt import PromptForm
from learning.dataset.variants import Shares, Variant
from learning.dataset.wording import Wording
from learning.evaluation import reading
from learning.evaluation.answers import GENERAL, Question
from learning.examples import Example, Message

FOLDER = Path(__file__).parents[1] / "learning_study"
TABLE = tomllib.loads((FOLDER / "company.toml").read_text("utf-8"))
REPLAY = Path(__file__).parents[4] / "env" / "replay.jsonl"
WORDS, SHARES, READING_ROWS = Wording(), Shares(), 80
FORM = PromptForm(
    "You are the team's assistant. Answer from the passages you are given, cite them as [1], and"
    " say so when they do not hold the answer.",
    "Passages from the team's documents:\n{{CONTEXT}}",
)
Fact_ = dict[str, Any]


def document(fact: Fact_, changed: bool = False) -> Passage:
    values = {one["id"]: one["value"] for one in TABLE["fact"]}
    values[fact["id"]] = fact["swap" if changed else "value"]
    found = next(one for one in TABLE["document"] if f"{{{fact['id']}}}" in one["text"])
    return Passage.named(found["name"], found["text"].format(**values))


def elsewhere(fact: Fact_) -> Passage:
    values = {one["id"]: one["value"] for one in TABLE["fact"]}
    others = [one for one in TABLE["document"] if f"{{{fact['id']}}}" not in one["text"]]
    picked = random.Random(fact["id"]).choice(others)
    return Passage.named(picked["name"], picked["text"].format(**values))


def prompt(question: str, sources: Sequence[Passage]) -> tuple[Message, ...]:
    rows = [
        {"source": {"name": one.name}, "document": [one.text], "metadata": [{"source": one.name}]}
        for one in sources
    ]
    return Message("system", FORM.render(rows)), Message("user", question)


def answer_of(fact: Fact_) -> str:
    return str(fact["answer"].format(value=fact["value"]))


def lessons(seed: int) -> tuple[Variant, ...]:
    """Each fact corrected once, in the forms that a data set makes of it."""
    corrections = [
        Example(prompt(fact["question"], [document(fact)]), answer_of(fact), "", fact["id"])
        for fact in TABLE["fact"]
    ]
    ways = {one["question"]: one["ways"] for one in TABLE["fact"]}
    return variants.train(corrections, SHARES, seed, WORDS, ways)


def rows(seed: int) -> list[dict[str, Any]]:
    """A night's train file: the lessons, general examples and reading about other things."""
    general = [json.loads(line) for line in REPLAY.read_text("utf-8").splitlines()][::2]
    for row in general:
        row["origin"] = {"kind": "general"}
    beside = unrelated.examples(FORM, READING_ROWS, seed)
    taught = [one.example for one in lessons(seed)]
    return [split.as_row(row) for row in (*taught, *beside)] + general


def questions() -> list[Question]:
    """Other people's words over documents as they are, changed, gone, and old beside a note; then
    reading about other things, and general questions."""
    known = [
        Question(GENERAL, words, (Message("user", words),), Fact(right))
        for words, right in TABLE["general"]["ask"]
    ]
    return [*truth(), *reading.asked(FORM), *known]


def truth() -> Iterator[Question]:
    for fact in TABLE["fact"]:
        first, second = fact["unseen"]
        value, swap = Fact(fact["value"]), Fact(fact["swap"])
        beside, old = elsewhere(fact), document(fact, changed=True)
        note = variants.note_of(answer_of(fact), WORDS)
        for kind, words, sources, right, stale in (
            (variants.PHRASED, first, [document(fact), beside], value, ""),
            (variants.PHRASED, second, [beside, document(fact)], value, ""),
            (variants.CHANGED, first, [old, beside], swap, fact["value"]),
            (variants.ABSENT, second, [beside], variants.UNKNOWN, fact["value"]),
            (variants.NOTE, first, [old, note], value, fact["swap"]),
        ):
            yield Question(kind, fact["id"], prompt(words, sources), right, stale)
