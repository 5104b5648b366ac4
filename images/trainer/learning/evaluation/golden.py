"""Golden questions, whose right answers the site knows. env/golden.toml.example has the form."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glue.core.errors import Misconfigured
from glue.core.names import MARK

FORM = (
    'allowed: [[golden]] with question = "...", must_contain = ["..."] and must_not_contain ='
    ' ["..."]'
)
KEYS = {"question", "must_contain", "must_not_contain"}


@dataclass(frozen=True)
class Golden:
    """The answer must contain all of the one list and none of the other; case and spacing do not
    count."""

    question: str
    must_contain: tuple[str, ...]
    must_not_contain: tuple[str, ...]


def load(path: Path) -> tuple[Golden, ...]:
    """None where there is no such file. Raises Misconfigured, naming the file and the question."""
    if not path.exists():
        return ()
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Misconfigured(
            f"{path.name} is not valid TOML", str(error), f"correct that line of {path.name}"
        ) from error
    rows = table.get("golden", [])
    if set(table) - {"golden"} or not isinstance(rows, list):
        raise Misconfigured(f"Unknown key in {path.name}", ", ".join(table), FORM)
    return tuple(read(path, number, row) for number, row in enumerate(rows, 1))


def read(path: Path, number: int, row: Any) -> Golden:
    wrong = not isinstance(row, dict) or row.keys() - KEYS or not texts([row.get("question")])
    if wrong or not all(texts(row.get(key, [])) for key in KEYS - {"question"}):
        raise Misconfigured(
            f"Invalid question in {path.name}",
            f"question {number}: {row!r}"[:300],
            FORM,
        )
    if not row.get("must_contain") and not row.get("must_not_contain"):
        raise Misconfigured(
            f"Question without must_contain and must_not_contain in {path.name}",
            f"question {number}",
            FORM,
        )
    return Golden(
        row["question"], tuple(row.get("must_contain", [])), tuple(row.get("must_not_contain", []))
    )


def texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(text, str) and text.strip() for text in value)


def wrong(answer: str, golden: Golden) -> tuple[str, ...]:
    """What is wrong with the answer, in words; empty if it is right."""
    said = plain(answer)
    if not said or answer.startswith(MARK):
        return ("it is no answer",)
    missing = [
        f"it does not say {text!r}" for text in golden.must_contain if plain(text) not in said
    ]
    return (
        *missing,
        *(f"it says {text!r}" for text in golden.must_not_contain if plain(text) in said),
    )


def plain(text: str) -> str:
    return " ".join(text.casefold().split())
