"""One timed question over HTTP. Uses the standard library's client, whose overhead is a tenth of
a millisecond."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Barrier
from typing import Any

ANSWER_SECONDS = 600


@dataclass(frozen=True)
class Endpoint:
    """Where questions go. fields: what each request contains besides its messages."""

    host: str
    port: int
    path: str
    key: str
    fields: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Sample:
    """Times are seconds since the request was sent. error: empty for a complete answer.

    first_event_seconds: the first streamed event of any kind, as the case study counts. From Open
    WebUI that is its list of sources, before the model reads anything. first_token_seconds: the
    first token of the model. first_choice_seconds, last_choice_seconds: chunks with a choice, also
    those without text, as `vllm bench serve` counts.
    """

    first_event_seconds: float = 0.0
    first_token_seconds: float = 0.0
    last_token_seconds: float = 0.0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    passages: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    error: str = ""
    first_choice_seconds: float = 0.0
    last_choice_seconds: float = 0.0

    @property
    def tokens_per_second(self) -> float:
        """From the usage that the model reports, not from chunks: one chunk may hold many tokens.
        The first token belongs to prefill.

        0 if unknown: without usage, or if all tokens came at once.
        """
        spent = self.last_token_seconds - self.first_token_seconds
        return (
            (self.completion_tokens - 1) / spent
            if spent > 0 and self.completion_tokens > 1
            else 0.0
        )


def ask(
    endpoint: Endpoint, messages: list[dict[str, str]], stop_at_sources: bool = False
) -> Sample:
    """Sends the conversation and reads the stream to its end, or only to the sources if
    stop_at_sources."""
    fields = {
        "messages": messages,
        "stream": True,
        "stream_options": {"include_usage": True},
        **endpoint.fields,
    }
    body = json.dumps(fields).encode()
    headers = {"Authorization": f"Bearer {endpoint.key}", "Content-Type": "application/json"}
    connection = http.client.HTTPConnection(endpoint.host, endpoint.port, timeout=ANSWER_SECONDS)
    try:
        connection.connect()
        started = time.perf_counter()
        connection.request("POST", endpoint.path, body, headers)
        response = connection.getresponse()
        if response.status >= 400:
            return Sample(error=f"{response.status} {response.read(400).decode(errors='replace')}")
        return read(response, started, stop_at_sources)
    except (OSError, http.client.HTTPException, ValueError) as error:
        return Sample(error=f"{type(error).__name__}: {error}")
    finally:
        connection.close()


def read(response: http.client.HTTPResponse, started: float, stop_at_sources: bool) -> Sample:
    first_event = first_token = last_token = first_choice = last_choice = 0.0
    sources: list[dict[str, Any]] = []
    usage: dict[str, Any] = {}
    whole, error = False, ""
    for line in response:
        if not line.startswith(b"data:"):
            continue
        now = time.perf_counter() - started
        first_event = first_event or now
        if line[5:].strip() == b"[DONE]":
            whole = True
            continue
        event = json.loads(line[5:])
        error = error or str(event.get("error") or "")
        sources = event.get("sources") or sources
        usage = event.get("usage") or usage
        choices = event.get("choices") or []
        if choices:
            first_choice, last_choice = first_choice or now, now
        if any(holds_text(choice.get("delta") or {}) for choice in choices):
            first_token, last_token = first_token or now, now
        if stop_at_sources and sources:
            whole = True
            break
    return Sample(
        first_event_seconds=first_event,
        first_token_seconds=first_token,
        last_token_seconds=last_token,
        first_choice_seconds=first_choice,
        last_choice_seconds=last_choice,
        **counted(usage),
        **retrieved(sources),
        error=error
        or ("" if whole else "the stream ended early")
        or ("" if first_token or stop_at_sources else "no token came"),
    )


def counted(usage: dict[str, Any]) -> dict[str, Any]:
    return {
        "prompt_tokens": usage.get("prompt_tokens", 0),
        "completion_tokens": usage.get("completion_tokens", 0),
        "cached_tokens": (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0,
    }


def retrieved(sources: list[dict[str, Any]]) -> dict[str, Any]:
    names = (str(row.get("name", "?")) for source in sources for row in source.get("metadata", []))
    texts = (text for source in sources for text in source.get("document", []))
    return {"passages": tuple(texts), "sources": tuple(names)}


def holds_text(delta: dict[str, Any]) -> bool:
    return bool(delta.get("content") or delta.get("reasoning_content") or delta.get("reasoning"))


Ask = Callable[[int, int], Sample]


def level(ask: Ask, users: int, rounds: int, first: int = 0) -> list[Sample]:
    """All users ask at the same moment. The next round starts when all have an answer, as in the
    case study.

    ask: gets the user's number and the question's number, which counts on from `first`.
    """
    together = Barrier(users)

    def one(user: int, number: int) -> Sample:
        together.wait(timeout=60)
        return ask(user, number)

    samples: list[Sample] = []
    with ThreadPoolExecutor(users) as people:
        for turn in range(rounds):
            begin = first + turn * users
            samples += people.map(one, range(users), range(begin, begin + users))
    return samples


def always_busy(ask: Ask, users: int, count: int) -> list[Sample]:
    """Keeps this many requests running: a user with an answer asks the next question at once, as
    `vllm bench serve` does."""
    with ThreadPoolExecutor(users) as people:
        return list(people.map(ask, [0] * count, range(count)))
