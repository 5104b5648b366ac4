"""What the product makes of what people said: the job that builds a night's data set
(learning.dataset.build), given ratings as Open WebUI writes them."""

from __future__ import annotations

import shutil
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

from glue.core.errors import GlueError
from learning.dataset import build, split
from learning.dataset.build import Lessons
from learning.job import Job
from tests.training.in_image.learning_study.company import SYSTEM, TEMPLATE, Said, as_sources

REPOSITORY = Path(__file__).parents[4]
TEAM = tomllib.loads((REPOSITORY / "env" / "recipes" / "team.toml").read_text("utf-8"))
# the day's model would write these, and one of this size cannot
TEAM["document_questions"] = TEAM["paraphrases"] = 0


@dataclass(frozen=True)
class Built:
    """refused: why no night begins with it; empty if one does. had: fingerprints of what it
    learns from."""

    lessons: Lessons
    refused: str
    had: tuple[str, ...]


@dataclass(frozen=True)
class Chat:
    """In the place of Open WebUI."""

    said: Sequence[Said]

    def people(self) -> list[dict[str, str]]:
        return [{"id": one, "name": one} for one in dict.fromkeys(said.user for said in self.said)]

    def ratings(self) -> list[dict[str, Any]]:
        return [rating(number, said) for number, said in enumerate(self.said)]


class NoModel:
    """In the place of vLLM, which only counts tokens here: the rule for days without it."""

    def models(self) -> None:
        raise GlueError("no model", "the study has none to count with", "nothing")

    def count_tokens(self, name: str, example: object) -> int:
        raise GlueError("no model", "the study has none to count with", "nothing")


def rating(number: int, said: Said) -> dict[str, Any]:
    """A thumb on an answer that was corrected, as Open WebUI 0.12.4 exports it."""
    asked = {"id": "q", "role": "user", "content": said.question, "parentId": None}
    answer: dict[str, Any] = {"id": "a", "role": "assistant", "parentId": "q"}
    answer |= {"content": said.answer, "sources": as_sources(said.sources)}
    history = {"messages": {"q": asked, "a": answer}}
    return {
        "id": f"rating {number}",
        "user_id": said.user,
        "type": "rating",
        "updated_at": number,
        "data": {"rating": 1},
        "meta": {"chat_id": f"chat {number}", "message_id": "a"},
        "snapshot": {"chat": {"chat": {"history": history}}},
    }


def built(said: Sequence[Said], recipe: Mapping[str, Any], known: Sequence[str]) -> Built:
    """known: what earlier nights had."""
    order = {
        "recipe": recipe,
        "known": list(known),
        "system_prompt": SYSTEM,
        "rag_template": TEMPLATE,
        "earlier_prompts": [],
        "phone_region": "US",
    }
    with TemporaryDirectory() as folder:
        shutil.copy(REPOSITORY / "env" / "replay.jsonl", folder)
        state, chat = Path(folder), cast(Any, Chat(said))
        found = build.gather(Job(order, state, cast(Any, NoModel()), chat, lambda line: None))
    refused = build.too_little(found, dict(recipe))
    return Built(found, refused, tuple(map(split.fingerprint, found.prepared.examples)))
