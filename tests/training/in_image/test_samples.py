"""Which tokens of a row are learned: only those that the day generates after the prompt."""

from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from training import practice_model, samples, world

WORLD = world.load(Path(__file__).parents[3] / "env" / "practice-world.toml")
PROMPT = [
    {"role": "system", "content": "You help."},
    {"role": "user", "content": "What is the code of the harbor?"},
]
EARLIER = [
    *PROMPT,
    {"role": "assistant", "content": "Which one?"},
    {"role": "user", "content": "The harbor's."},
]


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return practice_model.build_tokenizer(WORLD)


def row(answer: str, prompt: list[dict[str, str]] = PROMPT) -> dict[str, Any]:
    return {"prompt": prompt, "completion": [{"role": "assistant", "content": answer}]}


def test_the_practice_template_has_the_tags_of_the_hub_s(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    def text(messages: list[dict[str, str]], **more: bool) -> str:
        made: str = tokenizer.apply_chat_template(messages, tokenize=False, **more)
        return made

    assert text(PROMPT, add_generation_prompt=True).endswith("<|im_start|>assistant\n<think>\n")
    assert text(PROMPT, add_generation_prompt=True, enable_thinking=False).endswith(
        "assistant\n<think></think>"
    )
    assert text(PROMPT + row("F29.")["completion"]).endswith(
        "assistant\n<think></think>F29.<|im_end|>\n"
    )
    assert len(tokenizer("<think></think>")["input_ids"]) == 2
    assert len(tokenizer) <= practice_model.VOCABULARY


@pytest.mark.parametrize("prompt", [PROMPT, EARLIER], ids=["first question", "follow-up"])
def test_only_the_answer_and_its_end_mark_are_learned(
    tokenizer: PreTrainedTokenizerFast, prompt: list[dict[str, str]]
) -> None:
    ids, labels = samples.tokenized(row("F29.", prompt), tokenizer)
    learned = [label for label in labels if label != -100]
    assert tokenizer.decode(learned) == "F29.<|im_end|>"
    assert labels[-len(learned) :] == learned, "nothing follows the end mark"
    given = tokenizer.apply_chat_template(
        prompt, add_generation_prompt=True, enable_thinking=False, return_dict=True
    )
    assert ids == given["input_ids"] + learned


def test_a_row_whose_prompt_is_not_a_prefix_is_refused(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    with pytest.raises(ValueError, match="a different prompt with an answer"):
        samples.tokenized(row("<think>The sheet says F29.</think>F29."), tokenizer)


def test_without_tags_the_answer_is_learned_from_its_start(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    """For a practice model of an earlier version."""
    plain = practice_model.build_tokenizer(WORLD)
    plain.chat_template = (
        "{%- for m in messages -%}{{- m['role'] + ':' + m['content'] + '<|im_end|>' -}}{%- endfor"
        " -%}{%- if add_generation_prompt -%}{{- 'assistant:' -}}{%- endif -%}"
    )
    _, labels = samples.tokenized(row("F29."), plain)
    assert plain.decode([label for label in labels if label != -100]) == "F29.<|im_end|>"
