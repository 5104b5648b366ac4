"""A first question, asked as Open WebUI's own page does: words arrive over its socket, and the
server asks the model for a title."""

from __future__ import annotations

import threading
import time
import uuid
from typing import Any

import socketio

from bench.client import ANSWER_SECONDS, Sample, holds_text
from glue.clients.open_webui import WebUI
from glue.core.errors import GlueError

Row = dict[str, Any]
# websocket-client reads http_no_proxy only if a proxy is set; this dummy proxy is never used
DIRECTLY = {"http_proxy_host": "none", "http_no_proxy": ["*"]}
COMPLETIONS = ("chat:completion", "response:completion")


class Page:
    """One open page of one person. The socket is connected before a question is timed, as on a
    real page."""

    def __init__(self, person: WebUI) -> None:
        """Raises GlueError if Open WebUI refuses the socket."""
        self.person = person
        self.socket = socketio.Client(reconnection=False, websocket_extra_options=DIRECTLY)
        self.socket.on("events", self.hear)
        self.begin("")
        try:
            self.socket.connect(
                person.url,
                socketio_path="/ws/socket.io",
                auth={"token": person.user["token"]},
                transports=["websocket"],
            )
        except socketio.exceptions.ConnectionError as error:
            raise GlueError(
                "Open WebUI refuses the socket", str(error), "docker logs of the bench's containers"
            ) from error

    def begin(self, answer: str) -> None:
        self.answer, self.started = answer, time.perf_counter()
        self.first_event = self.first_token = self.last_token = 0.0
        self.usage: Row = {}
        self.sources: list[Row] = []
        self.error = ""
        self.over = threading.Event()

    def hear(self, event: Row, *_: object) -> None:
        """Called in the socket's own thread for every event from the server."""
        now = time.perf_counter() - self.started
        if event.get("message_id") != self.answer:
            return
        told = event.get("data") or {}
        kind, data = told.get("type"), told.get("data") or {}
        self.first_event = self.first_event or now
        if kind == "chat:message:error":
            self.error = str(data)[:400]
            self.over.set()
        if kind == "source":
            self.sources.append(data)
        if kind in COMPLETIONS:
            self.hear_completion(data, now)

    def hear_completion(self, data: Row, now: float) -> None:
        self.sources = data.get("sources") or self.sources
        self.usage = data.get("usage") or self.usage
        worded = any(holds_text(choice.get("delta") or {}) for choice in data.get("choices") or [])
        if worded or data.get("content") or str(data.get("type", "")).endswith(".delta"):
            self.first_token, self.last_token = self.first_token or now, now
        if data.get("done"):
            self.over.set()

    def ask(self, body: Row) -> Sample:
        """Sends the question and waits for the end of the answer. The chat is saved, as the page
        saves it."""
        self.begin(str(uuid.uuid4()))
        try:
            self.person.call(
                "POST",
                "/api/chat/completions",
                json=body | {"id": self.answer, "session_id": self.socket.get_sid()},
            )
        except GlueError as error:
            return Sample(error=error.saw)
        whole = self.over.wait(ANSWER_SECONDS)
        return Sample(
            first_event_seconds=self.first_event,
            first_token_seconds=self.first_token,
            last_token_seconds=self.last_token,
            prompt_tokens=self.usage.get("prompt_tokens", 0),
            completion_tokens=self.usage.get("completion_tokens", 0),
            cached_tokens=(self.usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0,
            passages=tuple(text for source in self.sources for text in source.get("document", [])),
            sources=tuple(
                str(row.get("name", "?"))
                for source in self.sources
                for row in source.get("metadata", [])
            ),
            error=self.error
            or ("" if whole else "the answer did not end")
            or ("" if self.first_token else "no token came"),
        )

    def close(self) -> None:
        self.socket.disconnect()
