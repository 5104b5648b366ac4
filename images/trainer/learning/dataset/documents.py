"""Examples from the team's documents: the day model writes questions about them, and what a passage
does not prove is left out.

A question's prompt is the one that the chat would make of it: with the passages that Open WebUI
finds for it.
"""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from glue.clients import knowledge
from glue.core import files, waiting
from glue.core.errors import GlueError
from glue.core.names import BASE, DOCUMENT_QUESTIONS
from glue.core.waiting import Seen
from learning.dataset import questions
from learning.dataset.prompt import PromptForm
from learning.dataset.questions import Item
from learning.examples import Example, Message, Origin
from learning.job import Job

PASSAGE_CHARACTERS = 1500
ITEMS_A_PASSAGE = 2
MOST_REPLY_TOKENS = 700
LONGEST_WRITING_SECONDS = 1800.0
QUIET_SECONDS = 120.0

Write = Callable[[str], str]
LookUp = Callable[[str], list[dict[str, Any]]]


@dataclass(frozen=True)
class FromDocuments:
    examples: tuple[Example, ...]
    rejected: dict[str, int]


def collect(job: Job, form: PromptForm, most: int) -> FromDocuments:
    """At most so many examples from each document. Writing ends after half an hour; the next time
    goes on from there."""
    # what was written is kept: a night asks about new passages only
    file = job.state / DOCUMENT_QUESTIONS
    notebook = Notebook.open(file, lambda task: ask_day_model(job, task), job.tell)
    texts = knowledge.texts(job.chat, job.order["knowledge"])
    return from_documents(texts, notebook, job.look_up, form, most)


def ask_day_model(job: Job, task: str) -> str:
    """While no other answer is written, or after two minutes of waiting for that."""

    def look() -> Seen[None]:
        running = job.model.running_requests()
        return Seen(running == 0, f"{running} answers running; documents wait")

    try:
        waiting.until("a quiet moment", look, QUIET_SECONDS)
    except GlueError as error:
        job.tell(error.saw)
    return job.model.complete(BASE, [{"role": "user", "content": task}], MOST_REPLY_TOKENS)


@dataclass
class Notebook:
    """What the model has written about each passage, in a file; it is asked about those that are
    not there yet."""

    file: Path
    write: Write
    tell: Callable[[str], None]
    deadline: float
    pages: dict[str, list[dict[str, str]]]

    @classmethod
    def open(cls, file: Path, write: Write, tell: Callable[[str], None]) -> Notebook:
        pages = {row["passage"]: row["items"] for row in files.read_lines(file)}
        return cls(file, write, tell, time.monotonic() + LONGEST_WRITING_SECONDS, pages)

    def items(self, passage: str, about: str) -> list[Item] | None:
        """None if the time is over, or the model does not answer: it is then not asked again
        tonight."""
        key = hashlib.sha256(passage.encode()).hexdigest()
        if key not in self.pages:
            if time.monotonic() > self.deadline:
                return None
            self.tell(f"writing questions about {about}")
            try:
                reply = self.write(questions.task(passage, ITEMS_A_PASSAGE))
            except GlueError as error:
                self.tell(f"the model writes no questions: {error.saw}")
                self.deadline = 0.0
                return None
            found = questions.read(reply)
            self.pages[key] = [asdict(item) for item in found or ()]
            if found is not None:  # else it is asked again, another night
                files.append_line(self.file, {"passage": key, "items": self.pages[key]}, mode=0o600)
        return list(questions.items(self.pages[key]))


def from_documents(
    documents: Iterable[tuple[str, str]],
    notebook: Notebook,
    look_up: LookUp,
    form: PromptForm,
    most: int,
) -> FromDocuments:
    """Raises what look_up raises; what was written until then is kept."""
    examples: list[Example] = []
    rejected: Counter[str] = Counter()
    for name, document in documents:
        found = list(from_document(name, document, notebook, look_up, form, most))
        good = [one for one in found if isinstance(one, Example)]
        rejected.update(f"a document's question: {one}" for one in found if isinstance(one, str))
        rejected["a document's question: the document has enough"] += len(good[most:])
        examples += good[:most]
    return FromDocuments(tuple(examples), dict(+rejected))


def from_document(
    name: str, document: str, notebook: Notebook, look_up: LookUp, form: PromptForm, most: int
) -> Iterator[Example | str]:
    """An example, or the reason why it is none, for each question about passages from the whole
    length of the document."""
    passages = questions.spread(
        questions.passages(document, PASSAGE_CHARACTERS), -(-most // ITEMS_A_PASSAGE)
    )
    for number, passage in enumerate(passages, 1):
        items = notebook.items(passage, f"{name}, passage {number} of {len(passages)}")
        if items is None:
            yield "not written yet"
        for item in items or ():
            yield proved(item, passage, name, form, look_up)


def proved(
    item: Item, passage: str, document: str, form: PromptForm, look_up: LookUp
) -> Example | str:
    """The example, or why there is none."""
    if doubt := questions.doubt(item, passage):
        return doubt
    sources = look_up(item.question)
    found = (questions.flat(str(text)) for source in sources for text in source["document"])
    if not any(questions.flat(item.evidence) in text for text in found):
        return "the day's own search does not find the passage"
    prompt = (Message("system", form.render(sources)), Message("user", item.question))
    origin = Origin(kind="document", document=document, note=f"proved by: {item.evidence[:300]}")
    return Example(prompt, item.answer, f"document {document}", f"document {document}", origin)
