"""What the chat suggests to ask: questions about the team's own terms and documents.

Open WebUI's own suggestions, about nothing that a team has, are off (compose.day.yaml).
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from glue.clients import assistant
from glue.clients.open_webui import WebUI
from glue.core import files
from glue.core.names import GLOSSARY

MOST = 6  # the page has room for three, and scrolls
LONGEST_CHARACTERS = 120

Suggestion = dict[str, Any]


def ensure(person: WebUI, state: Path, documents: Iterable[str]) -> None:
    """The assistant suggests what fits these documents; nothing before it exists."""
    wanted = {"suggestion_prompts": made(state, documents)}
    assistant.change(person, state, lambda meta: meta | wanted)


def made(state: Path, documents: Iterable[str]) -> list[Suggestion]:
    """The same ones for the same documents and glossary; empty without both.

    documents: names of all that the assistant looks into.
    """
    terms = spread(about_terms(state), MOST // 2)
    return [*terms, *spread(about_documents(state, documents), MOST - len(terms))]


def about_terms(state: Path) -> list[Suggestion]:
    """A glossary of another form suggests nothing; make dataset names its fault."""
    try:
        table = tomllib.loads((state / GLOSSARY).read_text(encoding="utf-8"))
        question = table.get("questions", ["What does {term} mean?"])[0]
        asked = [question.replace("{term}", term) for term in table.get("terms", {})]
    except (OSError, ValueError, LookupError, AttributeError, TypeError):
        return []
    return [suggestion(one, "from the glossary") for one in asked if fits(one)]


def about_documents(state: Path, documents: Iterable[str]) -> list[Suggestion]:
    """A question that the last night proved by the document, or one made of its name."""
    proved = proved_questions(state)
    asked = [(proved.get(name) or f'What does "{title(name)}" say?', name) for name in documents]
    return [suggestion(question, f"from {name}") for question, name in asked if fits(question)]


def proved_questions(state: Path) -> dict[str, str]:
    """Document -> a question, of those that the day model wrote for the newest data set."""
    newest = max(state.glob("nights/*/dataset/train.jsonl"), default=None)
    rows = files.read_lines(newest) if newest else []
    return {
        row["origin"]["document"]: row["prompt"][-1]["content"]
        for row in rows
        if (row.get("origin") or {}).get("kind") == "document"
    }


def title(name: str) -> str:
    """2024/travel_policy.pdf is "travel policy"."""
    return " ".join(PurePosixPath(name).stem.replace("_", " ").replace("-", " ").split())


def fits(question: str) -> bool:
    return len(question) <= LONGEST_CHARACTERS and question.isprintable()


def suggestion(question: str, source: str) -> Suggestion:
    """title: two lines, as the page shows them. content: what is asked."""
    return {"title": [question, source], "content": question}


def spread(rows: Sequence[Suggestion], most: int) -> list[Suggestion]:
    """At most so many, from the whole length."""
    if len(rows) <= most:
        return list(rows)
    return [rows[number * len(rows) // most] for number in range(most)]
