"""vLLM's HTTP API: which adapter answers under which name, and how likely an answer is."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import requests

from glue.core.errors import GlueError
from glue.core.names import ADAPTER, BASE
from learning.evaluation.measurements import Reply
from learning.examples import Example, Message
from training import template

# in every request that a template renders
WITHOUT_THOUGHTS = {"chat_template_kwargs": template.ARGUMENTS}
CHAT = "/v1/chat/completions"
ANSWER_SECONDS = 600
COMPLETE_SECONDS = 300
# for one token, as in images/vllm/token_health.py: kernels compiled for a first answer take 90 s
TOKEN_SECONDS = 120
HEALTH_SECONDS = 25  # a busy server answers late
METRICS_SECONDS = 10
LOGS = "make logs SERVICE=vllm"


def direct_session() -> requests.Session:
    """For this installation's own addresses: without the environment's proxy."""
    session = requests.Session()
    session.trust_env = False
    return session


@dataclass(frozen=True)
class Vllm:
    """address: host:port on the compose network."""

    address: str
    key: str

    def call(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | None = None,
        timeout_seconds: float = 120,
    ) -> requests.Response:
        """Raises GlueError for no answer, and for a status of 400 and more with vLLM's message."""
        try:
            with direct_session() as session:
                response = session.request(
                    method,
                    f"http://{self.address}{path}",
                    json=body,
                    headers={"Authorization": f"Bearer {self.key}"},
                    timeout=timeout_seconds,
                )
        except requests.RequestException as error:
            raise GlueError(f"vLLM did not answer {path}", str(error), LOGS) from error
        if response.status_code >= 400:
            saw = f"{response.status_code} {response.text[:600]}"
            raise GlueError(f"vLLM refused {path}", saw, LOGS)
        return response

    def answers(self) -> bool:
        return not self.fault()

    def fault(self) -> str:
        """Why vLLM gives no answer now; empty if a token comes, or if others get tokens meanwhile.

        /health can be 200 while vLLM hangs: https://github.com/vllm-project/vllm/issues/50934
        """
        before = self.tokens_counted()
        try:
            self.call("GET", "/health", timeout_seconds=HEALTH_SECONDS)
            self.ask_for_token()
        except GlueError as error:
            return "" if 0 < before < self.tokens_counted() else f"{error.what}: {error.saw}"
        return ""

    def ask_for_token(self) -> None:
        """Asks the adapter, or the base model where none is loaded. Raises GlueError."""
        for name in (ADAPTER, BASE):
            body = {"model": name, "messages": [{"role": "user", "content": "1"}], "max_tokens": 1}
            try:
                self.call("POST", CHAT, body, TOKEN_SECONDS)
                return
            except GlueError as error:
                if name == BASE or not error.saw.startswith("404 "):
                    raise

    def models(self) -> dict[str, str]:
        """Name -> path of the adapter behind it, or of the base model."""
        return {row["id"]: row["root"] for row in self.call("GET", "/v1/models").json()["data"]}

    def owner(self) -> str:
        """Who answers here: "vllm", or "night-desk" behind the door at night."""
        return str(self.call("GET", "/v1/models", timeout_seconds=10).json()["data"][0]["owned_by"])

    def serve(self, name: str, path: str) -> None:
        """Makes the adapter at path (inside the container) answer under name.

        Only a replacement is loaded in place: with the flag vLLM 0.32 reads the files at every
        token, until images/vllm/load_once.py clears it.
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
        return self.metric("num_requests_(?:running|waiting)")

    def tokens_counted(self) -> int:
        """Prompt and generated tokens since its start; 0 if unknown."""
        try:
            return self.metric("(?:prompt|generation)_tokens_total", METRICS_SECONDS)
        except GlueError:
            return 0

    def metric(self, pattern: str, timeout_seconds: float = 120) -> int:
        """The sum of the metrics whose name matches pattern."""
        metrics = self.call("GET", "/metrics", timeout_seconds=timeout_seconds).text
        counts = re.findall(rf"^vllm:{pattern}\{{[^}}]*\}} ([\d.eE+]+)$", metrics, re.MULTILINE)
        return int(sum(map(float, counts)))

    def complete(self, name: str, messages: list[dict[str, str]], most_tokens: int) -> str:
        """The whole answer of the model called name, at temperature 0."""
        body = {"model": name, "messages": messages, "max_tokens": most_tokens, "temperature": 0}
        answer = self.call("POST", CHAT, body | WITHOUT_THOUGHTS, COMPLETE_SECONDS).json()
        return str(answer["choices"][0]["message"].get("content") or "")

    def count_tokens(self, name: str, example: Example) -> int:
        """Of prompt and answer together, in the chat template."""
        return len(self.tokens(name, whole(example), generate=False))

    def tokens(self, name: str, messages: list[dict[str, str]], generate: bool) -> list[int]:
        """Token IDs of messages in the chat template; generate: with the start of an answer."""
        body = {"model": name, "messages": messages, "add_generation_prompt": generate}
        return list(self.call("POST", "/tokenize", body | WITHOUT_THOUGHTS).json()["tokens"])

    def likelihood(self, name: str, example: Example) -> float:
        """Mean log-probability, in nats a token, of the example's answer by the model called name.

        The whole chat is scored as a prompt. The answer's tokens are those that follow the prompt
        alone: what is trained and generated. Raises GlueError where there are none.
        """
        given = self.tokens(name, list(map(rendered, example.prompt)), generate=True)
        body = WITHOUT_THOUGHTS | {
            "model": name,
            "messages": whole(example),
            "add_generation_prompt": False,
            "prompt_logprobs": 0,
            "max_tokens": 1,
            "temperature": 0,
        }
        scores = answer_scores(self.call("POST", CHAT, body).json()["prompt_logprobs"], given)
        if not scores:
            saw = f"{len(example.answer)} characters after a prompt of {len(given)} tokens"
            do = "look at the night's dataset and the chat template"
            raise GlueError("an answer has no tokens to score", saw, do)
        return sum(scores) / len(scores)

    def answer(
        self,
        name: str,
        prompt: Sequence[Message],
        most_tokens: int,
        tools: list[dict[str, Any]] | None = None,
    ) -> Reply:
        """The answer of the model called name, at temperature 0."""
        messages = list(map(rendered, prompt))
        body = {"model": name, "messages": messages, "max_tokens": most_tokens, "temperature": 0}
        body |= WITHOUT_THOUGHTS | ({"tools": tools} if tools else {})
        started = time.monotonic()
        reply = self.call("POST", CHAT, body, ANSWER_SECONDS).json()
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


def answer_scores(rows: list[dict[str, Any] | None], given: list[int]) -> list[float]:
    """Log-probabilities of the tokens after given; none where rows do not begin with given.

    rows: vLLM's prompt_logprobs, one a token, {"<token id>": {"logprob", "decoded_token"}}; the
    first token has none. The line break that ChatML has after the end mark is not generated.
    """
    firsts = [next(iter(row.items())) for row in rows[1:] if row]
    scored = [(int(token), value) for token, value in firsts]
    if [token for token, _ in scored[: len(given) - 1]] != given[1:]:
        return []
    answer = [value for _, value in scored[len(given) - 1 :]]
    while answer and not answer[-1]["decoded_token"].strip():
        answer.pop()
    return [float(value["logprob"]) for value in answer]


def rendered(message: Message) -> dict[str, str]:
    return {"role": message.role, "content": message.content}


def whole(example: Example) -> list[dict[str, str]]:
    """The chat with its answer."""
    return [*map(rendered, example.prompt), {"role": "assistant", "content": example.answer}]
