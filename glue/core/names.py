"""Names that other programs use too."""

from __future__ import annotations

import hashlib

# Open WebUI's preset points at one of these two; promotion changes only which.
BASE = "team-base"
ADAPTER = "team-adapter"
CANDIDATE = "team-candidate"  # under evaluation; only glue may ask it
ASSISTANT = "team-assistant"
# the first words of every answer of the night desk; data sets leave such answers out
MARK = "🌙 **Night desk**"
# what a prompt calls a correction by the team, in the place of "Team documents"
NOTE = "note by the team, newer than the documents"

# files of the state folder that learning reads, or adds to
FORGOTTEN = "forgotten.jsonl"
GLOSSARY = "glossary.toml"
GOLDEN = "golden.toml"
ANSWERS = "answers.csv"  # question, answer: the site's own notes
NOTES = "notes.json"  # as glue/operations/notes.py keeps them

# what an administrator may decide about a note, and the state of one that the assistant finds
ACCEPT, DROP, SERVED = "accept", "drop", "served"
DOCUMENT_QUESTIONS = "document-questions.jsonl"
PARAPHRASES = (
    "paraphrases.jsonl"  # other ways to ask, with the chats and people as hashed names them
)
PROMPTS = "prompts.jsonl"  # every SYSTEM_PROMPT and RAG_TEMPLATE that a day had: system, template


def hashed(what: str, value: str) -> str:
    """How manifests and FORGOTTEN name a chat or a person: recognisable, but not readable.

    what: "chat" or "user"; value: its ID in Open WebUI.
    """
    return hashlib.sha256(f"{what} {value}".encode()).hexdigest()
