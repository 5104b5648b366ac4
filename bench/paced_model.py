"""A paced model: an OpenAI-compatible server that answers at a DGX Spark's published speeds, with
filler words.

It is a simulation. With it, any machine can measure what a chat adds to a model: each call, hidden
ones too, takes the time of its prompt's tokens (prefill, one prompt at a time) and of its answer's
tokens (decode, slower with more running answers). Not simulated: prefill that slows running
answers, and prefix caching.

Standard library only and one file, because its container has nothing else.

    GET  /v1/models             team-base and team-adapter, as the door lists them
    POST /v1/chat/completions   streamed or whole
    GET  /bench/calls           the calls since the last clear, one row each
    POST /bench/clear
    POST /bench/pace            {"pace": {...}, "rewrites": {what the user said, a line a turn:
                                query}}: either may be left out
"""

from __future__ import annotations

import json
import os
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

CHARACTERS_A_TOKEN = 4
MODELS = ("team-base", "team-adapter")
# the JSON key that each of Open WebUI's task prompts asks for
TASKS = ("queries", "title", "tags", "follow_ups")


@dataclass(frozen=True)
class Pace:
    """prefill_tokens_per_second 0: nothing takes time.

    task_tokens: length of the answer to a hidden call if the model may think; plain_task_tokens if
    it may not.
    """

    prefill_tokens_per_second: float = 4000
    decode_tokens_per_second: dict[str, float] = field(
        default_factory=lambda: {
            "1": 56.3,
            "2": 51.3,
            "4": 38.8,
            "8": 28.5,
        },  # the case study's Table 3, by users
    )
    answer_tokens: int = 200
    # fitted so that stock's first event at one user is the published one; 2, 4 and 8 users are not
    # fitted
    task_tokens: int = 240
    plain_task_tokens: int = 30

    def decode(self, running: int) -> float:
        """Tokens a second for each answer: linear between the published points, and the same
        total beyond them."""
        points = sorted(
            (int(users), speed) for users, speed in self.decode_tokens_per_second.items()
        )
        if running >= points[-1][0]:
            return points[-1][1] * points[-1][0] / running
        upper = next(point for point in points if point[0] >= running)
        lower = next((point for point in reversed(points) if point[0] <= running), upper)
        share = (running - lower[0]) / (upper[0] - lower[0]) if upper != lower else 0.0
        return lower[1] + share * (upper[1] - lower[1])


@dataclass(frozen=True)
class Call:
    kind: str
    prompt_tokens: int
    completion_tokens: int
    has_tools: bool
    queue_seconds: float
    prefill_seconds: float
    decode_seconds: float


class Machine:
    """One GPU: reads one prompt at a time and shares its speed among running answers."""

    def __init__(self) -> None:
        self.pace = Pace()
        self.rewrites: dict[str, str] = {}
        self.calls: list[Call] = []
        self.lock = threading.Lock()
        self.prefilling = threading.Lock()
        self.decoding = 0

    def prefill(self, tokens: int) -> tuple[float, float]:
        """Seconds of waiting for other prompts, and seconds of reading this one."""
        speed = self.pace.prefill_tokens_per_second
        asked = time.monotonic()
        if not speed:
            return 0.0, 0.0
        with self.prefilling:
            queued = time.monotonic() - asked
            time.sleep(tokens / speed)
        return queued, time.monotonic() - asked - queued

    def decode(self, tokens: int) -> Iterator[int]:
        """Yields a number when each token is due. The first is due at once: prefill made it."""
        with self.lock:
            self.decoding += 1
        due = time.monotonic()
        try:
            for number in range(tokens):
                yield number
                if self.pace.prefill_tokens_per_second and number + 1 < tokens:
                    due += 1 / self.pace.decode(self.decoding)
                    time.sleep(max(0.0, due - time.monotonic()))
        finally:
            with self.lock:
                self.decoding -= 1


machine = Machine()


def text_of(message: dict[str, Any]) -> str:
    content = message.get("content") or ""
    return (
        content
        if isinstance(content, str)
        else " ".join(str(part.get("text", "")) for part in content)
    )


def kind_of(messages: list[dict[str, Any]]) -> str:
    """One of TASKS, or "chat" for a user's question."""
    prompt = text_of(messages[-1]) if messages else ""
    if "<chat_history>" not in prompt:
        return "chat"
    return next((task for task in TASKS if f'"{task}"' in prompt), "chat")


def prompt_tokens(body: dict[str, Any]) -> int:
    tools = json.dumps(body["tools"]) if body.get("tools") else ""
    return (
        sum(len(text_of(message)) for message in body["messages"]) + len(tools)
    ) // CHARACTERS_A_TOKEN + 1


def thinks(body: dict[str, Any]) -> bool:
    return bool((body.get("chat_template_kwargs") or {}).get("enable_thinking", True))


def answer_to(body: dict[str, Any], kind: str) -> tuple[str, int]:
    """The text and its number of tokens. A task that spends its limit on thinking gets an empty
    answer."""
    limit = body.get("max_completion_tokens") or body.get("max_tokens") or 10**6
    if kind == "chat":
        count = min(machine.pace.answer_tokens, limit)
        return " ".join(f"word{number}" for number in range(count)), count
    count = machine.pace.task_tokens if thinks(body) else machine.pace.plain_task_tokens
    asked = re.findall(r"USER: (.*)", text_of(body["messages"][-1]))
    last = asked[-1].strip() if asked else "chat"
    value: Any = last[:48] if kind == "title" else []
    if kind == "queries":
        value = [machine.rewrites.get("\n".join(line.strip() for line in asked), last)]
    return (json.dumps({kind: value}) if limit >= count else ""), min(count, limit)


class Server(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        if self.path == "/health":
            return self.send_json(200, {"status": "ok"})
        if not self.allowed():
            return None
        if self.path == "/bench/calls":
            return self.send_json(200, [asdict(call) for call in machine.calls])
        rows = [
            {"id": name, "object": "model", "created": 0, "owned_by": "paced", "root": name}
            for name in MODELS
        ]
        known = self.path == "/v1/models"
        return self.send_json(
            *((200, {"object": "list", "data": rows}) if known else (404, {"error": "not here"}))
        )

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")
        if not self.allowed():
            return
        if self.path == "/v1/chat/completions":
            self.chat(body)
        elif self.path == "/bench/clear":
            machine.calls.clear()
            self.send_json(200, {})
        elif self.path == "/bench/pace":
            machine.pace = Pace(**body["pace"]) if "pace" in body else machine.pace
            machine.rewrites = body.get("rewrites", machine.rewrites)
            self.send_json(200, asdict(machine.pace))
        else:
            self.send_json(404, {"error": {"message": "not here"}})

    def allowed(self) -> bool:
        if self.headers.get("Authorization") == f"Bearer {os.environ['MODEL_API_KEY']}":
            return True
        self.send_json(401, {"error": {"message": "wrong or missing key"}})
        return False

    def chat(self, body: dict[str, Any]) -> None:
        kind = kind_of(body["messages"])
        text, count = answer_to(body, kind)
        given = prompt_tokens(body)
        usage = {"prompt_tokens": given, "completion_tokens": count, "total_tokens": given + count}
        frame = {"id": "paced", "created": int(time.time()), "model": body.get("model")}
        if body.get("stream"):
            self.begin_stream()  # as vLLM: headers before prefill
        queued, prefilled = machine.prefill(given)
        began = time.monotonic()
        words = text.split(" ")
        for number in machine.decode(count):
            if body.get("stream"):
                self.word(frame, words[number] if number < len(words) else "")
        call = Call(
            kind, given, count, bool(body.get("tools")), queued, prefilled, time.monotonic() - began
        )
        machine.calls.append(
            call
        )  # before the answer ends: the caller then asks for the list of calls
        if body.get("stream"):
            return self.end_stream(frame, usage)
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": text},
            "finish_reason": "stop",
        }
        self.send_json(
            200, frame | {"object": "chat.completion", "choices": [choice], "usage": usage}
        )

    def begin_stream(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def word(self, frame: dict[str, Any], word: str) -> None:
        delta = {"index": 0, "delta": {"content": word + " "}, "finish_reason": None}
        self.event(frame | {"object": "chat.completion.chunk", "choices": [delta]})

    def end_stream(self, frame: dict[str, Any], usage: dict[str, int]) -> None:
        frame = frame | {"object": "chat.completion.chunk"}
        self.event(frame | {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
        self.event(frame | {"choices": [], "usage": usage})
        self.part(b"data: [DONE]\n\n")
        self.part(b"")

    def event(self, value: dict[str, Any]) -> None:
        self.part(f"data: {json.dumps(value)}\n\n".encode())

    def part(self, data: bytes) -> None:
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")

    def send_json(self, status: int, payload: Any) -> None:
        data = json.dumps(payload).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Logs nothing: /bench/calls has the calls."""


class Listener(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


if __name__ == "__main__":
    Listener(("0.0.0.0", int(os.environ.get("PORT", "8000"))), Server).serve_forever()
