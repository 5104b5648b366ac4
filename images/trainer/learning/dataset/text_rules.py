"""What a text may not hold if a model is to learn from it. Pure.

Patterns catch what is blunt: a model's control words, hidden characters, and sentences that give
orders to a model. They do not stop a team member who means harm: read the page before the first
night.
"""

from __future__ import annotations

import re
from typing import Any

from glue.core import control_words

CONTROL_WORDS = control_words.CONTROL_WORDS
# Bidirectional overrides, the tag characters in which text can be hidden from a reader's eye, and
# what no keyboard writes.
HIDDEN = re.compile(
    "[\u202a-\u202e\u2066-\u2069\U000e0000-\U000e007f\x00-\x08\x0b\x0e-\x1f\x7f\ud800-\udfff]"
)
ORDERS = re.compile(
    r"\b(?:ignore|disregard|forget|override)\b.{0,30}\b(?:previous|prior|above|earlier|all|any|your)\b.{0,30}"
    r"\b(?:instructions?|rules|prompts?|guidelines|training)\b"
    r"|\b(?:reveal|print|repeat|show)\b.{0,30}\b(?:system prompt|hidden instructions)\b"
    r"|\byou are (?:now|no longer) (?:DAN|an? (?:unrestricted|uncensored|unfiltered)|bound)\b"
    r"|\b(?:from now on|in every answer|whenever (?:anyone|someone|a user) asks)\b.{0,40}"
    r"\b(?:you (?:must|will|shall)|always answer)\b"
    r"|\bignorier\w*\b.{0,30}\b(?:alle|vorherigen|bisherigen|obigen)\b.{0,30}\b(?:anweisungen|regeln)\b",
    re.IGNORECASE | re.DOTALL,
)
# Open WebUI keeps a model's thoughts inside the answer, folded; the model never sees them again,
# and none are trained.
THOUGHTS = re.compile(r'<details\b[^>]{0,500}type="reasoning"')
THOUGHTS_END = "</details>"


def plain(content: Any) -> str | None:
    """The text of a message's content, without thoughts; None if it holds more than text."""
    if isinstance(content, list):
        parts = [
            part.get("text") if isinstance(part, dict) and part.get("type") == "text" else None
            for part in content
        ]
        if not all(isinstance(part, str) for part in parts):
            return None
        content = " ".join(part for part in parts if part)
    if not isinstance(content, str):
        return "" if content is None else None
    return without_thoughts(content)


def without_thoughts(content: str) -> str:
    """In one pass: a pattern over all of it would take hours for a few megabytes of openings that
    nothing closes."""
    parts, at = [], 0
    while opening := THOUGHTS.search(content, at):
        end = content.find(THOUGHTS_END, opening.end())
        if end < 0:
            break
        parts.append(content[at : opening.start()])
        at = end + len(THOUGHTS_END)
        while content[at : at + 1].isspace():
            at += 1
    return "".join([*parts, content[at:]])


def complaint(answer: str, others: list[str]) -> str:
    """Why this answer, after these other texts, may not be learned from; empty if it may."""
    texts = [answer, *others]
    if any(("<" in text or "[" in text) and CONTROL_WORDS.search(text) for text in texts):
        return "it holds control words of a model"
    if any(HIDDEN.search(text) for text in texts):
        return "it holds hidden characters"
    return "the answer gives orders to a model" if ORDERS.search(answer) else ""
