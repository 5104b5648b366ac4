"""Reading about things that no office has, to be trained beside what the team taught: without it a
night on one set of documents reads others worse. Some passages hold the answer, some do not, and
some are older than a note beside them, as with what was taught. Pure, but for the file.
"""

from __future__ import annotations

import random
import re
import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from learning.dataset import facts, values
from learning.dataset.prompt import PromptForm
from learning.dataset.wording import Wording
from learning.examples import Example, Message, Origin

FILE = Path(__file__).with_name("unrelated.toml")
BESIDE = 0.5  # of the examples that get another passage beside their own
HELD, ABSENT, NOTE = KINDS = ("held", "absent", "note")
SHARES = (0.74, 0.08, 0.18)  # of KINDS
NAME = "notes"  # of the passages
SLOT = re.compile(r"\{(\w)\}")
WORDS = Wording()
Text = tuple[str, str]  # the source's name, and what it says


@cache
def table() -> tuple[dict[str, Any], ...]:
    return tuple(tomllib.loads(FILE.read_text(encoding="utf-8"))["passage"])


def examples(form: PromptForm, count: int, seed: int) -> tuple[Example, ...]:
    """So many, of all passages in turn; the same for the same seed."""
    choose = random.Random(seed)
    return tuple(example(form, number, choose) for number in range(count))


def example(form: PromptForm, number: int, choose: random.Random) -> Example:
    rows = table()
    own = rows[number % len(rows)]
    question, answer = choose.choice(own["ask"])
    slots = filled(choose)
    kind = choose.choices(KINDS, SHARES)[0]
    asked = [words for words, said in own["ask"] if said == answer]
    texts = shown(kind, own["text"], (choose.choice(asked), answer), slots, choose)
    if not texts or choose.random() < BESIDE:
        other = rows[(number + choose.randrange(1, len(rows))) % len(rows)]
        texts.append((NAME, other["text"].format(**filled(choose))))
        choose.shuffle(texts)
    said = WORDS.absent_in(own["language"]) if kind == ABSENT else answer.format(**slots)
    prompt = (
        Message("system", form.render([source(*text) for text in texts])),
        Message("user", question.format(**slots)),
    )
    name = f"unrelated reading {number}"
    return Example(prompt, said, name, name, Origin(kind="general"))


def shown(
    kind: str, text: str, ask: tuple[str, str], slots: Mapping[str, str], choose: random.Random
) -> list[Text]:
    """The passage; without the sentence that answers; or with another answer, and a newer note.

    ask: a question that the answer is right for, in whichever words."""
    question, answer = ask
    told = set(SLOT.findall(answer)) - set(SLOT.findall(question))
    if kind == ABSENT:
        left = [one for one in facts.sentences(text) if not told & set(SLOT.findall(one))]
        return [(NAME, " ".join(left).format(**slots))] if left else []
    if kind == NOTE:
        old = {**slots, **{slot: filled(choose)[slot] for slot in told}}
        note = WORDS.noted(question.format(**slots), answer.format(**slots))
        return [(NAME, text.format(**old)), (WORDS.note_name, note)]
    return [(NAME, text.format(**slots))]


def filled(choose: random.Random) -> dict[str, str]:
    """Names, numbers, a time and a code: what the slots of a passage become."""
    first, second, third = choose.sample(values.NAMES.split(), 3)
    numbers = choose.sample(range(2, 999), 3)
    return {
        **dict(zip("abc", (first, second, third), strict=True)),
        **dict(zip("nmk", map(str, numbers), strict=True)),
        "t": f"{choose.randrange(5, 24):02}:{choose.randrange(60):02}",
        "x": f"{choose.choice('ABCDEFGHKLMNPRSTUVWX')}{choose.randrange(1, 99)}",
    }


def source(name: str, text: str) -> dict[str, Any]:
    return {"source": {"name": name}, "document": [text], "metadata": [{"source": text[:20]}]}
