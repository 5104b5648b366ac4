"""One person's connection to Open WebUI's HTTP API, as of 0.12.4: requests, and questions.

The sources are part of an answer, because Open WebUI answers without them, with status 200, after
any error in retrieval.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import requests

from glue.clients import vllm
from glue.core.errors import GlueError
from glue.core.names import ASSISTANT

LOGS = "make logs SERVICE=open-webui"


class Refused(GlueError):
    """Open WebUI answered with an error. reason: its message."""

    def __init__(self, what: str, response: requests.Response) -> None:
        seen = f"{response.status_code} {response.text[:400]}"
        super().__init__(f"Open WebUI refused {what}", seen, LOGS)
        self.status, self.reason = response.status_code, seen
        with suppress(ValueError, KeyError, TypeError):
            self.reason = str(response.json()["detail"])[:400]


class TooSlow(GlueError):
    """Open WebUI accepted the request, and did not finish it in time."""


@dataclass(frozen=True)
class Answer:
    """sources: as Open WebUI lists them, each with "document" (texts) and "metadata" (per text)."""

    text: str
    sources: list[dict[str, Any]]
    usage: dict[str, Any] | None = None

    @property
    def passages(self) -> list[str]:
        return [text for source in self.sources for text in source.get("document", [])]

    @property
    def source_names(self) -> list[str]:
        metadata = (row for source in self.sources for row in source.get("metadata", []))
        return sorted({str(row.get("name") or row.get("source") or "?") for row in metadata})


@dataclass
class Connection:
    url: str
    session: requests.Session = field(default_factory=vllm.direct_session)
    user: dict[str, Any] = field(default_factory=dict)

    def call(self, method: str, path: str, timeout_seconds: float = 120, **arguments: Any) -> Any:
        """The answer's JSON. Raises Refused for an error, TooSlow or GlueError for no answer."""
        try:
            response = self.session.request(
                method, self.url + path, timeout=timeout_seconds, **arguments
            )
        except requests.RequestException as error:
            kind = TooSlow if isinstance(error, requests.ReadTimeout) else GlueError
            raise kind(f"Open WebUI did not answer {path}", str(error), LOGS) from error
        if response.status_code >= 400:
            raise Refused(f"{method} {path}", response)
        return response.json() if response.content else None

    def account(self) -> dict[str, Any]:
        """Who is signed in: "email", "role", and more; empty if the token is not valid here."""
        try:
            response = self.session.get(f"{self.url}/api/v1/auths/", timeout=30)
        except requests.RequestException as error:
            raise GlueError("Open WebUI did not answer", str(error), "make status") from error
        return dict(response.json()) if response.status_code == 200 else {}

    def ask(
        self,
        messages: list[dict[str, str]],
        timeout_seconds: float = 300,
        model: str = ASSISTANT,
        **asked: Any,
    ) -> Answer:
        """Asks the Team Assistant, with retrieval. asked: more of the request, as temperature=0."""
        url, what = f"{self.url}/api/chat/completions", "the question got no answer"
        usage = {"include_usage": True}
        body = {"model": model, "messages": messages, "stream": True, "stream_options": usage}
        try:
            with self.session.post(
                url, json=body | asked, stream=True, timeout=timeout_seconds
            ) as response:
                if response.status_code >= 400:
                    saw = f"{response.status_code} {response.text[:400]}"
                    raise GlueError(what, saw, "make status")
                return read_stream(response)
        except requests.RequestException as error:
            raise GlueError(what, str(error), "make status") from error


def read_stream(response: requests.Response) -> Answer:
    """The sources come first, then the model's chunks. Raises GlueError for an error in between."""
    text: list[str] = []
    sources: list[dict[str, Any]] = []
    usage: dict[str, Any] | None = None
    for line in response.iter_lines():
        if not line.startswith(b"data:") or line.strip() == b"data: [DONE]":
            continue
        try:
            event = json.loads(line[5:])
        except ValueError as error:
            saw = f"the stream ended inside {line[-200:]!r}"
            raise GlueError("the answer ended early", saw, "make status") from error
        if event.get("error"):
            raise GlueError("the answer ended early", str(event["error"])[:400], "make status")
        sources = event.get("sources") or sources
        usage = event.get("usage") or usage
        text += [
            (choice.get("delta") or {}).get("content") or ""
            for choice in event.get("choices") or []
        ]
    return Answer("".join(text), sources, usage)
