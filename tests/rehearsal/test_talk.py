"""What the demonstration counts as right, what it promises and what it prints."""

from typing import Any

import pytest

from glue.clients.webui_connection import Answer
from rehearsal import talk
from rehearsal.talk import Asked

SOURCES = [{"document": ["a passage"], "metadata": [{"source": "office.md"}]}]


def asked(right: str, said: str) -> Asked:
    return Asked("A question?", right, Answer(said, SOURCES))


@pytest.mark.parametrize(
    ("right", "said", "is_right"),
    [
        ("37 days", "A gauge can be returned within 37 days of delivery.", True),
        ("37 days", "A gauge can be returned within 21 days of delivery.", False),
        ("", "The documents do not say that.", True),
        ("", "The summer party begins at 17:00.", False),
        ("37 days", "The documents do not say that.", False),
    ],
)
def test_right_is_what_holds_the_value_or_says_that_it_is_not_there(
    right: str, said: str, is_right: bool
) -> None:
    assert asked(right, said).is_right is is_right


def rounds() -> dict[str, Any]:
    wrong, absent = "I am happy to help.", "The documents do not say that."
    before = [asked("37 days", wrong), asked("13:40", "Until 13:40."), asked("", wrong)]
    after = [asked("37 days", "37 days."), asked("13:40", "Until 13:40."), asked("", absent)]
    return talk.figures(before, after, before)


def good() -> dict[str, Any]:
    return rounds() | {
        "note_question": "Which extension?",
        "note_answer": "It is 4471.",
        "note_right": True,
        "note_seconds": 12.3,
        "changed_question": "How late?",
        "changed_answer": "Until 14:25.",
        "changed_follows": True,
        "asked_during_night": {"model": 3, "desk": 9, "error": 0},
        "seconds": {"night": 300.0},
    }


def test_the_figures_count_what_the_documents_say_apart_from_what_they_do_not() -> None:
    found = rounds()
    assert (found["questions"], found["right_before"], found["right_after"]) == (2, 1, 2)
    assert (found["absent_questions"], found["absent_before"], found["absent_after"]) == (1, 0, 1)
    assert found["rollback"] is True and found["sources_missing"] == 0
    assert found.keys() >= set(talk.COUNTS) - {"note_seconds", "changed_follows"}


@pytest.mark.parametrize(
    "broken",
    [
        {"right_after": 0},
        {"absent_after": 0},
        {"note_right": False},
        {"note_seconds": 61.0},
        {"changed_follows": False},
        {"rollback": False},
        {"sources_missing": 1},
        {"asked_during_night": {"error": 1}},
    ],
)
def test_each_promise_is_checked(broken: dict[str, Any]) -> None:
    assert all(talk.promises(good()).values())
    assert sum(not kept for kept in talk.promises(good() | broken).values()) == 1


def test_the_last_lines_are_right_answers_in_sentences(
    capsys: pytest.CaptureFixture[str],
) -> None:
    talk.show(good())
    printed = capsys.readouterr().out.splitlines()
    assert printed[-1].startswith("Right, of 2: 1 before the night, 2 after it; rolled back")
    assert "    It is 4471." in printed and "    Until 14:25." in printed
