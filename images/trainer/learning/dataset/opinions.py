"""What several people think of one answer: of each person the last rating counts, and of all people
more of them. Which of several answers is right, learning.dataset.voices decides. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from learning.examples import Example

AGAIN = "the same person rated the same answer again later"
TAKEN_BACK = "the same answer was rated down later"
RATED_DOWN = "more people rate the answer down than up"
AS_MANY_DOWN = "as many people rate the answer down as up"
Opinion = tuple[str, ...]  # the person, if it is one person's; what was asked; the answer


@dataclass(frozen=True)
class Opinions:
    """up: each person's examples, by person, question and answer; newest last. down: who rates an
    answer down, by question and answer."""

    up: dict[Opinion, Example] = field(default_factory=dict)
    down: dict[Opinion, set[str]] = field(default_factory=dict)


def settle(row: Example, up: bool, said: Opinions) -> list[str]:
    """Takes one more rating into said; of one person on one answer the last counts. Returns the
    reasons of all that is left out by it."""
    who, what = row.origin.user, (asked(row), row.answer)
    before = said.up.pop((who, *what), None)
    if up:
        said.up[who, *what] = row
        said.down.get(what, set()).discard(who)
        return [AGAIN] if before else []
    said.down.setdefault(what, set()).add(who)
    return ["thumbs down", TAKEN_BACK] if before else ["thumbs down"]


def asked(row: Example) -> str:
    spoken = (message.content for message in row.prompt if message.role != "system")
    return "\n".join(" ".join(one.casefold().split()) for one in spoken)


def outvoted(said: Opinions) -> dict[Opinion, str]:
    """What as many people rate down as up, or more: each in it -> why."""
    up = Counter(tuple(what) for _, *what in said.up)
    found: dict[Opinion, str] = {}
    for key in said.up:
        more = len(said.down.get(key[1:], ())) - up[key[1:]]
        if more >= 0:
            found[key] = RATED_DOWN if more else AS_MANY_DOWN
    return found
