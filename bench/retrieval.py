"""What `python -m bench rag` retrieves, and how many calls to the model one question takes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from bench import chats
from bench.chats import Chat
from bench.documents import Case
from glue.clients.site import Site
from glue.clients.vllm import Vllm

Row = dict[str, Any]
BROWSER_TURNS = 2
API_TURNS = 4


def hit_rate(site: Site, chat: Chat, cases: Sequence[Case]) -> dict[str, Row]:
    """By kind of question: the share whose passages contain the right value, if values are known,
    and that reach the right document.

    The paced model answers stock's search-query call with the ideal query, so stock's share is an
    upper bound.
    """
    found: dict[str, list[tuple[bool | None, bool]]] = {}
    for number, case in enumerate(cases, 1):
        site.tell(f"{chat.name}: labelled questions, {number // 10 * 10} of {len(cases)}")
        sample = chat.ask(0, case.messages, stop_at_sources=True)
        hit = case.passage_found(sample.passages) if case.value else None
        found.setdefault(case.kind, []).append((hit, case.document in sample.sources))
    return {
        kind: {
            "asked": len(rows),
            "passage": share([passage for passage, _ in rows if passage is not None]),
            "document": share([document for _, document in rows]),
        }
        for kind, rows in found.items()
    }


def share(found: list[bool]) -> float | None:
    return round(sum(found) / len(found), 3) if found else None


def calls_per_question(chat: Chat, model: Vllm, cases: Sequence[Case]) -> Row:
    """Calls from Open WebUI to the model for one question: by the API, and for a first question
    on its own page."""

    def count(ask: Callable[[Case], object], turns: int) -> dict[str, float]:
        model.call("POST", "/bench/clear", {})
        for case in cases[:turns]:
            ask(case)
        kinds = Counter(call["kind"] for call in chats.calls_when_quiet(model, turns))
        return {"all": sum(kinds.values()) / turns} | {
            kind: number / turns for kind, number in kinds.items()
        }

    return {
        "api": count(lambda case: chat.ask(0, case.messages), API_TURNS),
        "browser_first_turn": count(lambda case: chat.ask_as_page(case.question), BROWSER_TURNS),
    }
