"""The bench's questions, about generated documents or, by a file, about your own."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import ConfigDict, Field

from bench import documents
from bench.documents import Case
from glue.core import schema
from glue.core.errors import Misconfigured

FORM = "[[questions]] tables with question, document and, if known, text"


@dataclass(frozen=True)
class Row:
    """document: a file's name. text: text that only the right passage contains."""

    __pydantic_config__: ClassVar = ConfigDict(extra="forbid")

    question: str
    document: str
    text: str = ""


@dataclass(frozen=True)
class QuestionFile:
    """papers: a list for people, who save them by hand."""

    __pydantic_config__: ClassVar = ConfigDict(extra="forbid")

    questions: Annotated[list[Row], Field(min_length=1, description=FORM)]
    papers: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Asked:
    """rotation: the questions of the load, in order. labelled: those for the hit rate."""

    rotation: tuple[Case, ...]
    labelled: tuple[Case, ...]


def generated(folder: Path, words: Path, count: int) -> Asked:
    """Writes missing documents into folder and returns the questions about them."""
    books = documents.load(words)
    documents.write(books, folder, count)
    return Asked(tuple(documents.rotation(books)), tuple(documents.labelled(books)))


def about(folder: Path, questions: Path | None) -> Asked:
    """The file's questions about documents in folder. Raises Misconfigured, also if there is no
    file."""
    if questions is None:
        saw = f"--documents {folder} without --questions"
        raise Misconfigured("--documents needs --questions", saw, f"--questions FILE: {FORM}")
    cases = read(questions)
    missing = sorted(
        {case.document for case in cases} - {path.name for path in folder.glob("*.pdf")}
    )
    if missing:
        raise Misconfigured(
            "documents that questions ask about are missing",
            ", ".join(missing),
            f"put them into {folder}",
        )
    return Asked(cases, cases)


def read(path: Path) -> tuple[Case, ...]:
    """First turns, each with the right document and, if known, text of the right passage."""
    table = schema.read_toml(path)
    schema.check(QuestionFile, table, str(path))
    return tuple(case(**row) for row in table["questions"])


def case(question: str, document: str, text: str = "") -> Case:
    return Case("first turn", question, question, text, document)
