"""What a dataset holds, counted, and as a page that a person can read through. Pure."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, select_autoescape

from learning.dataset.prepare import Prepared
from learning.examples import Dataset, Example

MOST_SHOWN = 2000  # rows on the page; a browser takes no more
LONGEST_SHOWN = 4000  # characters of a text


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


def page(card: dict[str, Any], parts: dict[str, list[Example]], name: str) -> str:
    """One self-contained HTML file. All text is escaped, for people wrote it."""
    rows = [shown(part, row) for part, examples in parts.items() for row in examples][:MOST_SHOWN]
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=select_autoescape(default=True),
        trim_blocks=True,
    )
    left = sum(map(len, parts.values())) - len(rows)
    return environment.get_template("page.html.j2").render(
        card=card, rows=rows, name=name, left=left
    )


def shown(part: str, row: Example) -> dict[str, Any]:
    system = "\n".join(message.content for message in row.prompt if message.role == "system")
    earlier = [message for message in row.prompt if message.role != "system"][:-1]
    return {
        "part": part.replace("_", " "),
        "kind": row.origin.kind or row.source,
        "note": row.origin.note,
        "from": row.origin.document or row.conversation,
        "user": row.origin.user,
        "question": cut(row.question),
        "answer": cut(row.answer),
        "system": cut(system),
        "earlier": [{"role": message.role, "content": cut(message.content)} for message in earlier],
    }


def cut(text: str) -> str:
    return (
        text
        if len(text) <= LONGEST_SHOWN
        else f"{text[:LONGEST_SHOWN]} [... {len(text) - LONGEST_SHOWN} characters more]"
    )
