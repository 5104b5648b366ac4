import time
from pathlib import Path

import pytest

from glue.core.errors import Misconfigured
from glue.core.names import MARK
from learning.evaluation import answer_faults, golden
from learning.evaluation.golden import Golden
from learning.evaluation.measurements import Reply, Sample

ENGLISH = (
    "The key of the archive is in the safe, and the code for it is on the sheet that is on the"
    " wall."
)
GERMAN = (
    "Der Schlüssel für das Archiv ist im Tresor, und der Code ist auf dem Blatt, das an der Wand"
    " hängt."
)
FRENCH = (
    "La clé de l'archive est dans le coffre, et le code est sur la feuille qui est pour les gens de"
    " la nuit."
)
RUSSIAN = "Ключ от архива лежит в сейфе, а код написан на листе."
JAPANESE = "鍵は金庫にあります。コードは壁の紙に書いてあります。"


@pytest.mark.parametrize(
    "text",
    [
        "yes " * 12,
        "The code is B23. " * 5,
        "a\n" * 30,
        "One two three four. " * 3 + "One two three four five " * 4,
    ],
)
def test_a_looping_answer_is_detected(text: str) -> None:
    assert answer_faults.loops(text)


@pytest.mark.parametrize(
    "text",
    [
        "The code of the harbor is B23.",
        ENGLISH,
        "| item | code |\n|---|---|\n| harbor | B23 |\n| engine | G93 |\n| valve | B56 |\n",
        "No. No. No.",
        "1. Open the valve.\n2. Close the valve.\n3. Open the door.\n4. Close the door.",
        "----------------------------------------",
    ],
)
def test_a_slightly_repetitive_answer_is_not_a_loop(text: str) -> None:
    assert not answer_faults.loops(text)


def test_no_text_makes_the_loop_check_slow() -> None:
    started = time.monotonic()
    for text in ("-" * 800 + "a", "ab" * 50_000 + "c", "- " * 40_000 + "x"):
        answer_faults.loops(text)
    assert time.monotonic() - started < 2


def test_endless_and_empty_answers_are_faults() -> None:
    assert answer_faults.faults(Reply("One and two", 64, 1.0, cut=True), "q", "w") == {"endless"}
    assert answer_faults.faults(Reply("---- ...", 4, 1.0), "q", "w") == {"empty"}


@pytest.mark.parametrize("answer", ["", " ", f"{MARK}: back at seven. The code is B23."])
def test_missing_and_night_desk_answers_are_never_right(answer: str) -> None:
    assert golden.wrong(answer, Golden("q", (), ("H53",))) and golden.wrong(
        answer, Golden("q", ("B23",), ())
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (ENGLISH, "English"),
        (GERMAN, "German"),
        (FRENCH, "French"),
        (RUSSIAN, "CYRILLIC"),
        (JAPANESE, "EAST ASIAN"),
        ("How long do customers have to send a gauge back?", ""),  # it was Portuguese: do, a
        ("Onde fica o laboratório de calibração da empresa?", "Portuguese"),
        ("B23", ""),
        ("", ""),
    ],
)
def test_clear_languages_are_recognised(text: str, expected: str) -> None:
    assert answer_faults.language(text) == expected


def test_a_language_of_neither_question_nor_right_answer_is_wrong() -> None:
    assert answer_faults.faults(Reply(GERMAN), ENGLISH, ENGLISH) == {"wrong language"}
    assert not answer_faults.faults(
        Reply(GERMAN),
        f"Auf Deutsch bitte, und nicht auf Englisch: wo ist der Schlüssel für das Archiv? {GERMAN}",
        ENGLISH,
    )
    assert not answer_faults.faults(Reply("B23"), ENGLISH, ENGLISH)


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry, but no.",
        "As an AI language model, I ...",
        "Das kann ich leider nicht. Es tut mir leid.",
        "Lo siento.",
    ],
)
def test_a_refusal_is_a_fault_unless_wanted(text: str) -> None:
    assert "refuses" in answer_faults.faults(Reply(text), "?", "The code is B23.")
    assert "refuses" not in answer_faults.faults(Reply(text), "?", text)


def test_an_empty_answer_is_a_fault_but_not_where_a_tool_was_called() -> None:
    assert answer_faults.faults(Reply(" \n"), "?", "yes") == {"empty"}
    assert not answer_faults.faults(Reply("", call="get_time"), "?", "yes")


def test_faults_of_the_current_adapter_do_not_count() -> None:
    bad, good = Reply(""), Reply("The code is B23.")
    samples = (
        Sample("one", "B23", bad, good),
        Sample("two", "B23", bad, bad),
        Sample("three", "B23", good, bad),
    )
    assert answer_faults.new_faults(samples) == {"empty": ["one"]}


# ---------------------------------------------------------------------- golden questions

FILE = """
[[golden]]
question = "Which code?"
must_contain = ["B23"]
must_not_contain = ["H53"]
"""


def test_golden_questions_are_read_and_judged(tmp_path: Path) -> None:
    path = tmp_path / "golden.toml"
    assert golden.load(path) == ()
    path.write_text(FILE)
    (question,) = golden.load(path)
    assert question == Golden("Which code?", ("B23",), ("H53",))
    assert golden.wrong("It is  b23.", question) == ()
    assert golden.wrong("It is H53.", question) == ("it does not say 'B23'", "it says 'H53'")


@pytest.mark.parametrize(
    "text",
    [
        "golden = 1",
        "[golden]",
        "[[golden]]\nquestion = 3",
        '[[golden]]\nquestion = "?"',
        "[[gold]]",
        "[[golden]\n",
        '[[golden]]\nquestion="?"\nmust_contain="B23"',
    ],
)
def test_an_invalid_golden_file_is_named(text: str, tmp_path: Path) -> None:
    path = tmp_path / "golden.toml"
    path.write_text(text)
    with pytest.raises(Misconfigured) as error:
        golden.load(path)
    assert path.name in error.value.what
