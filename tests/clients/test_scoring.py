"""How likely an answer is by vLLM: which tokens are counted, and with which template arguments."""

from typing import Any

import pytest

from glue.core.errors import GlueError
from learning.examples import Example, Message
from learning.model import Model
from training import template

EXAMPLE = Example((Message("user", "Q"),), "A", "one", "one")
PROMPT = [
    "<|im_start|>",
    "user",
    "Q",
    "<|im_end|>",
    "\n",
    "<|im_start|>",
    "assistant",
    "\n",
    "<think>",
    "</think>",
]
ANSWER = ["A", "<|im_end|>", "\n"]
WORDS = list(dict.fromkeys(PROMPT + ANSWER))


class Served(Model):
    """Stub: a vLLM that gives back what each test says it was asked for; the real one is asked in
    tests/e2e/test_cycle.py."""

    prompt, whole = PROMPT, PROMPT + ANSWER
    bodies: list[dict[str, Any]]

    def call(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | None = None,
        timeout_seconds: float = 120,
    ) -> Any:
        assert body is not None
        self.bodies.append(body)
        words = self.prompt if body.get("add_generation_prompt") else self.whole
        ids = [WORDS.index(word) for word in words]
        rows = [
            {str(token): {"logprob": -float(at), "decoded_token": WORDS[token]}}
            for at, token in enumerate(ids)
        ]
        reply = {
            "choices": [{"message": {"content": "A"}, "finish_reason": "stop"}],
            "usage": {"completion_tokens": 1},
        }
        return Reply({"tokens": ids, "prompt_logprobs": [None, *rows[1:]], **reply})


class Reply:
    def __init__(self, body: dict[str, Any]) -> None:
        self.body = body

    def json(self) -> dict[str, Any]:
        return self.body


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Served:
    monkeypatch.setattr(Served, "bodies", [], raising=False)
    return Served("vllm", "key")


def test_scored_are_the_answer_and_its_end_mark(served: Served) -> None:
    first = len(PROMPT)
    assert served.likelihood("team-base", EXAMPLE) == -(first + first + 1) / 2, (
        "not the line break, which is never generated"
    )


def test_a_prompt_that_is_no_prefix_of_the_whole_is_refused(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A template that thinks, whatever it is told: the whole has </think> where the prompt has a
    line break."""
    monkeypatch.setattr(Served, "prompt", [*PROMPT[:-1], "\n"])
    with pytest.raises(GlueError, match="no tokens to score"):
        served.likelihood("team-base", EXAMPLE)


def test_an_answer_without_tokens_is_refused(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Served, "whole", [*PROMPT, "\n"])
    with pytest.raises(GlueError, match="no tokens to score"):
        served.likelihood("team-base", EXAMPLE)


def test_every_request_has_the_template_arguments_that_training_has(served: Served) -> None:
    served.likelihood("team-base", EXAMPLE)
    assert served.count_tokens("team-base", EXAMPLE) == len(PROMPT + ANSWER)
    served.answer("team-base", EXAMPLE.prompt, 8)
    served.complete("team-base", [{"role": "user", "content": "Q"}], 8)
    assert (
        [body["chat_template_kwargs"] for body in served.bodies]
        == [template.ARGUMENTS] * 5
        == [{"enable_thinking": False}] * 5
    )
