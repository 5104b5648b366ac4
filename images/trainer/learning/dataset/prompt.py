"""A conversation as Open WebUI keeps it, a tree of messages, and the prompt that the day makes of
it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Row = dict[str, Any]


@dataclass(frozen=True)
class PromptForm:
    """How the day puts a prompt together: the preset's system text, then the template around the
    passages."""

    system: str
    template: str

    def render(self, sources: list[Row]) -> str:
        context = source_context(sources)
        return (
            f"{self.system}\n{self.template.replace('{{CONTEXT}}', context)}"
            if context
            else self.system
        )


def source_context(sources: list[Row]) -> str:
    """The passages as one text, exactly as Open WebUI 0.12.4 writes them (utils/middleware.py,
    get_source_context)."""
    numbers: dict[str, int] = {}
    parts: list[str] = []
    for source in sources:
        about = source.get("source") or {}
        for passage, metadata in zip(
            source.get("document") or [], source.get("metadata") or [], strict=False
        ):
            number = numbers.setdefault(
                metadata.get("source") or about.get("id") or "N/A", len(numbers) + 1
            )
            name = f' name="{about["name"]}"' if about.get("name") else ""
            kind = f' resource-type="{about["type"]}"' if about.get("type") else ""
            resource = about.get("id") if about.get("type") != "text" else None
            attributes = name + kind + (f' resource-id="{resource}"' if resource else "")
            parts.append(f'<source id="{number}"{attributes}>{passage}</source>')
    return "\n".join(parts).strip()


def conversation_messages(rating: Row) -> dict[str, Row]:
    """The snapshot's messages by id; empty where the snapshot is not of the known shape."""
    node: Any = rating
    for key in ("snapshot", "chat", "chat", "history", "messages"):
        node = node.get(key) if isinstance(node, dict) else None
    return node if isinstance(node, dict) else {}


def path_to(messages: dict[str, Row], last: str) -> list[Row]:
    """From the conversation's first message to the one with id last; empty if a link is missing or
    goes in circles."""
    path: list[Row] = []
    at: Any = last
    while at:
        row = messages.get(at)
        if not isinstance(row, dict) or len(path) > len(messages):
            return []
        path.append(row)
        at = row.get("parentId")
    return path[::-1]


def siblings(messages: dict[str, Row], answer: Row) -> list[Row]:
    """The other answers to the same question."""
    return [
        other
        for other in messages.values()
        if isinstance(other, dict)
        and other.get("role") == "assistant"
        and other.get("parentId") == answer.get("parentId")
        and other.get("id") != answer.get("id")
    ]


def marks(message: Row) -> set[str]:
    """What "Save as copy" leaves as it was and a regeneration does not: the ids of the task and of
    its output."""
    output = message.get("output")
    ids = (
        [part.get("id") for part in output if isinstance(part, dict)]
        if isinstance(output, list)
        else []
    )
    return {str(mark) for mark in [(message.get("meta") or {}).get("task_id"), *ids] if mark}
