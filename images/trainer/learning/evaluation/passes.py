"""Sides that one vLLM cannot serve together, asked in turn.

A merged checkpoint is a vLLM of its own, so that glue restarts it between passes. A pass asks the
sides that run now, keeps what they say in a file, and reads there what others said before. Those
still to come say nothing yet: only the last pass sees everything.

The job's order has: here (names of sides that run now, and their names in vLLM) and last.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from glue.core import files
from learning.evaluation.measurements import Reply
from learning.examples import Example, Message
from learning.job import Job

Said = dict[str, Any]


@dataclass(frozen=True)
class Turn:
    """In the place of learning.model.Model and of the chat. here: by the name that is asked, the
    one that answers now."""

    asked: Any
    here: Mapping[str, str]
    said: Said

    def answers(self) -> bool:
        return bool(self.asked.answers())

    def likelihood(self, name: str, example: Example) -> float:
        return float(
            self.kept(
                name, asdict(example), lambda here: self.asked.likelihood(here, example), math.nan
            )
        )

    def answer(
        self, name: str, prompt: Sequence[Message], most: int, tools: Sequence[Any] = ()
    ) -> Reply:
        key = [[asdict(message) for message in prompt], most, list(tools)]

        def ask(here: str) -> Said:
            return asdict(self.asked.answer(here, prompt, most, list(tools)))

        return Reply(**self.kept(name, key, ask, {"text": ""}))

    def ask(self, messages: list[dict[str, str]], model: str, temperature: float) -> Any:
        def ask(here: str) -> str:
            return str(self.asked.ask(messages, model=here, temperature=temperature).text)

        return SimpleNamespace(text=self.kept(model, messages, ask, ""))

    def kept(self, name: str, key: Any, ask: Callable[[str], Any], nothing: Any) -> Any:
        words = json.dumps([name, key], sort_keys=True)
        place = hashlib.sha256(words.encode()).hexdigest()
        if name in self.here:
            self.said[place] = ask(self.here[name])
        return self.said.get(place, nothing)


@contextmanager
def turn(job: Job, file: Path) -> Iterator[Job]:
    """The job as it asks in this pass; afterwards what was said is in file. Without "here" all
    sides run, and it is the job itself."""
    if "here" not in job.order:
        yield job
        return
    said: Said = files.read_json(file, {})
    here, names = job.order["here"], job.order["names"]
    in_chat = {asked: asked for side, asked in job.order["asked_as"].items() if names[side] in here}
    model, chat = Turn(job.model, here, said), Turn(job.chat, in_chat, said)
    yield replace(job, model=model, chat=chat)  # type: ignore[arg-type]
    files.write_json(file, said, mode=0o600)
