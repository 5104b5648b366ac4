"""The site's own terms as examples: glossary.toml in the state folder. Pure.

questions = ["What does {term} mean?", "What is {term}?"]      # may be left out

[terms]
MTBF = "MTBF is the mean time between two failures of a machine, in hours of running."
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from glue.core.errors import Misconfigured
from learning.examples import Example, Message, Origin

QUESTIONS = ["What does {term} mean?", "What is {term}?"]


def examples(table: dict[str, Any], file: str, system: Callable[[str], str]) -> list[Example]:
    """system: the system text that the day would have before a question. Raises Misconfigured for a
    table of another form."""
    asked, terms = table.get("questions", QUESTIONS), table.get("terms", {})
    wrong = next(problems(table, asked, terms), None)
    if wrong:
        raise Misconfigured(
            f"Invalid {file} in the state folder",
            wrong,
            "docs/team-member.md shows its form",
        )
    return [
        example(term, meaning, question, system)
        for term, meaning in terms.items()
        for question in asked
    ]


def problems(table: dict[str, Any], asked: Any, terms: Any) -> Any:
    yield from (f"{key} is not known" for key in table.keys() - {"questions", "terms"})
    if not isinstance(asked, list) or not all(
        isinstance(one, str) and "{term}" in one for one in asked
    ):
        yield 'questions is no list of texts that hold "{term}"'
    if not isinstance(terms, dict):
        yield "terms is no table"
        return
    yield from (
        f"{term} has no text"
        for term, text in terms.items()
        if not isinstance(text, str) or not text.strip()
    )


def example(term: str, meaning: str, question: str, system: Callable[[str], str]) -> Example:
    asked = question.replace("{term}", term)
    prompt = (Message("system", system(asked)), Message("user", asked))
    return Example(
        prompt,
        meaning.strip(),
        f"term {term}",
        f"term {term}",
        Origin(kind="term", document="glossary.toml"),
    )
