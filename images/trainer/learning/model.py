"""What learning asks of vLLM: how likely an answer is to a model, and what it answers."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from glue.clients.vllm import Vllm
from glue.core.errors import GlueError
from learning.evaluation.measurements import Reply
from learning.examples import Example, Message
from training import template

# in every request that a template renders
WITHOUT_THOUGHTS = {"chat_template_kwargs": template.ARGUMENTS}
ANSWER_SECONDS = 600
COMPLETE_SECONDS = 300


@dataclass(frozen=True)
class Model(Vllm):
    def complete(self, name: str, messages: list[dict[str, str]], most_tokens: int) -> str:
        """The answer of the model called name, in full, at temperature 0."""
        body = {
            "model": name,
            "messages": messages,
            "max_tokens": most_tokens,
            "temperature": 0,
        } | WITHOUT_THOUGHTS
        answer = self.call(
            "POST", "/v1/chat/completions", body, timeout_seconds=COMPLETE_SECONDS
        ).json()
        return str(answer["choices"][0]["message"].get("content") or "")

    def count_tokens(self, name: str, example: Example) -> int:
        """Of the prompt and the answer together, as the chat template writes them."""
        messages = [
            *map(rendered, example.prompt),
            {"role": "assistant", "content": example.answer},
        ]
        return len(self.tokens(name, messages, generate=False))

    def tokens(self, name: str, messages: list[dict[str, str]], generate: bool) -> list[int]:
        """What the chat template makes of messages; generate: up to where an answer would begin."""
        body = {
            "model": name,
            "messages": messages,
            "add_generation_prompt": generate,
        } | WITHOUT_THOUGHTS
        return list(self.call("POST", "/tokenize", body).json()["tokens"])

    def likelihood(self, name: str, example: Example) -> float:
        """Mean log-probability, in nats a token, of the example's answer after its prompt.

        The answer is rendered as the last message of the chat and scored as part of a prompt. Its
        tokens are those that follow the prompt alone: what a night learns and the day generates.
        Raises GlueError where there are none.
        """
        prompt = [rendered(message) for message in example.prompt]
        given = self.tokens(name, prompt, generate=True)
        body = WITHOUT_THOUGHTS | {
            "model": name,
            "messages": [*prompt, {"role": "assistant", "content": example.answer}],
            "add_generation_prompt": False,
            "prompt_logprobs": 0,
            "max_tokens": 1,
            "temperature": 0,
        }
        scores = answer_scores(
            self.call("POST", "/v1/chat/completions", body).json()["prompt_logprobs"], given
        )
        if not scores:
            saw = (
                f"an answer of {len(example.answer)} characters after a prompt of {len(given)}"
                " tokens"
            )
            raise GlueError(
                "an answer has no tokens to score",
                saw,
                "look at the night's dataset and the chat template",
            )
        return sum(scores) / len(scores)

    def answer(
        self,
        name: str,
        prompt: Sequence[Message],
        most_tokens: int,
        tools: list[dict[str, Any]] | None = None,
    ) -> Reply:
        """The model's answer at temperature 0."""
        body: dict[str, Any] = {
            "model": name,
            "messages": [rendered(message) for message in prompt],
        }
        body |= (
            {"max_tokens": most_tokens, "temperature": 0}
            | WITHOUT_THOUGHTS
            | ({"tools": tools} if tools else {})
        )
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


def answer_scores(rows: list[dict[str, Any] | None], given: list[int]) -> list[float]:
    """Log-probabilities of the tokens after given; none where the whole does not begin with given.

    rows: vLLM's prompt_logprobs, one a token, {"<token id>": {"logprob", "decoded_token"}}; the
    first token has none. The line break that ChatML has after the end mark is not generated.
    """
    scored = [
        (int(token), value) for row in rows[1:] if row for token, value in [next(iter(row.items()))]
    ]
    if [token for token, _ in scored[: len(given) - 1]] != given[1:]:
        return []
    answer = [value for _, value in scored[len(given) - 1 :]]
    while answer and not answer[-1]["decoded_token"].strip():
        answer.pop()
    return [float(value["logprob"]) for value in answer]


def rendered(message: Message) -> dict[str, str]:
    return {"role": message.role, "content": message.content}
