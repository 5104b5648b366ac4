"""What a recipe trains, counted in the trainer image on the real architecture."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from glue import recipes
from glue.settings import HOME
from glue.site import Site
from glue.types import GlueError, Misconfigured

COUNT_SECONDS = 300
TARGETS = ("rank", "target_modules", "target_parameters", "layers")


def show(site: Site, name: str) -> dict[str, Any]:
    """Raises Misconfigured for a recipe of which a target or a layer names nothing in the model."""
    recipe = asdict(recipes.load(HOME / "env" / "recipes", name))
    lines: list[str] = []
    targets = json.dumps({key: recipe[key] for key in TARGETS})
    site.stacks.run_trainer("training.recipe", targets, tell=lines.append, timeout_seconds=COUNT_SECONDS)
    try:
        facts: dict[str, Any] = json.loads(lines[-1])
    except (IndexError, ValueError) as error:
        raise GlueError("the recipe could not be counted", "\n".join(lines[-10:]), "make setup") from error
    if facts["unmatched"]:
        raise Misconfigured("a recipe has targets that the model has not", f"{name}: {facts['unmatched']}", "correct the recipe")
    kept = {key: recipe[key] for key in ("name", "engine", "serve", "rank")}
    return kept | {key: facts[key] for key in ("total_parameters", "trainable_parameters")}
