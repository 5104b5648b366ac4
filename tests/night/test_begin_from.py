"""Which adapter a night continues."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from glue.clients.site import Site
from glue.core import recipes
from glue.core.settings import REPOSITORY, Settings
from glue.night import train
from glue.night.tonight import Night

TEAM = recipes.load(REPOSITORY / "env" / "recipes", "team")
BASE = {"base_model": "nvidia/nano", "base_revision": "abc"}


def tonight(
    folder: Path, recipe: recipes.Recipe, current: str | None, manifest: dict[str, Any]
) -> Night:
    (folder / "models.json").write_text('{"nvidia/nano": {"commit": "abc"}}')
    store = SimpleNamespace(current=lambda: current, manifest=lambda name: manifest)
    values = {"SERVED_MODEL": "nvidia/nano", "TRAINED_MODEL": "nvidia/nano-bf16"}
    settings = Settings("spark", values, {})
    site = SimpleNamespace(store=store, tell=lambda line: None, state=folder, settings=settings)
    return Night(cast(Site, site), "tonight", recipe, 0.0)


@pytest.mark.parametrize(
    ("begin_from", "current", "changed", "expected"),
    [
        ("base", "last", {}, ""),
        ("current", "last", {"base_model": "nvidia/nano-bf16"}, ""),
        ("current", None, {}, ""),
        ("current", "last", {}, "/adapters/last"),
        ("current", "last", {"rank": 8}, ""),
        ("current", "last", {"alpha": 16}, ""),
        ("current", "last", {"layers": [4]}, ""),
        ("current", "last", {"base_model": "nvidia/nano-2"}, ""),
        ("current", "last", {"base_revision": "abd"}, ""),
        ("current", "last", {"learning_rate": 1.0, "steps": 1}, "/adapters/last"),
    ],
)
def test_a_night_continues_only_an_adapter_of_the_same_shape_and_base(
    begin_from: str, current: str | None, changed: dict[str, object], expected: str, tmp_path: Path
) -> None:
    recipe = replace(TEAM, begin_from=begin_from)
    before = (
        BASE
        | {"recipe": asdict(TEAM) | changed}
        | {key: value for key, value in changed.items() if key in BASE}
    )
    assert train.begin_from(tonight(tmp_path, recipe, current, before)) == expected


@pytest.mark.parametrize(
    ("base", "model", "revision"),
    [("served", "nvidia/nano", "abc"), ("bf16", "nvidia/nano-bf16", "made on this machine")],
)
def test_the_recipe_chooses_the_weights_that_are_trained_on(
    base: str, model: str, revision: str, tmp_path: Path
) -> None:
    night = tonight(tmp_path, replace(TEAM, base=base), None, {})
    assert train.base(night) == {"base_model": model, "base_revision": revision}


def test_an_added_adapter_is_not_continued(tmp_path: Path) -> None:
    assert (
        train.begin_from(tonight(tmp_path, replace(TEAM, begin_from="current"), "added", {})) == ""
    )


@pytest.mark.parametrize(("begin_from", "origins"), [("/adapters/last", ["chat 1"]), ("", [])])
def test_a_continued_adapter_passes_on_its_origins(
    begin_from: str, origins: list[str], tmp_path: Path
) -> None:
    """Not by what the recipe requested or what serves at the time of writing."""
    night = tonight(
        tmp_path, replace(TEAM, begin_from="current"), "another", {"origins": ["chat 1"]}
    )
    night.folder.mkdir(parents=True)
    night.dataset["origins"] = []
    (night.folder / "job.json").write_text(json.dumps({"begin_from": begin_from}))
    assert train.origins(night) == origins


def test_a_release_states_the_setting_that_the_search_chose() -> None:
    setting = {"learning_rate": 5e-4, "most_passes": 4, "rank": 8, "alpha": 16}
    assert train.chosen({"search": {"setting": setting}}) == setting
    assert train.chosen({}) == {}
