"""From examples to what a night trains on and what its adapter is judged on. Pure."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from typing import Any

from glue.types import Dataset, Example, Message


def build(
    examples: Iterable[Example], replay: Iterable[Example], held_out_share: float, general_rows: int, replay_rows: int
) -> Dataset:
    """Splits by conversation, never by row, and keeps apart the general examples that show forgetting.

    Held out are, first of all, conversations whose answer another one teaches: those show whether it was learned.
    General examples that ask what the night teaches are left out: the night may change their answer.
    """
    examples = tuple(examples)
    held_out = held_out_conversations(examples, held_out_share)
    taught = {normal(example.question) for example in examples}
    others = sorted((row for row in replay if normal(row.question) not in taught), key=fingerprint)
    return Dataset(
        train=tuple(row for row in examples if row.conversation not in held_out),
        held_out=tuple(row for row in examples if row.conversation in held_out),
        general=tuple(others[:general_rows]),
        replay=tuple(others[general_rows : general_rows + replay_rows]),
    )


def held_out_conversations(examples: tuple[Example, ...], share: float) -> set[str]:
    """The same ones for the same examples, whatever their order; one at least where there are two.

    First those whose answer another conversation teaches; where there are too few of them, any.
    """
    conversations = sorted({row.conversation for row in examples}, key=lambda name: hashlib.sha256(name.encode()).hexdigest())
    wanted = max(int(len(conversations) * share), 1) if share and len(conversations) > 1 else 0
    training = Counter(normal(row.answer) for row in examples)
    taught: list[str] = []
    for conversation in conversations:
        answers = Counter(normal(row.answer) for row in examples if row.conversation == conversation)
        if len(taught) < wanted and all(training[answer] > count for answer, count in answers.items()):
            taught.append(conversation)
            training -= answers
    return set((taught + [name for name in conversations if name not in taught])[:wanted])


def normal(text: str) -> str:
    return " ".join(text.lower().split())


def fingerprint(example: Example) -> str:
    """The same for the same question and answer, in whichever conversation."""
    return hashlib.sha256(f"{normal(example.question)}\n{normal(example.answer)}".encode()).hexdigest()


def as_row(example: Example) -> dict[str, Any]:
    """The form in which the trainer reads it: TRL's conversational prompt and completion, and where it came from."""
    return {
        "prompt": [{"role": message.role, "content": message.content} for message in example.prompt],
        "completion": [{"role": "assistant", "content": example.answer}],
        "source": example.source,
        "conversation": example.conversation,
    }


def from_row(row: dict[str, Any]) -> Example:
    """Raises KeyError, TypeError or IndexError for a row that is not of as_row's form."""
    prompt = tuple(Message(str(message["role"]), str(message["content"])) for message in row["prompt"])
    return Example(prompt, str(row["completion"][0]["content"]), str(row.get("source", "")), str(row.get("conversation", "")))
