"""Examples from the team's documents: the day model writes questions about them, and what a passage
does not prove is left out.

A question's prompt is the one that the chat would make of it: with the passages that Open WebUI
finds for it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from glue.clients import knowledge
from glue.core.names import DOCUMENT_QUESTIONS
from learning.dataset import questions
from learning.dataset.notebook import Notebook, Write
from learning.dataset.prompt import PromptForm
from learning.dataset.questions import Item
from learning.examples import Example, Message, Origin
from learning.job import Job

PASSAGE_CHARACTERS = 1500
ITEMS_A_PASSAGE = 2
LONGEST_WRITING_SECONDS = 1800.0

LookUp = Callable[[str], list[dict[str, Any]]]


@dataclass(frozen=True)
class FromDocuments:
    examples: tuple[Example, ...]
    rejected: dict[str, int]


def collect(job: Job, form: PromptForm, most: int) -> FromDocuments:
    """At most so many examples from each document. Writing ends after half an hour; the next time
    goes on from there."""
    # what was written is kept: a night asks about new passages only
    notebook = Notebook.of_night(job, DOCUMENT_QUESTIONS, "passage", LONGEST_WRITING_SECONDS)
    texts = knowledge.texts(job.chat, job.order["knowledge"])
    return from_documents(texts, notebook, job.look_up, form, most)


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
        words = f"questions about {name}, passage {number} of {len(passages)}"
        items = notebook.items(passage, words, partial(written, passage))
        if items is None:
            yield "not written yet"
        for item in questions.items(items or []):
            yield proved(item, passage, name, form, look_up)


def written(passage: str, write: Write) -> list[dict[str, str]] | None:
    found = questions.read(write(questions.task(passage, ITEMS_A_PASSAGE)))
    return None if found is None else [asdict(item) for item in found]


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
