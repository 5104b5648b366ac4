"""The night desk: an OpenAI-compatible service that answers while the model trains, loads or is
down.

It lists the same models as vLLM, so that chats keep working. It says when the assistant is back and
quotes the passages that Open WebUI found for the question: retrieval runs on the CPU and works all
night.

The door asks it whether the model may answer (/model-may-answer). It may not once glue has written
a night's notice: vLLM then gets no new questions and finishes the running answers.

Standard library only and one file, so that it starts when nothing else does.

Environment
    MODEL_API_KEY   the key that every path under /v1 asks for
    MODEL_IDS       comma-separated names to list
    NOTICE_FILE     JSON that glue writes when it moves: {"reason": "night" | "restart", "back_at":
                    "07:00" | null};
                    missing or unreadable counts as an unplanned restart
"""

from __future__ import annotations

import hmac
import json
import os
import re
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

# The first words of every answer from here; datasets leave out answers that begin with them.
MARK = "🌙 **Night desk**"
PASSAGE = re.compile(r'<source id="(\d+)"([^>]*)>(.*?)</source>', re.DOTALL)
NOTE = 'name="note by the team'  # how a prompt names a correction (glue/core/names.py)
PASSAGES_SHOWN, NOTES_SHOWN = 5, 2
CHARACTERS_A_PASSAGE = 400
LARGEST_REQUEST_BYTES = 64 * 2**20
# the JSON key that each of Open WebUI's task prompts asks for; the answer must be JSON
TASK_KEYS = ("queries", "title", "tags", "follow_ups")


def read_notice(path: str) -> dict[str, Any]:
    try:
        notice = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        notice = None
    return notice if isinstance(notice, dict) else {"reason": "restart", "back_at": None}


def opening(notice: dict[str, Any]) -> str:
    """One sentence: why the desk answers, and until when."""
    if notice.get("reason") == "night":
        return (
            f"{MARK}: the assistant is learning and is back at"
            f" {notice.get('back_at') or 'the start of the day'}."
        )
    return f"{MARK}: the assistant is starting and is back in a few minutes."


def text_of(message: dict[str, Any]) -> str:
    content = message.get("content")
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    return " ".join(str(part.get("text", "")) for part in parts if isinstance(part, dict))


def passages(messages: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """The (number, text) of each passage that Open WebUI put into the prompt, in order; but first
    the closest notes, which are newer than the documents."""
    everything = "\n".join(text_of(message) for message in messages)
    notes, documents = [], []
    for number, about, text in PASSAGE.findall(everything):
        line = " ".join(text.split())
        if line and NOTE in about:
            notes.append((number, f"Note by the team: {line}"))
        elif line:
            documents.append((number, line))
    return [*notes[:NOTES_SHOWN], *documents]


def task_answer(messages: list[dict[str, Any]]) -> str | None:
    """Valid JSON for one of Open WebUI's background tasks; None for a person's question."""
    prompt = text_of(messages[-1]) if messages else ""
    task = next((key for key in TASK_KEYS if f'"{key}"' in prompt), None)
    if task is None or "<chat_history>" not in prompt:
        return None
    asked = re.findall(r"USER: (.*)", prompt)
    words = asked[-1] if asked else "chat"
    return json.dumps(
        {"title": words[:48]} if task == "title" else {task: [words] if task == "queries" else []}
    )


def answer(messages: list[dict[str, Any]], notice: dict[str, Any]) -> str:
    found = passages(messages)
    if not found:
        return opening(notice) + " Your question stays in this chat: press *Regenerate* then."
    quoted = "\n\n".join(
        f"> {text[:CHARACTERS_A_PASSAGE]} [{number}]" for number, text in found[:PASSAGES_SHOWN]
    )
    return opening(notice) + " These are the passages closest to your question:\n\n" + quoted


def chunks(text: str, model: str) -> Iterator[dict[str, Any]]:
    """Chat-completion chunks as vLLM streams them: words, then a finish, then usage without
    choices."""
    frame = {
        "id": "night-desk",
        "object": "chat.completion.chunk",
        "created": int(time.time()),
        "model": model,
    }
    for word in re.findall(r"\s*\S+|\s+$", text):
        yield {
            **frame,
            "choices": [{"index": 0, "delta": {"content": word}, "finish_reason": None}],
        }
    yield {**frame, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    yield {
        **frame,
        "choices": [],
        "usage": {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0},
    }


def completion(text: str, model: str) -> dict[str, Any]:
    return {
        "id": "night-desk",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": model,
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        ],
        "usage": {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0},
    }


def model_list(names: str) -> dict[str, Any]:
    rows = [
        {"id": name, "object": "model", "created": 0, "owned_by": "night-desk"}
        for name in names.split(",")
    ]
    return {"object": "list", "data": rows}


class Desk(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path == "/health":
            self.send_json(200, {"status": "ok"})
        elif self.path == "/model-may-answer":
            night = read_notice(os.environ["NOTICE_FILE"]).get("reason") == "night"
            self.send_json(503 if night else 200, {"night": night})
        elif self.allowed():
            known = self.path == "/v1/models"
            self.send_json(
                *(
                    (200, model_list(os.environ["MODEL_IDS"]))
                    if known
                    else (404, {"error": "not here"})
                )
            )

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        if length > LARGEST_REQUEST_BYTES:
            self.close_connection = True
            return self.send_json(413, {"error": {"message": "the request is too large"}})
        body = self.rfile.read(length)
        if not self.allowed():
            return None
        if self.path != "/v1/chat/completions":
            return self.send_json(404, {"error": {"message": "the night desk answers chat only"}})
        try:
            request = json.loads(body)
            messages = [message for message in request["messages"] if isinstance(message, dict)]
            model = str(request.get("model"))
        except (ValueError, KeyError, TypeError, AttributeError):
            return self.send_json(400, {"error": {"message": "not a chat completion request"}})
        text = task_answer(messages) or answer(messages, read_notice(os.environ["NOTICE_FILE"]))
        return (
            self.send_stream(text, model)
            if request.get("stream")
            else self.send_json(200, completion(text, model))
        )

    def allowed(self) -> bool:
        offered = self.headers.get("Authorization") or ""
        if hmac.compare_digest(offered.encode(), f"Bearer {os.environ['MODEL_API_KEY']}".encode()):
            return True
        self.send_json(401, {"error": {"message": "wrong or missing key"}})
        return False

    def send_json(self, status: int, payload: dict[str, Any]) -> None:
        self.send_body(status, "application/json", json.dumps(payload).encode())

    def send_stream(self, text: str, model: str) -> None:
        """All events as one body with a length, so that a client can tell a truncated one."""
        events = "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks(text, model))
        self.send_body(200, "text/event-stream", f"{events}data: [DONE]\n\n".encode())

    def send_body(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Logs nothing: questions are private."""


if __name__ == "__main__":
    ThreadingHTTPServer(("0.0.0.0", 8000), Desk).serve_forever()
