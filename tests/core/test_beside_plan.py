"""Whether a night fits beside the day, by its numbers."""

from dataclasses import replace

import pytest

from glue.core import beside_plan, recipes, settings
from glue.core.recipes import Recipe
from glue.core.services import Service
from glue.core.settings import REPOSITORY

SPARK = settings.load("spark")
TEAM, FREE = (recipes.load(REPOSITORY / "env" / "recipes", name) for name in ("team", "free"))
VLLM, TRAINER = Service("vllm", "running", "healthy"), Service("trainer", "running")
GB = 10**9


def plan(available: int, recipe: Recipe = TEAM, merged: bool = False) -> beside_plan.Plan:
    return beside_plan.plan(SPARK, recipe, available * GB, {"vllm": VLLM}, None, merged)


def test_the_day_the_night_and_the_reserve_must_have_room_together() -> None:
    """38 GB of the day are taken; 58 GB of training and a reserve of 12 GB must be free."""
    assert plan(70).fits and not plan(69).fits
    assert plan(69).words == (
        "the day takes 38.0 GB and a night 70.0 GB, with a reserve of 12.0 GB:"
        " 108.0 GB together, and there are 107.0 GB for them"
    )


def test_what_runs_already_counts_as_room() -> None:
    """So that the verdict is the same before the day, by day and in the night."""
    rooms = [
        beside_plan.plan(SPARK, TEAM, available * GB, services, trainer, False).room
        for available, services, trainer in (
            (110, {}, None),
            (72, {"vllm": VLLM}, None),
            (14, {"vllm": VLLM}, TRAINER),
        )
    ]
    assert rooms == pytest.approx([110 * GB] * 3, abs=GB / 10)


def test_a_recipe_on_bf16_weights_needs_35_gb_more() -> None:
    beside = replace(TEAM, base="bf16")
    assert not plan(104, beside).fits and plan(105, beside).fits


@pytest.mark.parametrize(
    ("recipe", "merged", "words"),
    [
        (FREE, False, "recipe free serves a merged checkpoint"),
        (TEAM, True, "a merged checkpoint serves"),
    ],
)
def test_a_night_that_restarts_vllm_is_none_beside_the_day(
    recipe: Recipe, merged: bool, words: str
) -> None:
    found = plan(1000, recipe, merged)
    assert not found.fits and words in found.words


@pytest.mark.parametrize(("role", "beside"), [("both", True), ("serve", False), ("train", False)])
def test_with_a_peer_no_night_is_beside_the_day(role: str, beside: bool) -> None:
    """On the peer no day serves, which would stop its trainer at once."""
    chosen = replace(SPARK, values=SPARK.values | {"NIGHT": "beside", "ROLE": role})
    assert beside_plan.chosen(chosen) is beside
