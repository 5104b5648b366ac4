"""From the ratings that a team gives in Open WebUI to examples to learn from. Pure.

A thumbs-up on an answer says: this answer, to this prompt, was right. The prompt is rebuilt as the model saw it, from the
passages that Open WebUI stored with the answer. A corrected answer arrives as "edit, save as copy, thumbs up".
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from glue.night_desk import MARK
from glue.types import Example, Message

Row = dict[str, Any]


@dataclass(frozen=True)
class PromptForm:
    """How the day puts a prompt together: the preset's system text, then the template around the passages."""

    system: str
    template: str

    def render(self, sources: list[Row]) -> str:
        context = source_context(sources)
        return f"{self.system}\n{self.template.replace('{{CONTEXT}}', context)}" if context else self.system


@dataclass(frozen=True)
class Collected:
    """examples: newest rating last. rejected: why rows were left out, and how many of each."""

    examples: tuple[Example, ...]
    rejected: dict[str, int]


def source_context(sources: list[Row]) -> str:
    """The passages as one text, exactly as Open WebUI 0.12.4 writes them (utils/middleware.py, get_source_context)."""
    numbers: dict[str, int] = {}
    parts: list[str] = []
    for source in sources:
        about = source.get("source") or {}
        for text, metadata in zip(source.get("document") or [], source.get("metadata") or [], strict=False):
            number = numbers.setdefault(metadata.get("source") or about.get("id") or "N/A", len(numbers) + 1)
            name = f' name="{about["name"]}"' if about.get("name") else ""
            kind = f' resource-type="{about["type"]}"' if about.get("type") else ""
            resource = about.get("id") if about.get("type") != "text" else None
            attributes = name + kind + (f' resource-id="{resource}"' if resource else "")
            parts.append(f'<source id="{number}"{attributes}>{text}</source>')
    return "\n".join(parts).strip()


def collect(ratings: Iterable[Row], form: PromptForm) -> Collected:
    """One example for each question whose answer somebody rated up; of several, the one rated last."""
    newest: dict[tuple[str, ...], Example] = {}
    rejected: dict[str, int] = {}
    for rating in sorted(ratings, key=lambda row: row.get("updated_at") or 0):
        found = example(rating, form)
        if isinstance(found, str):
            rejected[found] = rejected.get(found, 0) + 1
            continue
        asked = tuple(message.content for message in found.prompt if message.role != "system")
        newest.pop(asked, None)
        newest[asked] = found
    return Collected(tuple(newest.values()), rejected)


def example(rating: Row, form: PromptForm) -> Example | str:
    """The example that a rating gives, or why it gives none."""
    if not is_thumbs_up(rating):
        return "not a thumbs-up"
    messages = conversation_messages(rating)
    chain = path_to(messages, str((rating.get("meta") or {}).get("message_id")))
    if not chain or chain[-1].get("role") != "assistant":
        return "the rated answer is not in its conversation"
    answer = str(chain[-1].get("content") or "").strip()
    if not answer:
        return "the rated answer is empty"
    if answer.startswith(MARK):
        return "the night desk's answer"
    system = form.render(chain[-1].get("sources") or [])
    earlier = [Message(str(row.get("role")), str(row.get("content") or "")) for row in chain[:-1]]
    return Example(
        prompt=(Message("system", system), *earlier),
        answer=answer,
        source=f"rating {rating.get('id')}",
        conversation=str((rating.get("meta") or {}).get("chat_id")),
    )


def is_thumbs_up(rating: Row) -> bool:
    value = (rating.get("data") or {}).get("rating")
    return rating.get("type") == "rating" and str(value) == "1"


def conversation_messages(rating: Row) -> dict[str, Row]:
    """The snapshot's messages by id; empty where the snapshot is not of the known shape."""
    node: Any = rating
    for key in ("snapshot", "chat", "chat", "history", "messages"):
        node = node.get(key) if isinstance(node, dict) else None
    return node if isinstance(node, dict) else {}


def path_to(messages: dict[str, Row], last: str) -> list[Row]:
    """From the conversation's first message to the one with id last; empty if a link is missing or goes in circles."""
    path: list[Row] = []
    at: Any = last
    while at:
        row = messages.get(at)
        if not isinstance(row, dict) or len(path) > len(messages):
            return []
        path.append(row)
        at = row.get("parentId")
    return path[::-1]
