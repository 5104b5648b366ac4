"""vLLM's HTTP API: which adapter answers under which name, and how likely an answer is to a model."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import requests

from glue.evidence import Reply
from glue.types import Example, GlueError, Message

# Open WebUI's preset points at one of these two; which one is all that promotion ever changes for it.
BASE = "team-base"
ADAPTER = "team-adapter"
# what a night judges, under its own name; nobody but glue may ask it
CANDIDATE = "team-candidate"
ANSWER_SECONDS = 600
COMPLETE_SECONDS = 300


@dataclass(frozen=True)
class Vllm:
    """address: host:port on the compose network."""

    address: str
    key: str

    def call(self, method: str, path: str, body: dict[str, Any] | None = None, timeout_seconds: float = 120) -> requests.Response:
        """Raises GlueError for no answer, and for any status of 400 and more, with vLLM's own words."""
        try:
            response = requests.request(
                method,
                f"http://{self.address}{path}",
                json=body,
                headers={"Authorization": f"Bearer {self.key}"},
                timeout=timeout_seconds,
            )
        except requests.RequestException as error:
            raise GlueError(f"vLLM did not answer {path}", str(error), "make logs SERVICE=vllm") from error
        if response.status_code >= 400:
            raise GlueError(f"vLLM refused {path}", f"{response.status_code} {response.text[:600]}", "make logs SERVICE=vllm")
        return response

    def answers(self) -> bool:
        """Whether it is alive now; with its engine dead it says 503, or nothing."""
        try:
            self.call("GET", "/health", timeout_seconds=10)
        except GlueError:
            return False
        return True

    def models(self) -> dict[str, str]:
        """Name -> path of the adapter behind it, or of the base model."""
        return {row["id"]: row["root"] for row in self.call("GET", "/v1/models").json()["data"]}

    def owner(self) -> str:
        """Who answers at this address: "vllm", or "night-desk" behind the door at night."""
        return str(self.call("GET", "/v1/models", timeout_seconds=10).json()["data"][0]["owned_by"])

    def serve(self, name: str, path: str) -> None:
        """Makes the adapter at path (inside the container) answer under name, in place of whatever did.

        Only a replacement is loaded in place: the flag makes vLLM 0.32 read the files at every token, until
        images/vllm/load_once.py clears it.
        """
        loaded = self.models()
        if loaded.get(name) == path:
            return
        body = {"lora_name": name, "lora_path": path, "load_inplace": name in loaded}
        self.call("POST", "/v1/load_lora_adapter", body)

    def forget(self, name: str) -> None:
        if name in self.models():
            self.call("POST", "/v1/unload_lora_adapter", {"lora_name": name})

    def running_requests(self) -> int:
        metrics = self.call("GET", "/metrics").text
        counts = re.findall(r"^vllm:num_requests_(?:running|waiting)\{[^}]*\} ([\d.eE+]+)$", metrics, re.MULTILINE)
        return int(sum(map(float, counts)))

    def complete(self, name: str, messages: list[dict[str, str]], most_tokens: int) -> str:
        """What the model called name answers, in full and always the same."""
        body = {"model": name, "messages": messages, "max_tokens": most_tokens, "temperature": 0}
        answer = self.call("POST", "/v1/chat/completions", body, timeout_seconds=COMPLETE_SECONDS).json()
        return str(answer["choices"][0]["message"].get("content") or "")

    def count_tokens(self, name: str, example: Example) -> int:
        """Of the prompt and the answer together, as the chat template writes them."""
        messages = [*map(rendered, example.prompt), {"role": "assistant", "content": example.answer}]
        body = {"model": name, "messages": messages, "add_generation_prompt": False}
        return int(self.call("POST", "/tokenize", body).json()["count"])

    def likelihood(self, name: str, example: Example) -> float:
        """Mean log-probability, in nats a token, of the example's answer after its prompt, by the model called name.

        The answer is rendered as the last message of the chat and scored as part of a prompt. Which of its tokens are
        the answer's is found by counting those of the prompt alone.
        """
        prompt = [rendered(message) for message in example.prompt]
        given = self.call("POST", "/tokenize", {"model": name, "messages": prompt, "add_generation_prompt": True}).json()["count"]
        body = {
            "model": name,
            "messages": [*prompt, {"role": "assistant", "content": example.answer}],
            "add_generation_prompt": False,
            "prompt_logprobs": 0,
            "max_tokens": 1,
            "temperature": 0,
        }
        tokens = self.call("POST", "/v1/chat/completions", body).json()["prompt_logprobs"][given:]
        scores = [float(next(iter(token.values()))["logprob"]) for token in tokens]
        if not scores:
            saw = f"an answer of {len(example.answer)} characters"
            raise GlueError("an answer has no tokens to score", saw, "look at the night's dataset")
        return sum(scores) / len(scores)

    def answer(self, name: str, prompt: Sequence[Message], most_tokens: int, tools: list[dict[str, Any]] | None = None) -> Reply:
        """The likeliest answer of the model called name, word by word."""
        body: dict[str, Any] = {"model": name, "messages": [rendered(message) for message in prompt]}
        body |= {"max_tokens": most_tokens, "temperature": 0} | ({"tools": tools} if tools else {})
        started = time.monotonic()
        reply = self.call("POST", "/v1/chat/completions", body, ANSWER_SECONDS).json()
        seconds = time.monotonic() - started
        choice = reply["choices"][0]
        calls = choice["message"].get("tool_calls") or []
        return Reply(
            text=choice["message"].get("content") or "",
            tokens=reply["usage"]["completion_tokens"],
            seconds=seconds,
            cut=choice["finish_reason"] == "length",
            call=calls[0]["function"]["name"] if calls else "",
        )


def rendered(message: Message) -> dict[str, str]:
    return {"role": message.role, "content": message.content}
