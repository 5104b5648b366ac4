"""The verdict by right answers: what it promotes, what it refuses, and how often noise fools it."""

import random
from dataclasses import replace
from itertools import pairwise

import pytest

from learning.dataset import facts, variants
from learning.dataset.facts import Fact
from learning.dataset.wording import Wording
from learning.evaluation import answers, paired, reading
from learning.evaluation.answers import GENERAL, GOLDEN, READING, Question, Row
from learning.evaluation.golden import Golden
from learning.evaluation.measurements import Graded
from tests.learning import company

YES, NO = Graded(True), Graded(False)


def rows(kind: str, now: str, before: str) -> list[Row]:
    """A letter each: 1 is right."""
    return [
        Row(kind, f"{kind} {at}" if kind in (READING, GENERAL) else f"fact {at}", *pair)
        for at, pair in enumerate(
            zip(
                *([YES if one == "1" else NO for one in said] for said in (now, before)),
                strict=True,
            )
        )
    ]


GOOD = [
    *rows("phrased", "1111111110", "1100000001"),
    *rows("changed", "1111111100", "1110000000"),
    *rows("absent", "1111111111", "0000000000"),
    *rows("note", "1111111111", "1111100000"),
    *rows(READING, "1" * 18 + "00", "1" * 19 + "0"),
]


def test_a_night_that_answers_right_is_promoted_and_says_so_in_counts() -> None:
    found = answers.verdict(GOOD, 5)
    assert found.promote and not found.faults
    assert "37 of 40 answers about what was taught are right, 11 before" in found.reasons[0]
    assert "reading about other things 18 right, 19 before" in found.reasons[0]


def test_a_night_that_changes_nothing_is_refused_and_told_what_would_be_seen() -> None:
    same = [replace(row, candidate=row.before) for row in GOOD]
    found = answers.verdict(same, 5)
    assert found.faults == ("no gain",) and "%" in found.reasons[0]


STYLE = rows("style", "111111", "000000")


@pytest.mark.parametrize(
    ("asked", "gain"),
    [
        (rows("phrased", "1111", "0000"), []),
        (rows("phrased", "1111", "0000") + STYLE, STYLE),
        (GOOD + STYLE, answers.taught(GOOD)),
        (rows("style", "1111", "0000"), []),
    ],
    ids=["few facts", "few facts and a style", "facts and a style", "few letters"],
)
def test_a_gain_is_judged_by_facts_or_else_by_the_style_where_there_are_enough(
    asked: list[answers.Row], gain: list[answers.Row]
) -> None:
    assert answers.gain_rows(asked, 5) == gain
    assert answers.verdict(asked, 5).promote


def test_a_style_that_is_not_answered_in_is_no_gain() -> None:
    found = answers.verdict(rows("style", "111000", "000000") + rows(READING, "1", "1"), 5)
    assert found.faults == ("no gain",)
    assert "3 of 6 answers are in the team's style, 0 before" in found.reasons[0]


@pytest.mark.parametrize("kind", [READING, GENERAL, GOLDEN, "phrased"])
def test_a_night_that_loses_one_kind_is_refused_for_it_whatever_else_it_gains(kind: str) -> None:
    rest = [row for row in GOOD if row.kind != kind]
    found = answers.verdict([*rest, *rows(kind, "0" * 10, "1" * 10)], 5)
    assert not found.promote and f"worse: {kind}" in found.faults


def test_a_night_that_repeats_what_it_was_taught_against_the_document_is_refused() -> None:
    stale = Graded(False, memorised=True)
    changed = [Row("changed", f"fact {at}", stale, NO) for at in range(8)]
    found = answers.verdict([*(row for row in GOOD if row.kind != "changed"), *changed], 5)
    assert "memorises" in found.faults and found.figures["memorised"] == 8


def test_a_fact_counts_once_however_many_rows_it_has() -> None:
    """Ninety rows about three facts are three facts."""
    many = [Row("phrased", f"fact {at % 3}", YES, NO) for at in range(90)]
    assert answers.compared(many) == paired.Paired(3, 3, 0)
    assert not answers.verdict(many, 2).promote


def test_the_test_is_exact() -> None:
    assert paired.Paired(9, 5, 0).p_better == pytest.approx(1 / 32)
    assert paired.Paired(9, 8, 1).p_better == pytest.approx(10 / 512)
    assert paired.Paired(9, 0, 0).p_better == 1


def test_nights_of_nothing_but_noise_are_promoted_one_time_in_twenty_at_most() -> None:
    choose = random.Random(1)
    promoted = 0
    for _ in range(1000):
        noise = [
            Row(kind, f"fact {fact}", *choose.choice([(YES, NO), (NO, YES), (YES, YES), (NO, NO)]))
            for fact in range(20)
            for kind in variants.KINDS
        ]
        promoted += answers.verdict(noise, 5).promote
    assert promoted <= 50


def test_the_stated_power_is_what_is_seen() -> None:
    choose = random.Random(2)
    share = paired.smallest_seen(20)
    seen = 0
    for _ in range(1000):
        turned = choose.choices((1, -1, 0), (share, 0.05, 0.95 - share), k=20)
        found = paired.Paired(20, turned.count(1), turned.count(-1))
        seen += found.p_better <= paired.LEVEL
    assert 0.77 < seen / 1000 < 0.9
    assert paired.smallest_seen(4) > 1 > paired.smallest_seen(40)


def question(kind: str, right: str, stale: str = "") -> Question:
    return Question(kind, "fact", (), Fact(right), stale)


@pytest.mark.parametrize(
    ("asked", "answer", "graded"),
    [
        (question("phrased", "37"), "Within 37 days [1].", Graded(True)),
        (question("phrased", "37"), "Within 30 days.", Graded(False)),
        (
            question("phrased", "37"),
            "The documents do not say that.",
            Graded(False, absent=True),
        ),
        (question("changed", "21", "37"), "Within 21 days.", Graded(True)),
        (question("changed", "21", "37"), "Within 37 days.", Graded(False, memorised=True)),
        (question("changed", "21", "37"), "21 days, or 37 days.", Graded(False)),
        (question("note", "37", "21"), "37 days, not 21.", Graded(False)),
        (question("absent", "", "37"), "The documents do not say.", Graded(True, absent=True)),
        (question("absent", "", "37"), "Within 37 days.", Graded(False)),
        (
            question("absent", "", "37"),
            "The documents do not say. It is 37.",
            Graded(False, absent=True),
        ),
    ],
)
def test_an_answer_is_right_by_the_fact_in_its_reference(
    asked: Question, answer: str, graded: Graded
) -> None:
    assert answers.grade(asked, answer, Wording()) == graded


def test_a_golden_question_keeps_its_own_rule() -> None:
    asked = Question(GOLDEN, "1", (), golden=Golden("Which hall?", ("hall 4",), ("hall 5",)))
    assert answers.grade(asked, "In hall 4.", Wording()).right
    assert not answers.grade(asked, "In hall 4 or hall 5.", Wording()).right


def test_what_a_variant_trains_is_right_by_its_own_question() -> None:
    for made in variants.held_out(company.ALL, variants.Shares(), 1):
        assert answers.grade(answers.question(made), made.example.answer, Wording()).right, made


@pytest.mark.parametrize("most", [0, 7, 20, 1000])
def test_fewer_reading_questions_are_of_all_languages_evenly(most: int) -> None:
    every, some = reading.asked(company.FORM), reading.asked(company.FORM, most)
    assert len(some) == min(most, len(every)) and len(set(some)) == len(some)
    places = [every.index(one) for one in some]
    steps = {after - before for before, after in pairwise(places)}
    assert places == sorted(places) and (not steps or max(steps) - min(steps) <= 1)


def test_the_reading_set_is_sound() -> None:
    asked = reading.asked(company.FORM)
    languages = [row["language"] for row in reading.passages()]
    assert len(asked) == len({one.fact for one in asked}) == 100
    assert {languages.count(one) for one in languages} == {10} and len(set(languages)) == 5
    for one in asked:
        assert facts.says(one.prompt[0].content, one.right.value), one
        assert not facts.says(one.prompt[1].content, one.right.value), one
