"""Questions about passages that have nothing to do with the office (reading.toml). A model that
reads these worse after a night has learned to recite. Pure, but for the file."""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path
from typing import Any

from learning.dataset.facts import Fact
from learning.dataset.prompt import PromptForm
from learning.evaluation.answers import READING, Question
from learning.examples import Message

FILE = Path(__file__).with_name("reading.toml")
SOURCE_NAME = "notes"


@cache
def passages() -> tuple[dict[str, Any], ...]:
    return tuple(tomllib.loads(FILE.read_text(encoding="utf-8"))["passage"])


def asked(form: PromptForm, most: int | None = None) -> tuple[Question, ...]:
    """In the day's own form, each passage as the only source. most: so many, evenly from all."""
    every = every_one(form)
    count = len(every) if most is None else min(most, len(every))
    return tuple(every[number * len(every) // count] for number in range(count))


def every_one(form: PromptForm) -> tuple[Question, ...]:
    return tuple(
        Question(READING, f"reading {number}.{part}", prompt(form, row["text"], words), Fact(right))
        for number, row in enumerate(passages(), 1)
        for part, (words, right) in enumerate(row["ask"], 1)
    )


def prompt(form: PromptForm, text: str, question: str) -> tuple[Message, ...]:
    source = {
        "source": {"name": SOURCE_NAME},
        "document": [text],
        "metadata": [{"source": SOURCE_NAME}],
    }
    return Message("system", form.render([source])), Message("user", question)
