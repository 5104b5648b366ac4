"""Reading about things that no office has, to be trained beside what the team taught: without it a
night on one set of documents reads others worse. Pure, but for the file.
"""

from __future__ import annotations

import random
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

from learning.dataset import values
from learning.dataset.prompt import PromptForm
from learning.examples import Example, Message, Origin

FILE = Path(__file__).with_name("unrelated.toml")
BESIDE = 0.5  # of the examples that get another passage beside their own


@cache
def table() -> tuple[dict[str, Any], ...]:
    return tuple(tomllib.loads(FILE.read_text(encoding="utf-8"))["passage"])


def examples(form: PromptForm, count: int, seed: int) -> tuple[Example, ...]:
    """So many, in all languages in turn; the same for the same seed."""
    choose = random.Random(seed)
    return tuple(example(form, number, choose) for number in range(count))


def example(form: PromptForm, number: int, choose: random.Random) -> Example:
    rows = table()
    own = rows[number % len(rows)]
    other = rows[(number + choose.randrange(1, len(rows))) % len(rows)]
    question, answer = choose.choice(own["ask"])
    slots = filled(choose)
    texts = [own["text"].format(**slots)]
    if choose.random() < BESIDE:
        texts.append(other["text"].format(**filled(choose)))
        choose.shuffle(texts)
    prompt = (
        Message("system", form.render([source(text) for text in texts])),
        Message("user", question.format(**slots)),
    )
    name = f"unrelated reading {number}"
    return Example(prompt, answer.format(**slots), name, name, Origin(kind="general"))


def filled(choose: random.Random) -> dict[str, str]:
    first, second = choose.sample(values.NAMES.split(), 2)
    numbers = choose.sample(range(2, 999), 2)
    return {"a": first, "b": second, "n": str(numbers[0]), "m": str(numbers[1])}


def source(text: str) -> dict[str, Any]:
    return {"source": {"name": "notes"}, "document": [text], "metadata": [{"source": text[:20]}]}
