"""From what was collected to what may be written: masked, without repetitions, short enough.
Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from learning.dataset import duplicates, masking
from learning.examples import Example, Message, Origin, Preference

MOST_MASKED = (
    1 / 3
)  # of an answer's characters; beyond that a model would learn to answer with brackets
BYTES_A_TOKEN = (
    3  # fewer than any tokenizer needs on average for prose; where it matters, vLLM is asked
)
TOKENS_A_MESSAGE = 8  # what a chat template puts around one


@dataclass(frozen=True)
class Masked:
    """One thing that was masked: its kind and its place in the text as it was. place: "answer" or
    the message's number."""

    kind: str
    place: str
    start: int
    end: int
    origin: Origin


@dataclass(frozen=True)
class Prepared:
    examples: tuple[Example, ...]
    preferences: tuple[Preference, ...]
    masked: tuple[Masked, ...]
    rejected: dict[str, int]
    duplicates: int


def prepare(
    examples: Iterable[Example],
    preferences: Iterable[Preference],
    fits: Callable[[Example], bool],
    region: str,
) -> Prepared:
    masked: list[Masked] = []
    rejected: Counter[str] = Counter()
    kept: list[Example] = []
    for example in examples:
        clean, found = without_secrets(example, region)
        hidden = sum(one.end - one.start for one in found if one.place == "answer")
        if hidden > MOST_MASKED * len(example.answer):
            rejected["the answer is mostly secrets or personal data"] += 1
        elif not fits(clean):
            rejected["longer than the recipe trains"] += 1
        else:
            kept.append(clean)
            masked += found
    different, repeated = duplicates.without_near_duplicates(tuple(kept))
    return Prepared(
        different,
        tuple(clean_pair(pair, region) for pair in preferences),
        tuple(masked),
        dict(rejected),
        repeated,
    )


def without_secrets(example: Example, region: str) -> tuple[Example, list[Masked]]:
    origin = masked_note(example.origin, region)
    answer, in_answer = masking.mask(example.answer, region)
    found = [Masked(one.kind, "answer", one.start, one.end, origin) for one in in_answer]
    prompt = []
    for number, message in enumerate(example.prompt):
        content, in_message = masking.mask(message.content, region)
        prompt.append(Message(message.role, content))
        found += [
            Masked(one.kind, f"message {number}", one.start, one.end, origin) for one in in_message
        ]
    return replace(example, prompt=tuple(prompt), answer=answer, origin=origin), found


def clean_pair(pair: Preference, region: str) -> Preference:
    chosen, rejected, comment = (
        masking.mask(text, region)[0] for text in (pair.chosen, pair.rejected, pair.comment)
    )
    prompt = tuple(
        Message(message.role, masking.mask(message.content, region)[0]) for message in pair.prompt
    )
    origin = masked_note(pair.origin, region)
    return replace(
        pair, prompt=prompt, chosen=chosen, rejected=rejected, comment=comment, origin=origin
    )


def masked_note(origin: Origin, region: str) -> Origin:
    """A note quotes what people wrote."""
    return replace(origin, note=masking.mask(origin.note, region)[0])


def most_tokens(example: Example) -> int:
    """No text has more tokens than bytes."""
    return sum(len(text.encode()) + TOKENS_A_MESSAGE for text in texts(example))


def likely_tokens(example: Example) -> int:
    """More than prose has; code and rare scripts may have more."""
    return sum(len(text.encode()) // BYTES_A_TOKEN + TOKENS_A_MESSAGE for text in texts(example))


def texts(example: Example) -> list[str]:
    return [*(message.content for message in example.prompt), example.answer]


def edited(
    examples: tuple[Example, ...], earlier: Iterable[Preference], region: str
) -> tuple[tuple[Example, ...], list[Preference]]:
    """The examples, and pairs of those that were edited in place: the page keeps nothing of what an
    answer was before.

    earlier: what former datasets hold, masked; what they read of the same message, under the same
    rating, is what it was.
    """
    before = {
        old.origin.message: old
        for old in earlier
        if old.kind in ("disliked", "edited answer") and old.origin.message
    }
    pairs = [
        Preference(now.prompt, now.answer, old.rejected, "edited answer", old.comment, now.origin)
        for now in examples
        if (old := before.get(now.origin.message)) and old.origin.rating == now.origin.rating
        if old.rejected not in (now.answer, masking.mask(now.answer, region)[0])
    ]
    messages = {pair.origin.message for pair in pairs}
    return tuple(tagged(row) if row.origin.message in messages else row for row in examples), pairs


def tagged(example: Example) -> Example:
    kind = "edited answer" if example.origin.kind == "rated answer" else example.origin.kind
    return replace(example, origin=replace(example.origin, kind=kind))
