"""From examples to what a night trains on and what its adapter is judged on. Pure."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Container, Iterable
from dataclasses import asdict, fields, replace
from typing import Any

from glue.core import names
from learning.evaluation import measurements
from learning.examples import Dataset, Example, Message, Origin, Preference

ALWAYS_TRAINED = "term"  # a term that is held out is never learned
REPLAY_FOR_EACH = (
    10  # general examples for one new one, at most: more of them only take the night's time
)
FEWEST_REPLAY = 100


def build(
    examples: Iterable[Example],
    replay: Iterable[Example],
    held_out_share: float,
    general_rows: int,
    replay_rows: int,
    always: tuple[Example, ...] = (),
) -> Dataset:
    """Splits by conversation and document, never by row, and keeps apart the general examples that
    show forgetting.

    Held out are, first of all, conversations whose answer another one teaches: those show whether
    it was learned.
    General examples that ask what the night teaches are left out: the night may change their
    answer. Where there are few,
    half of them are trained. always: trained whatever is held out.
    """
    examples = tuple(examples)
    held_out = held_out_conversations(
        tuple(row for row in examples if row.origin.kind != ALWAYS_TRAINED), held_out_share
    )
    taught = {normal(example.question) for example in (*examples, *always)}
    others = sorted((row for row in replay if normal(row.question) not in taught), key=fingerprint)
    general = (
        others[: min(general_rows, (len(others) + 1) // 2)]
        if replay_rows
        else others[:general_rows]
    )
    train = tuple(row for row in examples if row.conversation not in held_out) + always
    balanced = min(replay_rows, max(REPLAY_FOR_EACH * len(train), FEWEST_REPLAY))
    return Dataset(
        train=train,
        held_out=tuple(row for row in examples if row.conversation in held_out),
        general=tuple(general),
        replay=tuple(others[len(general) : len(general) + balanced]),
    )


def judged_by_what_is_new(built: Dataset, known: Container[str], fewest_units: int) -> Dataset:
    """Held out is what no earlier night had, filled up with the newest of the rest to fewest_units
    facts.

    What the current adapter learned long ago no night can teach it again: averaged over all of
    that, a good night's gain would
    drown in a few weeks. known: fingerprints of what earlier nights had.
    """
    held_out = [row for row in built.held_out if fingerprint(row) not in known]
    rest = [row for row in built.held_out if fingerprint(row) in known]
    while rest and len(set(measurements.units(held_out))) < fewest_units:
        held_out.append(rest.pop())
    return replace(built, held_out=tuple(held_out), earlier=tuple(rest))


def held_out_conversations(examples: tuple[Example, ...], share: float) -> set[str]:
    """The same ones for the same examples, whatever their order; one at least where there are two.

    First those whose answer another conversation teaches; where there are too few of them, any.
    """
    said: dict[str, Counter[str]] = {}
    for row in examples:
        said.setdefault(row.conversation, Counter())[normal(row.answer)] += 1
    conversations = sorted(said, key=lambda name: hashlib.sha256(name.encode()).hexdigest())
    wanted = max(int(len(conversations) * share), 1) if share and len(conversations) > 1 else 0
    training = Counter(normal(row.answer) for row in examples)
    taught: list[str] = []
    for conversation in conversations:
        answers = said[conversation]
        if len(taught) < wanted and all(
            training[answer] > count for answer, count in answers.items()
        ):
            taught.append(conversation)
            training.subtract(answers)
    return set((taught + [name for name in conversations if name not in taught])[:wanted])


def normal(text: str) -> str:
    return " ".join(text.lower().split())


def fingerprint(example: Example) -> str:
    """The same for the same question and answer, in whichever conversation."""
    return hashlib.sha256(
        f"{normal(example.question)}\n{normal(example.answer)}".encode()
    ).hexdigest()


def origins(examples: Iterable[Example]) -> list[str]:
    """What a manifest keeps of whom it learned from: enough to recognise a chat or a person, not to
    find one."""
    named = {("chat", row.origin.chat) for row in examples} | {
        ("user", row.origin.user) for row in examples
    }
    return sorted(names.hashed(what, value) for what, value in named if value)


def as_row(example: Example) -> dict[str, Any]:
    """The form in which the trainer reads it: TRL's conversational prompt and completion, and where
    it came from."""
    return {
        "prompt": spoken(example.prompt),
        "completion": [{"role": "assistant", "content": example.answer}],
        "source": example.source,
        "conversation": example.conversation,
        "origin": asdict(example.origin),
    }


def from_row(row: dict[str, Any]) -> Example:
    """Raises KeyError, TypeError or IndexError for a row that is not of as_row's form."""
    answer = str(row["completion"][0]["content"])
    source, conversation = str(row.get("source", "")), str(row.get("conversation", ""))
    return Example(heard(row["prompt"]), answer, source, conversation, origin_from(row))


def as_pair(pair: Preference) -> dict[str, Any]:
    """The form that TRL's preference trainers read; chosen is empty where there was only a
    thumbs-down."""
    return {
        "prompt": spoken(pair.prompt),
        "chosen": [{"role": "assistant", "content": pair.chosen}] if pair.chosen else [],
        "rejected": [{"role": "assistant", "content": pair.rejected}],
        "kind": pair.kind,
        "comment": pair.comment,
        "origin": asdict(pair.origin),
    }


def from_pair(row: dict[str, Any]) -> Preference:
    chosen, rejected = (
        "".join(str(message["content"]) for message in row[key]) for key in ("chosen", "rejected")
    )
    return Preference(
        heard(row["prompt"]),
        chosen,
        rejected,
        str(row["kind"]),
        str(row["comment"]),
        origin_from(row),
    )


def spoken(prompt: Iterable[Message]) -> list[dict[str, str]]:
    return [{"role": message.role, "content": message.content} for message in prompt]


def heard(rows: Iterable[dict[str, Any]]) -> tuple[Message, ...]:
    return tuple(Message(str(row["role"]), str(row["content"])) for row in rows)


def origin_from(row: dict[str, Any]) -> Origin:
    kept = row.get("origin") or {}
    return Origin(**{field.name: str(kept.get(field.name) or "") for field in fields(Origin)})
