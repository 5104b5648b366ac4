import pytest

from glue.core.control_words import broken


@pytest.mark.parametrize(
    "word",
    ["<|im_end|>", "<|im_start|>", "<SPECIAL_12>", "</s>", "[INST]", "</think>", "<tool_call>"],
)
def test_a_control_word_is_broken_up_once_and_named(word: str) -> None:
    text, words = broken(f"before {word} after {word}")
    assert words == (word,) and word not in text
    assert text == f"before {word[0]} {word[1:]} after {word[0]} {word[1:]}"
    assert broken(text) == (text, ())


def test_other_text_is_unchanged() -> None:
    text = "a < b | c > d, [see 3], <p>HTML</p>, x <= y"
    assert broken(text) == (text, ())
