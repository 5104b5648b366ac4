"""Likelihoods and right answers together."""

from learning.evaluation import decision
from learning.evaluation.measurements import Answered, Evidence, GoldenAnswer, Graded
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
