"""Generated documents, questions about them and the right answers, for a bench without your own
documents."""

from __future__ import annotations

import random
import re
import string
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fpdf import FPDF

QUESTIONS_IN_ROTATION = 12


@dataclass(frozen=True)
class Case:
    """A labelled question. value: text that only the right passage contains; empty if unknown.
    document: its file's name.

    earlier: the conversation before it. alone: the ideal search query, in one sentence.
    """

    kind: str
    question: str
    alone: str
    value: str
    document: str
    earlier: tuple[dict[str, str], ...] = ()

    @property
    def messages(self) -> list[dict[str, str]]:
        return [*self.earlier, {"role": "user", "content": self.question}]

    @property
    def asked(self) -> str:
        """The user's messages in this conversation, one a line."""
        return "\n".join(
            message["content"] for message in self.messages if message["role"] == "user"
        )

    def passage_found(self, passages: Iterable[str]) -> bool:
        return bool(self.value) and any(self.value in text for text in passages)

    def found(self, passages: Iterable[str], sources: Iterable[str]) -> bool:
        """By the passage, or by the document if no passage is labelled."""
        return self.passage_found(passages) if self.value else self.document in sources


@dataclass(frozen=True)
class Fact:
    subject: str
    topic: dict[str, str]
    value: str

    @property
    def document(self) -> str:
        return f"{self.subject.lower().replace(' ', '-')}.pdf"

    def said(self, form: str) -> str:
        return self.topic[form].format(subject=self.subject, value=self.value)


@dataclass(frozen=True)
class Library:
    words: dict[str, Any]
    facts: tuple[Fact, ...]

    def of(self, subject: str) -> list[Fact]:
        return [fact for fact in self.facts if fact.subject == subject]


def load(path: Path) -> Library:
    """The same file always gives the same documents."""
    words = tomllib.loads(path.read_text(encoding="utf-8"))
    choose = random.Random(words["seed"])
    taken: set[str] = set()
    facts = []
    for subject in words["subjects"]:
        for topic in words["topics"]:
            value = new_value(topic["pattern"], choose, taken)
            facts.append(Fact(subject, topic, value))
    return Library(words, tuple(facts))


def new_value(pattern: str, choose: random.Random, taken: set[str]) -> str:
    """A value that occurs nowhere else, also not as part of another one."""
    while True:
        value = re.sub(
            "[#@]",
            lambda mark: choose.choice(string.digits if mark[0] == "#" else string.ascii_uppercase),
            pattern,
        )
        if not any(value in other or other in value for other in taken):
            taken.add(value)
            return value


def write(library: Library, folder: Path, count: int) -> None:
    """Writes a PDF for each of the first count subjects. An existing file stays, so that its
    checksum does not change."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, subject in enumerate(library.words["subjects"][:count]):
        facts = library.of(subject)
        if not (folder / facts[0].document).exists():
            write_document(library, facts, folder / facts[0].document, seed=number)


def write_document(library: Library, facts: list[Fact], path: Path, seed: int) -> None:
    choose = random.Random(seed)
    pdf = FPDF()
    pdf.add_page()
    pdf.set_font("helvetica", size=14)
    pdf.multi_cell(0, 9, library.words["title"].format(subject=facts[0].subject), new_x="LMARGIN")
    for fact in facts:
        pdf.set_font("helvetica", style="B", size=11)
        pdf.multi_cell(
            0,
            7,
            library.words["heading"].format(subject=fact.subject, topic=fact.topic["name"]),
            new_x="LMARGIN",
        )
        pdf.set_font("helvetica", size=11)
        pdf.multi_cell(0, 6, section(library.words, fact, choose), new_x="LMARGIN")
    pdf.output(str(path))


def section(words: dict[str, Any], fact: Fact, choose: random.Random) -> str:
    sentences = choose.choices(words["fillers"], k=words["fillers_a_section"])
    sentences.insert(choose.randrange(len(sentences)), fact.said("fact"))
    return " ".join(sentence.format(subject=fact.subject) for sentence in sentences)


# ---------------------------------------------------------------------- questions


def rotation(library: Library) -> list[Case]:
    """The questions of the load in order, each about another document."""
    return [first_turn(fact) for fact in spread(library, QUESTIONS_IN_ROTATION, skip=0)]


def labelled(library: Library) -> list[Case]:
    """A first question about each document, then follow-ups of three kinds: "it", another
    subject, another topic."""
    subjects = library.words["subjects"]
    first = [first_turn(fact) for fact in spread(library, len(subjects), skip=3)]
    asked = spread(library, len(subjects), skip=1)
    wanted = spread(library, len(subjects), skip=4)
    others = wanted[7:] + wanted[:7]
    same_topic = [twin(library, fact, others[number].subject) for number, fact in enumerate(asked)]
    return [
        *first,
        *(
            follow_up("it", old, new, new.said("follow_up"))
            for old, new in zip(asked, wanted, strict=True)
        ),
        *(
            follow_up("another subject", old, new, f"And for the {new.subject}?")
            for old, new in zip(asked, same_topic, strict=True)
        ),
        *(
            follow_up("another matter", old, new, new.said("question"))
            for old, new in zip(asked, others, strict=True)
        ),
    ]


def spread(library: Library, count: int, skip: int) -> list[Fact]:
    """A fact of each of the first `count` subjects, with topics in rotation from `skip`."""
    topics = len(library.words["topics"])
    return [
        library.of(subject)[(number + skip) % topics]
        for number, subject in enumerate(library.words["subjects"][:count])
    ]


def twin(library: Library, fact: Fact, subject: str) -> Fact:
    return next(other for other in library.of(subject) if other.topic == fact.topic)


def first_turn(fact: Fact) -> Case:
    question = fact.said("question")
    return Case("first turn", question, question, fact.value, fact.document)


def follow_up(kind: str, old: Fact, new: Fact, question: str) -> Case:
    earlier = (
        {"role": "user", "content": old.said("question")},
        {"role": "assistant", "content": old.said("fact")},
    )
    return Case(kind, question, new.said("question"), new.value, new.document, earlier)
