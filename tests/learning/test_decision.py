"""Likelihoods and right answers together."""

from dataclasses import replace

import pytest

from glue.core.verdict import Verdict
from learning.evaluation import answers, decision
from learning.evaluation.measurements import Answered, Evidence, GoldenAnswer, Graded, Scored
from tests.learning.test_gate import GOOD, LIMITS, STILL, scored

YES, NO = Graded(True), Graded(False)


def answered(
    kind: str, count: int, candidate: Graded, current: Graded, base: Graded
) -> list[Answered]:
    grades = {"candidate": candidate, "current": current, "base": base}
    return [Answered(kind, f"{kind} {at}", "", {}, grades) for at in range(count)]


LEARNED = answered("phrased", 10, YES, NO, NO)


def evidence(*more: Answered, gains: tuple[float, ...] = GOOD, lost_golden: int = 0) -> Evidence:
    wrong = {"candidate": ("it is no answer",), "current": ("it is no answer",), "base": ()}
    return Evidence(
        scored(gains),
        scored(STILL),
        golden=(GoldenAnswer("Which?", {}, wrong),) * lost_golden,
        facts=10,
        answered=(*LEARNED, *more),
    )


def test_both_must_agree_and_the_reasons_are_those_of_the_one_that_refuses() -> None:
    good = decision.verdict(evidence(), LIMITS)
    assert good.promote and "10 of 10 answers about what was taught are right" in good.reasons[0]
    screened = decision.verdict(evidence(gains=(0.01,) * 8), LIMITS)
    assert screened.faults == ("no gain",) and "held out" in screened.reasons[0]
    assert len(screened.reasons) == 1 and screened.figures["right_after"] == 10


def test_what_the_current_adapter_lost_already_is_lost_against_the_base_model() -> None:
    reading = decision.verdict(evidence(*answered("reading", 9, NO, NO, YES)), LIMITS)
    assert reading.faults == ("worse: reading",) and "base model" in reading.reasons[0]
    golden = decision.verdict(evidence(lost_golden=9), LIMITS)
    assert golden.faults == ("worse: golden",)


def test_one_loss_against_both_is_told_once() -> None:
    lost = decision.verdict(evidence(*answered("reading", 9, NO, YES, YES)), LIMITS)
    assert lost.faults == ("worse: reading",) and len(lost.reasons) == 1


OWN = Scored((-1.5,) * 80, (), (-0.6,) * 80, tuple(range(80)))  # far from what the base says


def judged(*more: Answered) -> Verdict:
    return decision.verdict(replace(evidence(*more), own=OWN), LIMITS)


def test_another_voice_is_a_note_where_right_answers_tell_what_is_forgotten() -> None:
    few, many = answered("reading", 10, YES, YES, YES), answered("reading", 120, YES, YES, YES)
    assert judged(*few).promote
    found = judged(*many)
    assert found.promote and "its own answers became less likely" in found.notes[-1]


@pytest.mark.parametrize(
    ("lost", "gained", "rows", "refused"),
    [(30, 6, 120, True), (12, 10, 120, False), (0, 0, 120, False), (6, 1, 25, False)],
)
def test_forgetting_is_refused_by_right_answers_where_there_are_enough_to_see_it(
    lost: int, gained: int, rows: int, refused: bool
) -> None:
    changes = [(False, True)] * lost + [(True, False)] * gained
    changes += [(True, True)] * (rows - len(changes))
    asked = [
        answers.Row(answers.READING, f"{at}", Graded(now), Graded(before))
        for at, (now, before) in enumerate(changes)
    ]
    assert [name for name, _ in answers.forgets(asked, 0.2)] == ["forgets"] * refused


# ---------------------------------------------------------------------- nights without facts

READS = answered("reading", 120, YES, YES, YES)
LETTERS = answered("style", 6, YES, NO, NO)
# what 32 general rows lose by noise alone
NOISE = replace(scored((-0.9, 0.5, -0.8, 0.6, -0.7, 0.7, -0.6, 0.3)), decoy=())


def without_facts(*rows: Answered, gains: tuple[float, ...] = GOOD) -> Verdict:
    return decision.verdict(Evidence(scored(gains), NOISE, facts=0, answered=rows), LIMITS)


def test_a_night_of_style_is_judged_by_its_style_and_by_what_it_still_reads() -> None:
    found = without_facts(*LETTERS, *READS)
    assert found.promote and found.figures["right_after"] == 6
    assert found.reasons[0].startswith("6 of 6 answers are in the team's style, 0 before")
    assert "it forgets what was known before" in found.notes[0]
    assert without_facts(*answered("style", 6, NO, NO, NO), *READS).faults == ("no gain",)
    lost = answered("reading", 30, NO, YES, YES) + READS[30:]
    assert without_facts(*LETTERS, *lost).faults == ("worse: reading",)


def test_a_style_without_words_of_its_own_is_judged_by_likelihoods_and_by_what_it_reads() -> None:
    found = without_facts(*READS)
    assert found.promote and "judged by likelihoods: 0 examples" in found.notes[-1]
    assert without_facts(*READS, gains=(0.01,) * 8).faults == ("no gain",)


@pytest.mark.parametrize("reads", [READS[:1], answered("reading", 120, NO, NO, NO)])
def test_where_too_few_or_none_were_right_before_likelihoods_tell_what_is_forgotten(
    reads: list[Answered],
) -> None:
    assert without_facts(*LETTERS, *reads).faults == ("forgets",)
