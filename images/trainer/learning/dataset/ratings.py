"""From the ratings that a team gives in Open WebUI to examples to learn from. Pure.

A thumbs-up on an answer says: this answer, to this prompt, was right. The prompt is rebuilt as the
model saw it, from the
passages that Open WebUI stored with the answer. Nothing in a rating is trusted to have the form it
should have.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

from glue.core.names import MARK
from learning.dataset import as_seen, opinions, text_rules
from learning.dataset.prompt import PromptForm, Row, conversation_messages, marks, path_to, siblings
from learning.examples import Example, Message, Origin, Preference

MOST_CHARACTERS = 400_000  # of prompt and answer together; no recipe trains anything near it
LEAST_GOOD_SCORE = 6  # of 10; the pages offer 6 to 10 with a thumbs-up


DELETED_ACCOUNT = "rated by an account that is deleted"


@dataclass(frozen=True)
class Known:
    """What a rating alone does not say.

    accounts: ids of all people; None if they are not asked for. count: of a prompt's tokens; None
    where it does not matter what else the model was given. earlier: forms of other days, tried
    where the tokens of today's differ.
    """

    is_forgotten: Callable[[Row], bool] = lambda row: False
    accounts: frozenset[str] | None = None
    count: as_seen.Count | None = lambda prompt: None
    earlier: tuple[PromptForm, ...] = ()


NOTHING_ELSE = Known()


@dataclass(frozen=True)
class Rated:
    """An example, or the reason why a rating is none. up: None if the row is no rating. texts: of
    all answers rated up in its conversation, by account, chat and message."""

    time: float
    up: bool | None
    example: Example | None
    reason: str
    preferences: tuple[Preference, ...] = ()
    account: str = ""
    texts: dict[tuple[str, ...], str] = field(default_factory=dict)


@dataclass(frozen=True)
class Collected:
    """examples: newest rating last. rejected: why rows were left out, and how many of each; with
    the examples, every row. deleted_accounts: ratings by each account that is deleted. disputed:
    (why, example) of those that as many people rate down as up."""

    examples: tuple[Example, ...]
    rejected: dict[str, int]
    preferences: tuple[Preference, ...] = ()
    rows: int = 0
    deleted_accounts: dict[str, int] = field(default_factory=dict)
    disputed: tuple[tuple[str, Example], ...] = ()


def collect(ratings: Iterable[Any], form: PromptForm, known: Known = NOTHING_ELSE) -> Collected:
    """One example for each person, question and answer rated up; which of several answers is right
    learning.dataset.voices decides.

    ratings is read once, a row at a time: a year of them may not fit into memory.
    """
    judged = sorted((reduce(row, form, known) for row in ratings), key=lambda rated: rated.time)
    texts = {place: text for rated in judged for place, text in rated.texts.items()}
    said, rejected = opinions.Opinions(), Counter[str]()
    pairs: dict[tuple[str, ...], Preference] = {}
    for rated in (as_edited(one, texts) for one in judged):
        row, up = rated.example, bool(rated.up)
        rejected.update(opinions.settle(row, up, said) if row else [rated.reason])
        pairs |= {identity(pair): pair for pair in rated.preferences}
    against = opinions.outvoted(said)
    rejected.update(against.values())
    gone = Counter(rated.account for rated in judged if rated.reason == DELETED_ACCOUNT)
    examples = tuple(row for key, row in said.up.items() if key not in against)
    disputed = tuple(
        (why, said.up[k]) for k, why in against.items() if why == opinions.AS_MANY_DOWN
    )
    found = examples, dict(rejected), tuple(pairs.values())
    return Collected(*found, len(judged), dict(gone), disputed)


def identity(pair: Preference) -> tuple[str, ...]:
    """The same for two ratings of one answer by one person, which a slow page can send; the later
    one counts."""
    origin = pair.origin
    return origin.user, origin.chat, origin.message, pair.kind, pair.chosen, pair.rejected


def as_edited(rated: Rated, texts: dict[tuple[str, ...], str]) -> Rated:
    """With the text that a later rating in the same chat shows: a thumb keeps the one that it was
    given to."""
    found = rated.example
    if found is None or not rated.up:
        return rated
    text = texts.get((found.origin.user, found.origin.chat, found.origin.message), "")
    if not text or text == found.answer:
        return rated
    if reason := why_not(text, [message.content for message in found.prompt], False):
        return replace(rated, example=None, reason=reason, preferences=())
    now = replace(found, answer=text, origin=replace(found.origin, kind="edited answer"))
    pair = Preference(found.prompt, text, found.answer, "edited answer", "", now.origin)
    pairs = (replace(one, chosen=text) for one in rated.preferences if one.rejected != text)
    return replace(rated, example=now, preferences=(pair, *pairs))


def rated_up(row: Row, messages: dict[str, Row]) -> dict[tuple[str, ...], str]:
    account, chat = str(row.get("user_id") or ""), str((row.get("meta") or {}).get("chat_id"))
    return {
        (account, chat, name): (text_rules.plain(message.get("content")) or "").strip()
        for name, message in messages.items()
        if isinstance(message, dict) and str((message.get("annotation") or {}).get("rating")) == "1"
    }


def reduce(row: Any, form: PromptForm, known: Known) -> Rated:
    try:
        return judge(row, form, known)
    except (
        AttributeError,
        TypeError,
        KeyError,
        ValueError,
        IndexError,
        ArithmeticError,
    ):  # whatever a row holds, the others are read
        return Rated(0.0, None, None, "not of the form that Open WebUI writes")


def judge(row: Row, form: PromptForm, known: Known) -> Rated:
    time = number(row.get("updated_at"))
    value = str((row.get("data") or {}).get("rating"))
    if row.get("type") != "rating" or value not in ("1", "-1"):
        return Rated(time, None, None, "neither thumbs up nor thumbs down")
    if known.is_forgotten(row):
        return Rated(time, None, None, "forgotten, as was asked for")
    account = str(row.get("user_id"))
    if known.accounts is not None and account not in known.accounts:
        return Rated(time, None, None, DELETED_ACCOUNT, account=account)
    score = number(((row["data"].get("details")) or {}).get("rating"))
    if value == "1" and 0 < score < LEAST_GOOD_SCORE:
        return Rated(time, None, None, "thumbs up, but with a low score")
    messages = conversation_messages(row)
    forms = (form, *(one for one in known.earlier if one != form))
    found = as_it_was(row, messages, forms, known.count)
    up, texts = value == "1", rated_up(row, messages)
    if isinstance(found, str):
        return Rated(time, up, None, found, texts=texts)
    pairs = tuple(preferences(row, messages, found, up=up))
    return Rated(time, up, found, "", pairs, texts=texts)


def number(value: Any) -> float:
    """ijson gives fractions as Decimal. Raises OverflowError for one that no float holds."""
    return (
        float(value) if isinstance(value, int | float | Decimal) and math.isfinite(value) else 0.0
    )


def as_it_was(
    row: Row,
    messages: dict[str, Row],
    forms: tuple[PromptForm, ...],
    count: as_seen.Count | None,
) -> Example | str:
    """By the first of forms whose prompt is the one that the model was given."""
    for form in forms:
        found = example(row, messages, form, count)
        if found != as_seen.OTHER_PROMPT:
            return found
    return as_seen.OTHER_PROMPT


def example(
    row: Row, messages: dict[str, Row], form: PromptForm, count: as_seen.Count | None
) -> Example | str:
    """The prompt and the rated answer, or why there are none."""
    chain = path_to(messages, str((row.get("meta") or {}).get("message_id")))
    if not chain or chain[-1].get("role") != "assistant":
        return "the rated answer is not in its conversation"
    texts = [text_rules.plain(message.get("content")) for message in chain]
    if any(content is None for content in texts):
        return "the conversation holds more than text"
    *earlier, answer = [content or "" for content in texts]
    system = form.render(chain[-1].get("sources") or [])
    if reason := why_not(answer.strip(), [system, *earlier], bool(chain[-1].get("error"))):
        return reason
    spoken = (
        Message(str(message.get("role")), content)
        for message, content in zip(chain, earlier, strict=False)
    )
    prompt = (Message("system", system), *spoken)
    if count and (reason := as_seen.difference(row, chain, prompt, count)):
        return reason
    origin = origin_of(row, messages, chain[-1])
    return Example(
        prompt,
        answer.strip(),
        f"rating {origin.rating}",
        origin.chat,
        origin,
    )


def why_not(answer: str, others: list[str], is_error: bool) -> str:
    """Why nothing is learned from this answer after these other texts; empty if it is."""
    if not answer:
        return "the rated answer is empty"
    if answer.startswith(MARK):
        return "the night desk's answer"
    if is_error:
        return "the answer is an error"
    if len(answer) + sum(map(len, others)) > MOST_CHARACTERS:
        return "the conversation is too long for any recipe"
    return text_rules.complaint(answer, others)


def origin_of(row: Row, messages: dict[str, Row], answer: Row) -> Origin:
    data, meta = row["data"], row.get("meta") or {}
    score = number((data.get("details") or {}).get("rating"))
    note = ", ".join(
        filter(None, [str(data.get("reason") or ""), f"{score:.0f} of 10" if score else ""])
    )
    return Origin(
        kind=kind_of(messages, answer),
        chat=str(meta.get("chat_id")),
        user=str(row.get("user_id") or ""),
        rating=str(row.get("id")),
        message=str(meta.get("message_id")),
        note=note[:200],
    )


def kind_of(messages: dict[str, Row], answer: Row) -> str:
    """How the answer came to be. One that was edited in its place looks like any other, but for old
    messages."""
    others = siblings(messages, answer)
    if any(marks(other) & marks(answer) for other in others):
        return "corrected answer"
    if answer.get("originalContent"):
        return "edited answer"
    return "regenerated answer" if others else "rated answer"


def preferences(
    row: Row, messages: dict[str, Row], found: Example, up: bool
) -> Iterator[Preference]:
    """What the rated answer was preferred to; or, with a thumbs-down, that answer itself."""
    comment = str(row["data"].get("comment") or "")[:2000]
    chain = path_to(messages, found.origin.message)
    if not up:
        yield Preference(found.prompt, "", found.answer, "disliked", comment, found.origin)
        return
    worse = {str(text_rules.plain(chain[-1].get("originalContent")) or "").strip(): "edited answer"}
    for other in siblings(messages, chain[-1]):
        if str((other.get("annotation") or {}).get("rating")) != "1" and not other.get("error"):
            kind = "corrected answer" if marks(other) & marks(chain[-1]) else "regenerated answer"
            worse[(text_rules.plain(other.get("content")) or "").strip()] = kind
    for rejected, kind in worse.items():
        if (
            not rejected
            or rejected == found.answer
            or rejected.startswith(MARK)
            or len(rejected) > MOST_CHARACTERS
        ):
            continue
        if not text_rules.complaint(rejected, []):
            yield Preference(found.prompt, found.answer, rejected, kind, comment, found.origin)
