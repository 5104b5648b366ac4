"""What learning-answers.md says of the studies in docs/measurements."""

import json
from dataclasses import asdict
from typing import Any

import pytest

from glue.core import recipes
from tests.house import ROOT


def read(name: str) -> Any:
    return json.loads((ROOT / "docs" / "measurements" / name).read_text(encoding="utf-8"))


STUDY = read("learning-study.json")
KINDS = {row["kind"]: row for row in STUDY["kinds"]}
GOOD = (
    "supported corrections",
    "each fact once",
    "five corrections",
    "notes against documents",
    "changed documents",
    "absent",
    "style",
    "jargon",
    "one person against the rest",
    "a document that changed afterwards",
)
BAD = ("poisoned, past the sorting", "nothing taught", "closed book")
UNTRAINED = ("contradicting each other", "poisoned", "one person's spam")


@pytest.mark.parametrize("kind", GOOD)
def test_good_nights_are_promoted_read_better_and_recite_nothing(kind: str) -> None:
    row = KINDS[kind]
    assert row["promoted"] == row["nights"] and not row["wrong_verdicts"]
    assert row["right_after"] > row["right_before"] + 0.2 and not row["memorised"]
    assert row["reading"] >= row["reading_before"] - 0.02


def test_bad_nights_are_refused_or_never_begin() -> None:
    assert not any(KINDS[kind]["promoted"] for kind in (*BAD, *UNTRAINED))
    for kind in UNTRAINED:
        assert KINDS[kind]["without_a_night"] == KINDS[kind]["nights"]


def test_corrections_of_two_people_reach_the_targets_on_a_company_nothing_was_chosen_on() -> None:
    row = KINDS["supported corrections"]
    assert STUDY["company"] == ["company2"] and row["nights"] == 5
    assert row["right_after"] >= 0.9 and row["changed_follows"] >= 0.8 and not row["memorised"]
    assert row["absent"] >= 0.8 and row["wrongly_absent"] <= 0.1 and row["notes"] >= 0.95
    assert row["reading"] >= row["reading_before"]


def test_recipe_team_makes_the_rows_and_passes_that_reached_them() -> None:
    row, recipe = KINDS["supported corrections"], recipes.load(ROOT / "env" / "recipes", "team")
    assert row["recipe"].items() <= asdict(recipe).items()
    assert recipe.most_passes == row["setting"]["passes"]


def test_what_the_first_night_taught_is_right_after_the_third_and_the_seventh() -> None:
    for kind in ("three nights in a row", "seven nights in a row"):
        assert KINDS[kind]["first_night_right"] >= 0.9


def test_style_is_learned_and_promoted_and_reads_no_worse() -> None:
    row = KINDS["style"]
    assert row["right_after"] == 1 and row["promoted"] == row["nights"] == 5
    assert row["reading"] >= row["reading_before"]


def test_right_answers_tell_forgetting_with_power() -> None:
    found = STUDY["forgetting"]
    for kind in (*GOOD, "nothing taught"):
        assert found[kind]["passed"] == found[kind]["nights"], kind
        assert min(found[kind]["unchanged_passes"], found[kind]["loss_refused"]) >= 0.95
    assert found["closed book"]["passed"] == 0


def test_the_first_study_s_closed_book_nights_recite_and_read_worse() -> None:
    kinds = {row["kind"]: row for row in read("learning-answers-h200.json")["kinds"]}
    assert min(kinds["closed book, learned"]["memorised"]) > 15
    assert max(kinds["closed book"]["reading"]) < 50


def test_the_sweep_is_of_another_company() -> None:
    sweep = read("learning-sweep.json")
    assert sweep["company"] == ["company"] and len({row["try"] for row in sweep["tries"]}) == 23
