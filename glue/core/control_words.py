"""Words that a tokenizer reads as commands anywhere in a text: with them, a document or a
question could speak as the system. Pure."""

from __future__ import annotations

import re

# of the chat templates of Nemotron, Qwen, Llama, Mistral and Gemma
CONTROL_WORDS = re.compile(
    r"<\|[a-z0-9_]{2,40}\|>|<SPECIAL_\d+>|</?s>|<(?:start|end)_of_turn>|<</?SYS>>"
    r"|\[/?(?:INST|TOOL_CALLS|TOOL_RESULTS|AVAILABLE_TOOLS|SYSTEM_PROMPT)\]"
    r"|</?(?:think|tool_call|tool_response|tools|toolcall)>",
    re.IGNORECASE,
)


def broken(text: str) -> tuple[str, tuple[str, ...]]:
    """The text with a space in every control word, which then commands nothing; and those words."""
    found = tuple(dict.fromkeys(CONTROL_WORDS.findall(text)))
    return CONTROL_WORDS.sub(lambda word: f"{word[0][0]} {word[0][1:]}", text), found
