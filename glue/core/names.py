"""Names that other programs share."""

from __future__ import annotations

import hashlib

# Open WebUI's preset points at one of these two; which one is all that promotion ever changes for
# it.
BASE = "team-base"
ADAPTER = "team-adapter"
# what a night judges, under its own name; nobody but glue may ask it
CANDIDATE = "team-candidate"


ASSISTANT = "team-assistant"


# The first words of every answer from here; datasets leave out answers that begin with them.
MARK = "🌙 **Night desk**"

# files of the state folder that learning reads, or adds to
FORGOTTEN = "forgotten.jsonl"
GLOSSARY = "glossary.toml"
GOLDEN = "golden.toml"
DOCUMENT_QUESTIONS = "document-questions.jsonl"


def hashed(what: str, value: str) -> str:
    """How manifests and FORGOTTEN name a chat or a person: enough to recognise, not to find one.

    what: "chat" or "user"; value: its id in Open WebUI.
    """
    return hashlib.sha256(f"{what} {value}".encode()).hexdigest()
