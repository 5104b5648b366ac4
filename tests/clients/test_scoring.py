"""The likelihood of an answer from vLLM: which tokens count, and with which template arguments."""

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
    """A stub of vLLM with the test's answers; tests/e2e/test_cycle.py asks the real one."""

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


def test_the_answer_and_its_end_mark_are_scored(served: Served) -> None:
    first = len(PROMPT)
    assert served.likelihood("team-base", EXAMPLE) == -(first + first + 1) / 2, (
        "not the line break, which is never generated"
    )


def test_a_prompt_that_is_not_a_prefix_is_refused(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A template that always thinks: the whole text has </think> where the prompt has a line
    break."""
    monkeypatch.setattr(Served, "prompt", [*PROMPT[:-1], "\n"])
    with pytest.raises(GlueError, match="no tokens to score"):
        served.likelihood("team-base", EXAMPLE)


def test_an_answer_without_tokens_is_refused(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Served, "whole", [*PROMPT, "\n"])
    with pytest.raises(GlueError, match="no tokens to score"):
        served.likelihood("team-base", EXAMPLE)


def test_scoring_and_training_use_the_same_template_arguments(served: Served) -> None:
    served.likelihood("team-base", EXAMPLE)
    assert served.count_tokens("team-base", EXAMPLE) == len(PROMPT + ANSWER)
    served.answer("team-base", EXAMPLE.prompt, 8)
    served.complete("team-base", [{"role": "user", "content": "Q"}], 8)
    assert (
        [body["chat_template_kwargs"] for body in served.bodies]
        == [template.ARGUMENTS] * 5
        == [{"enable_thinking": False}] * 5
    )
