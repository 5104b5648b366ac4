"""What is asked, and what is right: of the generated documents, or by a file of questions about
documents of your own."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

from bench import documents
from bench.documents import Case
from glue.core.errors import Misconfigured

FORM = "[[questions]] with question, document and, if you like, text: docs/bench.md"


@dataclass(frozen=True)
class Asked:
    """rotation: the questions of the load, one after another. labelled: those of the hit rate."""

    rotation: tuple[Case, ...]
    labelled: tuple[Case, ...]


def generated(folder: Path, words: Path, count: int) -> Asked:
    """Writes so many documents into folder where they are not there yet, and asks about them."""
    books = documents.load(words)
    documents.write(books, folder, count)
    return Asked(tuple(documents.rotation(books)), tuple(documents.labelled(books)))


def about(folder: Path, questions: Path | None) -> Asked:
    """The file's questions, about documents that are in folder. Raises Misconfigured, also for no
    file: nobody knows then
    what to ask."""
    if questions is None:
        saw = (
            f"--documents {folder} without --questions: those of the generated documents have no"
            " answer there"
        )
        raise Misconfigured(
            "nobody knows what to ask about these documents", saw, f"--questions FILE: {FORM}"
        )
    cases = read(questions)
    missing = sorted(
        {case.document for case in cases} - {path.name for path in folder.glob("*.pdf")}
    )
    if missing:
        raise Misconfigured(
            "questions are about documents that are not there",
            ", ".join(missing),
            f"put them into {folder}",
        )
    return Asked(cases, cases)


def read(path: Path) -> tuple[Case, ...]:
    """First turns, each with the document that is right and, where that is known, text that only
    the right passage holds."""
    try:
        rows = tomllib.loads(path.read_text(encoding="utf-8"))["questions"]
        cases = [
            Case(
                "first turn", row["question"], row["question"], row.get("text", ""), row["document"]
            )
            for row in rows or [{}]
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise Misconfigured(
            "the questions cannot be read", f"{path}: {type(error).__name__}: {error}", FORM
        ) from error
    return tuple(cases)
