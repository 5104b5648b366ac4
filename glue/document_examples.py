"""Examples from the team's documents: the day model writes questions about them, and what a passage does not prove is left out.

A question's prompt is the one that the chat would make of it: with the passages that Open WebUI finds for it.
"""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from glue import files, vllm, waiting
from glue.learning import questions
from glue.learning.prompt import PromptForm
from glue.learning.questions import Item
from glue.site import Site
from glue.types import Example, GlueError, Message, Origin
from glue.waiting import Seen

KEPT = "document-questions.jsonl"  # what was written stays in the state folder: a night writes about what is new only
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


def collect(site: Site, form: PromptForm, most: int) -> FromDocuments:
    """At most so many examples from each document. Writing ends after half an hour; the next time goes on from there."""
    person = site.administrator()
    knowledge = person.ensure_knowledge()
    count = site.settings.number("RAG_TOP_K")
    return from_documents(
        person.knowledge_texts(knowledge),
        site.state / KEPT,
        write=lambda task: ask_day_model(site, task),
        look_up=lambda question: person.look_up(knowledge, question, count),
        form=form,
        most=most,
        tell=site.tell,
    )


def ask_day_model(site: Site, task: str) -> str:
    """While nobody else is being answered, or after two minutes of waiting for that."""
    served = site.vllm()

    def look() -> Seen[None]:
        running = served.running_requests()
        return Seen(running == 0, f"{running} answers running; documents wait")

    try:
        waiting.until("a quiet moment", look, QUIET_SECONDS)
    except GlueError as error:
        site.tell(error.saw)
    return served.complete(vllm.BASE, [{"role": "user", "content": task}], MOST_REPLY_TOKENS)


def from_documents(
    documents: Iterator[tuple[str, str]],
    kept_file: Path,
    write: Write,
    look_up: LookUp,
    form: PromptForm,
    most: int,
    tell: Callable[[str], None],
) -> FromDocuments:
    """Raises what write and look_up raise; what was written until then is kept."""
    kept = {row["passage"]: row["items"] for row in files.read_lines(kept_file)}
    deadline = time.monotonic() + LONGEST_WRITING_SECONDS
    examples: list[Example] = []
    rejected: Counter[str] = Counter()
    for name, document in documents:
        passages = questions.spread(questions.passages(document, PASSAGE_CHARACTERS), max(1, -(-most // ITEMS_A_PASSAGE)))
        found: list[Example] = []
        for number, passage in enumerate(passages, 1):
            key = hashlib.sha256(passage.encode()).hexdigest()
            if key not in kept and time.monotonic() > deadline:
                rejected["a passage that there was no time to write about"] += 1
                continue
            if key not in kept:
                tell(f"writing questions about {name}: passage {number} of {len(passages)}")
                kept[key] = [asdict(item) for item in questions.read(write(questions.task(passage, ITEMS_A_PASSAGE)))]
                files.append_line(kept_file, {"passage": key, "items": kept[key]})
            for item in questions.items(kept[key]):
                example = proved(item, passage, name, form, look_up)
                if isinstance(example, str):
                    rejected[f"a document's question: {example}"] += 1
                else:
                    found.append(example)
        examples += found[:most]
        if len(found) > most:
            rejected["a document's question: the document has enough"] += len(found) - most
    return FromDocuments(tuple(examples), dict(rejected))


def proved(item: Item, passage: str, document: str, form: PromptForm, look_up: LookUp) -> Example | str:
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
