"""A job in this image: an order as JSON in, lines of progress out, and a result as the last line.

glue/clients/jobs.py runs it. Keys come by the environment: no file and no command line holds them.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glue.clients import knowledge
from glue.clients.open_webui import NOTES
from glue.core.errors import GlueError
from learning import chat, model

# names of the day's services on its network
MODEL_ADDRESS = "vllm:8000"
CHAT_URL = "http://open-webui:8080"


def say(line: str) -> None:
    print(line, flush=True)


@dataclass(frozen=True)
class Job:
    """order: what glue asks for. state: the state folder, of which only what the job needs is
    mounted."""

    order: dict[str, Any]
    state: Path
    model: model.Model
    chat: chat.Chat
    tell: Callable[[str], None] = say

    def look_up(self, question: str) -> list[dict[str, Any]]:
        """The sources that the day finds for this question: of documents, then of notes."""
        count = self.order["rag_top_k"]
        notes = knowledge.look_up(self.chat, self.order.get("notes"), question, count, NOTES)
        return self.look_up_documents(question) + notes

    def look_up_documents(self, question: str) -> list[dict[str, Any]]:
        collection, count = self.order["knowledge"], self.order["rag_top_k"]
        return knowledge.look_up(self.chat, collection, question, count)


def run(act: Callable[[Job], dict[str, Any]]) -> None:
    """python3 -m MODULE ORDER_FILE STATE_FOLDER. Exits 0, or with the error's code and the error as
    the result."""
    order = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    served = model.Model(MODEL_ADDRESS, os.environ.get("MODEL_API_KEY", ""))
    talk = chat.signed_in(CHAT_URL, os.environ.get("CHAT_TOKEN", ""))
    try:
        say(json.dumps(act(Job(order, Path(sys.argv[2]), served, talk))))
    except GlueError as error:
        say(json.dumps({"error": [error.what, error.saw, error.do]}))
        sys.exit(int(error.exit_code))
