"""Another value of the same form in the place of one: digits for digits, names for names. Pure."""

from __future__ import annotations

import random
from collections.abc import Sequence

from learning.dataset import facts

TRIES = 20
NAMES = (
    "Halvorsen Ostrava Brenner Calloway Dunmore Elverum Fontana Greifen Hartwig Iversen Kallio"
    " Lindgren Marbella Norwood Osterby Pellegrin Quimper Rosvik Salerno Tavira"
)
WORDS = "falcon marble juniper copper walnut saffron pebble harbor lantern thistle"


def other(value: str, known: Sequence[str], beside: str, choose: random.Random) -> str:
    """Another value of the same form, which the passages do not hold: digits for digits, a name for
    a name."""
    for _ in range(TRIES):
        found = turned(value, choose) if facts.is_code(value) else named(value, known, choose)
        if found.casefold() != value.casefold() and not facts.says(beside, found):
            return found
    return ""


def turned(value: str, choose: random.Random) -> str:
    """Each digit, and each capital that stands alone, becomes another; 04:30 stays a time."""
    if clock := facts.CLOCK.fullmatch(value):
        return f"{choose.randrange(24):0{len(clock[1])}}:{choose.randrange(60):02}"
    return "".join(
        choose.choice("123456789" if at == 0 or not value[at - 1].isdigit() else "0123456789")
        if letter.isdigit()
        else choose.choice("ABCDEFGHKLMNPRSTUVWX")
        if letter.isupper() and not value[at + 1 : at + 2].islower()
        else letter
        for at, letter in enumerate(value)
    )


def named(value: str, known: Sequence[str], choose: random.Random) -> str:
    """Of as many words, from the other facts or from a list."""
    size = len(value.split())
    alike = [
        one
        for one in known
        if len(one.split()) == size
        and one[:1].isupper() == value[:1].isupper()
        and not facts.is_code(one)
    ]
    if len(alike) > 2 and choose.random() < 0.5:
        return choose.choice(alike)
    return " ".join(choose.sample((NAMES if value[:1].isupper() else WORDS).split(), size))
