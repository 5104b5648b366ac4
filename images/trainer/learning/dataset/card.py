"""What a dataset holds, counted, and as a page that a person can read through. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, select_autoescape

from learning.dataset import split
from learning.dataset.prepare import Prepared
from learning.examples import Dataset, Example

MOST_SHOWN = 2000  # rows on the page; a browser takes no more
LONGEST_SHOWN = 4000  # characters of a text
NO_ACCOUNT = "a person without an account"


@dataclass(frozen=True)
class Notes:
    """What only the page shows. people: id -> name. new: fingerprints of rows that no earlier night
    had. chat: the chat's address, empty if it is not known."""

    people: dict[str, str] = field(default_factory=dict)
    new: list[str] = field(default_factory=list)
    chat: str = ""


def about(notes: Notes, rows: Iterable[Example]) -> Notes:
    """Those of these rows only: who is forgotten is named nowhere."""
    users = {row.origin.user for row in rows}
    return replace(notes, people={one: notes.people[one] for one in notes.people if one in users})


def card(
    prepared: Prepared, dataset: Dataset, rejected: dict[str, int], rows: int, new: int
) -> dict[str, Any]:
    """rows: ratings that were read. rejected: everything that was left out before, by reason;
    prepared adds its own."""
    counts = Counter(rejected) + Counter(prepared.rejected)
    learned = dataset.learned
    return {
        "ratings": rows,
        "examples": len(prepared.examples),
        "new": new,
        "parts": {
            part: len(getattr(dataset, part))
            for part in ("train", "held_out", "earlier", "general", "replay")
        },
        "by_origin": dict(Counter(row.origin.kind or "other" for row in learned).most_common()),
        "conversations": len({row.conversation for row in learned}),
        "people": len({row.origin.user for row in learned if row.origin.user}),
        "preferences": dict(Counter(pair.kind for pair in prepared.preferences).most_common()),
        "rejected": dict(counts.most_common()),
        "near_duplicates": prepared.duplicates,
        "masked": dict(Counter(one.kind for one in prepared.masked).most_common()),
        "forgotten": 0,
    }


def page(card: dict[str, Any], parts: dict[str, list[Example]], name: str, notes: Notes) -> str:
    """One self-contained HTML file, new rows first. All text is escaped, for people wrote it."""
    new, found = set(notes.new), [(part, row) for part in parts for row in parts[part]]
    marked = [(split.fingerprint(row) in new, part, row) for part, row in found]
    first = sorted(marked, key=lambda one: not one[0])[:MOST_SHOWN]
    rows = [shown(part, row, notes) | {"new": is_new} for is_new, part, row in first]
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=select_autoescape(default=True),
        trim_blocks=True,
    )
    left = sum(map(len, parts.values())) - len(rows)
    return environment.get_template("page.html.j2").render(
        card=card, rows=rows, name=name, left=left
    )


def shown(part: str, row: Example, notes: Notes) -> dict[str, Any]:
    system = "\n".join(message.content for message in row.prompt if message.role == "system")
    earlier = [message for message in row.prompt if message.role != "system"][:-1]
    return {
        "part": part.replace("_", " "),
        "kind": row.origin.kind or row.source,
        "note": row.origin.note,
        "document": row.origin.document,
        "who": who(row, notes),
        "link": f"{notes.chat}/c/{row.origin.chat}" if notes.chat and row.origin.chat else "",
        "chat": row.origin.chat,
        "user": row.origin.user,
        "question": cut(row.question),
        "answer": cut(row.answer),
        "system": cut(system),
        "earlier": [{"role": message.role, "content": cut(message.content)} for message in earlier],
    }


def who(row: Example, notes: Notes) -> str:
    """By name; empty for what no person rated."""
    return notes.people.get(row.origin.user, NO_ACCOUNT) if row.origin.user else ""


def cut(text: str) -> str:
    return (
        text
        if len(text) <= LONGEST_SHOWN
        else f"{text[:LONGEST_SHOWN]} [... {len(text) - LONGEST_SHOWN} characters more]"
    )
