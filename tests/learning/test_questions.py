"""Questions about documents. A script stands in for the day model: the practice model cannot
write questions."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from glue.core.errors import GlueError, Misconfigured
from learning.dataset import glossary, questions
from learning.dataset.documents import from_documents
from learning.dataset.notebook import Notebook, Write
from learning.dataset.prompt import PromptForm
from learning.dataset.questions import Item

FORM = PromptForm("You help.", "Look:\n{{CONTEXT}}")
PASSAGE = (
    "The rotary pump stands in hall 12. Marek checks it every Tuesday at 07:30, and its seal is"
    " changed once in 400 hours."
)
GOOD = Item(
    "When is the seal of the rotary pump changed?",
    "Its seal is changed once in 400 hours.",
    "its seal is changed once in 400 hours",
)


@pytest.mark.parametrize(
    ("item", "doubt"),
    [
        (GOOD, ""),
        (
            Item(GOOD.question, GOOD.answer, "its seal is replaced once in 400 hours"),
            "the evidence is not in the passage",
        ),
        (
            Item(GOOD.question, "Its seal is changed once in 500 hours.", GOOD.evidence),
            "a number or code of the answer is not in the evidence",
        ),
        (
            Item(
                GOOD.question,
                "Its seal, which costs plenty and comes from Oslo, is changed in 400 hours.",
                GOOD.evidence,
            ),
            "the answer says more than the evidence",
        ),
        (
            Item("What does the passage say about seals?", GOOD.answer, GOOD.evidence),
            "the question points at a page that the chat does not show",
        ),
        (
            Item(GOOD.question, GOOD.answer.replace("is changed", "is not changed"), GOOD.evidence),
            "the answer says no where the evidence says yes, or the other way round",
        ),
        (
            Item(
                f"{GOOD.question} It is painted green near northern entrance?",
                f"{GOOD.answer} It is painted green near northern entrance.",
                GOOD.evidence,
            ),
            "the answer says more than the evidence",
        ),
        (Item("Seal?", GOOD.answer, GOOD.evidence), "question or answer is too short or too long"),
    ],
)
def test_unproved_questions_are_left_out_with_the_reason(item: Item, doubt: str) -> None:
    assert questions.doubt(item, PASSAGE) == doubt


@pytest.mark.parametrize(
    "reply",
    [
        "",
        "Sure! Here you go.",
        '{"items": 3}',
        '{"items": ["?"]}',
        '{"items": [{"question": 1}]}',
        "{" * 9999,
    ],
)
def test_a_malformed_reply_gives_no_questions(reply: str) -> None:
    assert not questions.read(reply)


def test_a_truncated_reply_is_requested_again(tmp_path: Path) -> None:
    whole = ScriptedModel()
    assert (
        from_documents(
            documents(), notebook(tmp_path, lambda task: whole.write(task)[:-40]), look_up, FORM, 5
        ).examples
        == ()
    )
    assert (
        len(from_documents(documents(), notebook(tmp_path, whole.write), look_up, FORM, 5).examples)
        == 1
    )


def test_a_document_is_split_at_paragraphs() -> None:
    document = "\n\n".join(
        [
            "Sentence one is here. " * 10,
            "Another paragraph, of some length and with some words. " * 3,
            "x" * 3000,
        ]
    )
    pieces = questions.passages(document, 400)
    assert all(80 <= len(piece) <= 400 for piece in pieces)
    assert questions.spread(list("abcdefgh"), 3) == ["a", "c", "f"]


class ScriptedModel:
    """A stub that writes its script."""

    def __init__(self) -> None:
        self.calls = 0

    def write(self, task: str) -> str:
        self.calls += 1
        assert PASSAGE in task
        made_up = {
            "question": "Who built the rotary pump?",
            "answer": "It was built in 1987.",
            "evidence": "The rotary pump stands",
        }
        return "Certainly.\n```json\n" + json.dumps({"items": [vars(GOOD), made_up]}) + "\n```"


def look_up(question: str) -> list[dict[str, Any]]:
    return [
        {
            "source": {"type": "collection", "id": "kb"},
            "document": [PASSAGE],
            "metadata": [{"source": "pumps.pdf"}],
        }
    ]


def documents() -> Iterator[tuple[str, str]]:
    yield "../../etc/passwd", PASSAGE


def notebook(folder: Path, write: Write) -> Notebook:
    return Notebook.open(folder / "kept.jsonl", "passage", write, print, 600)


def test_questions_are_written_once_checked_and_prompted_as_by_day(tmp_path: Path) -> None:
    model = ScriptedModel()
    for _ in range(2):
        found = from_documents(documents(), notebook(tmp_path, model.write), look_up, FORM, 5)
    assert model.calls == 1
    assert (tmp_path / "kept.jsonl").stat().st_mode & 0o777 == 0o600
    (example,) = found.examples
    assert (example.question, example.answer) == (GOOD.question, GOOD.answer)
    assert (
        example.prompt[0].content.startswith("You help.\nLook:\n<source")
        and PASSAGE in example.prompt[0].content
    )
    assert (example.conversation, example.origin.kind) == ("document ../../etc/passwd", "document")
    assert found.rejected == {
        "a document's question: a number or code of the answer is not in the evidence": 1
    }


def test_a_question_whose_passage_is_not_retrieved_is_left_out(tmp_path: Path) -> None:
    found = from_documents(
        documents(), notebook(tmp_path, ScriptedModel().write), lambda question: [], FORM, 5
    )
    assert "a document's question: the day's own search does not find the passage" in found.rejected


def test_a_document_has_no_more_examples_than_the_recipe_says(tmp_path: Path) -> None:
    second = {
        "question": "Who checks the rotary pump?",
        "answer": "Marek checks it.",
        "evidence": "Marek checks it every Tuesday",
    }
    reply = json.dumps({"items": [vars(GOOD), second]})
    found = from_documents(documents(), notebook(tmp_path, lambda task: reply), look_up, FORM, 1)
    assert len(found.examples) == 1
    assert found.rejected == {"a document's question: the document has enough": 1}


def test_a_model_that_does_not_answer_is_not_asked_again_tonight(tmp_path: Path) -> None:
    asked = []

    def down(task: str) -> str:
        asked.append(task)
        raise GlueError("vLLM did not answer", "connection refused", "make logs")

    two = [*documents(), ("other.pdf", PASSAGE.replace("12", "13"))]
    found = from_documents(two, notebook(tmp_path, down), look_up, FORM, 5)
    assert (len(asked), found.examples, found.rejected) == (
        1,
        (),
        {"a document's question: not written yet": 2},
    )


def test_glossary_terms_become_examples() -> None:
    table = {"terms": {"MTBF": "The mean time between two failures."}}
    rows = glossary.examples(table, "glossary.toml", lambda question: f"You help with {question}")
    assert [row.question for row in rows] == ["What does MTBF mean?", "What is MTBF?"]
    assert {(row.answer, row.conversation, row.origin.kind) for row in rows} == {
        ("The mean time between two failures.", "term MTBF", "term")
    }


@pytest.mark.parametrize(
    "table", [{"term": {}}, {"terms": {"A": ""}}, {"terms": 3}, {"questions": ["What?"]}]
)
def test_an_invalid_glossary_is_refused(table: dict[str, Any]) -> None:
    with pytest.raises(Misconfigured, match="glossary"):
        glossary.examples(table, "glossary.toml", str)
