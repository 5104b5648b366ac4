"""What the day model has written for data sets, kept in a file: it is asked once about each
thing."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glue.core import files, waiting
from glue.core.errors import GlueError
from glue.core.names import BASE
from glue.core.waiting import Seen
from learning.job import Job

MOST_REPLY_TOKENS = 700
QUIET_SECONDS = 120.0

Write = Callable[[str], str]


@dataclass
class Notebook:
    """about: what its rows are about, the field that holds its SHA-256. deadline: of
    time.monotonic(); after it the model is not asked."""

    file: Path
    about: str
    write: Write
    tell: Callable[[str], None]
    deadline: float
    pages: dict[str, list[Any]]

    @classmethod
    def open(
        cls, file: Path, about: str, write: Write, tell: Callable[[str], None], seconds: float
    ) -> Notebook:
        rows = [row for row in files.read_lines(file) if isinstance(row.get("items"), list)]
        pages = {str(row.get(about)): row["items"] for row in rows}
        return cls(file, about, write, tell, time.monotonic() + seconds, pages)

    @classmethod
    def of_night(cls, job: Job, name: str, about: str, seconds: float) -> Notebook:
        """In the state folder. Only a night asks the model; by day what is there is read."""
        longest = seconds if job.order["for_night"] else 0.0
        return cls.open(
            job.state / name, about, lambda task: ask_day_model(job, task), job.tell, longest
        )

    def items(
        self,
        text: str,
        words: str,
        ask: Callable[[Write], list[Any] | None],
        more: dict[str, Any] | None = None,
    ) -> list[Any] | None:
        """What was written about text. None if the time is over, or the model does not answer: it
        is then not asked again tonight. A reply that cannot be read (ask returns None) gives
        nothing and is asked for again another night.

        words: what is written, for the log. more: of the row in the file.
        """
        key = hashlib.sha256(text.encode()).hexdigest()
        if key not in self.pages:
            if time.monotonic() >= self.deadline:
                return None
            self.tell(f"writing {words}")
            try:
                found = ask(self.write)
            except GlueError as error:
                self.tell(f"the model does not write: {error.saw}")
                self.deadline = 0.0
                return None
            self.pages[key] = found or []
            if found is not None:
                row = {self.about: key, "items": found} | (more or {})
                files.append_line(self.file, row, mode=0o600)
        return self.pages[key]


def ask_day_model(job: Job, task: str) -> str:
    """While no other answer is written, or after two minutes of waiting for that."""

    def look() -> Seen[None]:
        running = job.model.running_requests()
        return Seen(running == 0, f"{running} answers running; the data set waits")

    try:
        waiting.until("a quiet moment", look, QUIET_SECONDS)
    except GlueError as error:
        job.tell(error.saw)
    return job.model.complete(BASE, [{"role": "user", "content": task}], MOST_REPLY_TOKENS)
