"""Whether the prompt that is rebuilt of a rating is the one that the model was given. Pure.

A rating holds the conversation and its passages. What else Open WebUI puts into a prompt (a
member's or a folder's system prompt, memories, the request behind "More concise", another preset)
it does not hold, but the answer's usage says how many tokens the prompt had.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from glue.core.names import ASSISTANT
from learning.dataset.prompt import Row
from learning.examples import Message

Count = Callable[[tuple[Message, ...]], int | None]  # tokens of a prompt; None where unknown
OWN_SYSTEM = "the chat has a system prompt of its own"
PICTURE = "the conversation holds more than text"
TOOLS = "an answer was made with tools"
OTHER_PROMPT = "the model was given more, or other text, than the rating holds"
FOLDER = "the chat is in a folder, whose prompt is not known"
OTHER_MODEL = "another assistant answered"
TEXT = ("message", "reasoning")  # parts of an answer that came from the model alone


def difference(row: Row, chain: list[Row], prompt: tuple[Message, ...], count: Count) -> str:
    """Why nothing is learned from the last message of chain; empty if nothing speaks against it.

    prompt: as rebuilt. Without usage, or without a model to count, only what the rating says.
    """
    chat = row["snapshot"]["chat"]
    if str((chat["chat"].get("params") or {}).get("system") or "").strip():
        return OWN_SYSTEM
    if any(map(is_picture, parts(chain, "files"))):
        return PICTURE
    if any(part.get("type") not in TEXT for part in parts(chain, "output")):
        return TOOLS
    given, rebuilt = tokens_given(chain[-1]), None
    if given:
        rebuilt = count(prompt)
    if rebuilt is not None:
        return "" if rebuilt == given else OTHER_PROMPT
    if chat.get("folder_id"):
        return FOLDER
    return OTHER_MODEL if chain[-1].get("model") not in (None, "", ASSISTANT) else ""


def parts(chain: list[Row], key: str) -> list[Row]:
    return [part for message in chain for part in message.get(key) or [] if isinstance(part, dict)]


def is_picture(file: Row) -> bool:
    return file.get("type") == "image" or str(file.get("content_type")).startswith("image/")


def tokens_given(answer: Row) -> int:
    """As vLLM counted them; 0 if the answer does not say."""
    found: Any = (answer.get("usage") or {}).get("prompt_tokens")
    return found if isinstance(found, int) else 0
