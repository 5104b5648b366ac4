"""Which adapter a night goes on with."""

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from glue import recipes
from glue.nights import training
from glue.nights.tonight import Night
from glue.settings import HOME
from glue.site import Site

TARGETS = ("rank", "target_modules", "target_parameters", "layers")
TEAM = recipes.load(HOME / "env" / "recipes", "team")


def begun_from(recipe: recipes.Recipe, current: str | None, trained_by: dict[str, object]) -> str:
    releases = SimpleNamespace(current=lambda: current, manifest=lambda name: {"recipe": trained_by})
    site = cast(Site, SimpleNamespace(releases=releases, tell=lambda line: None, state=Path("state")))
    return training.begin_from(Night(site, "tonight", recipe, 0.0))


@pytest.mark.parametrize(
    ("begin_from", "current", "changed", "expected"),
    [
        ("base", "last", {}, ""),
        ("current", None, {}, ""),
        ("current", "last", {}, "/adapters/last"),
        ("current", "last", {"rank": 8}, ""),
        ("current", "last", {"layers": [4]}, ""),
    ],
)
def test_a_night_goes_on_only_with_an_adapter_of_the_same_shape(
    begin_from: str, current: str | None, changed: dict[str, object], expected: str
) -> None:
    trained_by = {key: getattr(TEAM, key) for key in TARGETS} | changed
    recipe = recipes.Recipe(**{**vars(TEAM), "begin_from": begin_from})
    assert begun_from(recipe, current, trained_by) == expected


def test_an_adapter_that_was_taken_in_from_elsewhere_is_not_gone_on_with() -> None:
    recipe = recipes.Recipe(**{**vars(TEAM), "begin_from": "current"})
    assert begun_from(recipe, "added", {}) == ""
