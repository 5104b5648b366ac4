import math
from dataclasses import replace
from typing import Any

import pytest

from glue.core.verdict import Verdict
from learning.evaluation import figures, gate, measurements
from learning.evaluation.gate import Limits
from learning.evaluation.measurements import Evidence, GoldenAnswer, Reply, Sample, Scored
from learning.examples import Example, Message

LIMITS = Limits(
    least_gain=0.05,
    most_forgetting=0.1,
    most_own_loss=0.4,
    most_lost_answers=0.2,
    fewest_units=5,
    fewest_facts=5,
    general_rows=8,
    most_golden_lost=0,
    most_new_faults=0,
    keeps_form=True,
    most_slowdown=2.0,
)
GOOD = (0.5, 0.6, 0.4, 0.5, 0.7, 0.5)
STILL = (0.0, -0.02, 0.01, 0.0, 0.01)


def scored(
    gains: tuple[float, ...], before: float = -1.0, units: tuple[int, ...] | None = None
) -> Scored:
    sides = tuple(before + gain for gain in gains), (before,) * len(gains)
    return Scored(
        *sides,
        base=(before,) * len(gains),
        units=units or tuple(range(len(gains))),
        decoy=(-9.0,) * len(gains),
    )


def ask(
    gains: tuple[float, ...] = GOOD, changes: tuple[float, ...] = STILL, **more: Any
) -> Verdict:
    return gate.verdict(Evidence(scored(gains), replace(scored(changes), decoy=()), **more), LIMITS)


def test_a_clear_gain_without_forgetting_is_promoted() -> None:
    found = ask()
    assert found.promote and not found.faults
    assert found.figures["likelihood_ratio"] == pytest.approx(math.exp(0.5333), rel=1e-3)


def test_a_small_change_is_not_a_gain() -> None:
    assert ask((0.01,) * 8).faults == ("no gain",)


def test_an_adapter_that_changes_nothing_is_refused_as_such() -> None:
    assert ask((0.0,) * 8, (0.0,) * 5).faults == ("changes nothing",)


def test_worse_on_the_taught_facts_is_refused_as_such() -> None:
    assert ask((-0.5, -0.6, -0.4, -0.5, -0.7)).faults == ("worse",)


def test_a_gain_that_may_be_luck_is_refused() -> None:
    assert ask((2.0, -1.5, 1.0, -1.0, 0.5, 0.1)).faults == ("no gain",)


def test_earlier_facts_may_be_corrected_but_not_lost() -> None:
    assert ask(earlier=replace(scored((-3.0, *[0.0] * 9)), decoy=())).promote
    assert ask(earlier=replace(scored((-0.5,)), decoy=())).promote, "one fact says nothing"
    assert ask(earlier=replace(scored((-0.5, -0.4, -0.6, -0.7, -0.5)), decoy=())).faults == (
        "forgets",
    )


def test_worse_than_the_base_model_is_refused() -> None:
    held_out = replace(scored(GOOD, before=-2.0), base=(-0.5,) * len(GOOD))
    assert gate.verdict(Evidence(held_out, replace(scored(STILL), decoy=())), LIMITS).faults == (
        "worse",
    )


@pytest.mark.parametrize("gains", [(), (5.0,), (5.0, 5.0), (3.0, 3.0, 3.0, 3.0)])
def test_too_few_facts_prove_nothing(gains: tuple[float, ...]) -> None:
    assert "too few" in ask(gains).faults


def test_phrasings_of_one_fact_are_one_unit() -> None:
    one_fact = replace(
        Evidence(scored(GOOD), scored(STILL)), held_out=scored((3.0,) * 12, units=(0,) * 12)
    )
    assert "too few" in gate.verdict(one_fact, LIMITS).faults
    lucky = scored((4.0, *[-0.1] * 4, *[4.0] * 7), units=(0, 1, 2, 3, 4, *[0] * 7))
    assert "no gain" in gate.verdict(Evidence(lucky, scored(STILL)), LIMITS).faults


@pytest.mark.parametrize("units", range(5, 12))
def test_noise_alone_rarely_passes(units: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four hundred nights that taught nothing: noise around zero, as large as real gains."""
    monkeypatch.setattr(figures, "RESAMPLES", 500)  # an eighth of a night's
    import random

    choose = random.Random(units)
    nights = [tuple(choose.gauss(0, 1) for _ in range(units)) for _ in range(400)]
    passed = sum(
        figures.interval(night, (0.0,) * units, tuple(range(units))).low > LIMITS.least_gain
        for night in nights
    )
    assert passed <= 0.035 * len(nights), passed


def test_forgetting_is_refused_however_large_the_gain() -> None:
    assert ask((3.0,) * 6, (-1.0,) * 5).faults == ("forgets",)


def test_small_losses_over_many_nights_are_refused() -> None:
    """A little each night compared with the one before, but a lot compared with the base model."""
    general = Scored((-0.9,) * 6, (-0.88,) * 6, (-0.5,) * 6, tuple(range(6)))
    found = gate.verdict(Evidence(scored(GOOD), general), LIMITS)
    assert found.faults == ("forgets",) and "base model" in found.reasons[0]


def own(changes: tuple[float, ...]) -> Scored:
    return Scored(tuple(change - 1 for change in changes), base=(-1.0,) * len(changes))


def test_the_base_model_s_own_answers_show_forgetting_where_there_are_enough() -> None:
    little, much = (-0.4, 0.2) * 40, (-0.9, -0.3) * 40
    found = ask(own=own(little))
    assert found.promote and not found.notes and found.figures["own_rows"] == 80
    assert ask(own=own(much)).faults == ("its own answers",)
    assert ask(changes=(-1.0,) * 5, own=own(little)).promote, "the replay's source says less"


def test_with_few_answers_of_its_own_general_rows_decide_and_the_verdict_says_so() -> None:
    for few in ((), (-0.4, 0.2, -3.0) * 2):
        found = ask(own=own(few))
        assert found.promote and f"{len(few)} answers of the base model" in found.notes[0]
        assert ask(changes=(-1.0,) * 5, own=own(few)).faults == ("forgets",)


def test_an_answer_of_its_own_without_a_finite_likelihood_is_refused() -> None:
    assert ask(own=own((math.nan,) * 20)).faults == ("not finite",)


def test_missing_general_examples_are_refused_unless_the_recipe_allows_it() -> None:
    nothing = Evidence(scored(GOOD), Scored())
    assert gate.verdict(nothing, LIMITS).faults == ("nothing general",)
    assert gate.verdict(nothing, replace(LIMITS, general_rows=0)).promote


def test_an_adapter_that_is_only_less_certain_is_refused() -> None:
    """Shuffled answers: all right answers became likelier, and so did all wrong ones."""
    unsure = replace(scored((2.0, 2.5, 1.9, 2.2, 2.1, 2.4)), decoy=(1.2, 1.4, 0.8, 1.3, 1.0, 1.5))
    assert gate.verdict(Evidence(unsure, scored(STILL)), LIMITS).faults == ("does not fit",)


@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
def test_an_adapter_that_gives_no_finite_likelihood_is_refused_and_the_figures_are_json(
    broken: float,
) -> None:
    found = ask((*GOOD, broken))
    assert found.faults == ("not finite",) and all(map(math.isfinite, found.figures.values()))


# ---------------------------------------------------------------------- what is answered


def golden(candidate: tuple[str, ...], current: tuple[str, ...]) -> GoldenAnswer:
    return GoldenAnswer("Which?", {}, {"candidate": candidate, "current": current, "base": ()})


def test_a_golden_question_that_was_right_may_not_become_wrong() -> None:
    lost = ask(golden=(golden(("it does not say 'B23'",), ()),))
    assert lost.faults == ("golden",) and "number 1" in lost.reasons[0]
    assert "B23" not in lost.reasons[0], (
        "reasons are read by helpers from outside, from a support bundle"
    )
    assert ask(golden=(golden(("wrong",), ("wrong too",)),)).promote, "it was wrong before"


def sample(
    candidate: str, current: str = "The code is B23.", seconds: tuple[float, float] = (0.2, 0.2)
) -> Sample:
    return Sample(
        "Which code?",
        "The code is B23.",
        Reply(candidate, 10, seconds[0]),
        Reply(current, 10, seconds[1]),
    )


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "empty"),
        ("B23 and then " * 9, "loops"),
        ("I'm sorry, I can't help with that.", "refuses"),
        ("Код двигателя: Б23.", "x"),
    ],
)
def test_only_new_faults_count(text: str, fault: str) -> None:
    expected = "wrong language" if fault == "x" else fault
    question = "What is the code of the engine, and who is it that checks it?"
    seen = replace(
        sample(text),
        question=question,
        wanted="It is B23, and the man who checks it is in the hall.",
    )
    assert ask(samples=(seen,)).faults == (expected,)
    assert ask(samples=(replace(seen, current=seen.candidate),)).promote


def test_a_lost_output_form_is_refused_but_a_never_known_one_is_not() -> None:
    assert ask(forms={"JSON": (False, True)}).faults == ("form",)
    assert ask(forms={"JSON": (False, False), "a tool call": (True, False)}).promote


def test_a_recipe_may_accept_a_lost_form_which_the_verdict_then_notes() -> None:
    general = replace(scored(STILL), decoy=())
    lost = Evidence(scored(GOOD), general, forms={"JSON": (False, True)})
    found = gate.verdict(lost, replace(LIMITS, keeps_form=False))
    assert found.promote
    assert "asked for JSON, it does not give it any more" in found.notes


def test_a_much_slower_adapter_is_refused() -> None:
    assert ask(samples=(sample("The code is B23.", seconds=(0.9, 0.2)),) * 5).faults == ("slow",)
    assert ask(samples=(sample("The code is B23.", seconds=(0.3, 0.2)),) * 5).promote


def test_all_reasons_are_given() -> None:
    assert set(ask((-0.1,) * 6, (-1.0,) * 6, samples=(sample(""),)).faults) == {
        "worse",
        "forgets",
        "empty",
    }


# ---------------------------------------------------------------------- units


def row(answer: str, conversation: str) -> Example:
    return Example((Message("user", "?"),), answer, "", conversation)


def test_units_join_the_same_answer_and_the_same_conversation() -> None:
    rows = [row("A", "1"), row("B", "2"), row("a ", "3"), row("C", "2"), row("D", ""), row("E", "")]
    assert measurements.units(rows) == (0, 1, 0, 1, 4, 5)
    assert measurements.units([row("A", "1"), row("B", "2"), row("A", "2")]) == (0, 0, 0), (
        "joined by a third"
    )


def test_a_decoy_is_the_answer_to_another_fact() -> None:
    rows = [row("A", "1"), row("A", "2"), row("B", "3")]
    assert [decoy.answer for decoy in measurements.decoys(rows)] == ["B", "B", "A"]
    assert measurements.decoys(rows[:2]) == ()
