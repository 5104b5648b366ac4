"""The plan of `python -m bench training`, as the trainer's container reads it. Pure."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from glue.core.errors import Misconfigured
from glue.core.recipes import Recipe
from glue.core.settings import Settings

ENGINES = ("published", "grouped", "grouped-triton", "unsloth")
CHECKPOINTING = ("off", "on", "selective")
LAYERS = 52
WARM_UP = 3
TARGETS = ("rank", "alpha", "target_modules", "target_parameters", "layers")
TOKENS_A_ROW = (
    200  # of alpaca-cleaned with a chat template, as the case study's 1,600 a step of 8 rows says
)

Plan = dict[str, Any]
FORM: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "engine": (" or ".join(ENGINES), lambda v: v in ENGINES),
    "checkpointing": (" or ".join(CHECKPOINTING), lambda v: v in CHECKPOINTING),
    "packing": ("true or false", lambda v: isinstance(v, bool)),
    "tokens_per_step": ("a whole number from 16", lambda v: type(v) is int and v >= 16),
    "rows": ("a whole number from 1", lambda v: type(v) is int and v >= 1),
    "recipe": ("the name of a recipe of the plan", lambda v: isinstance(v, str)),
    "steps": ("a whole number from 1", lambda v: type(v) is int and v >= 1),
}


def of_options(
    recipe: Recipe,
    engines: tuple[str, ...],
    checkpointing: tuple[str, ...],
    tokens: tuple[int, ...],
    packing: bool,
    steps: int,
    layers: int,
    budget_bytes: int,
) -> Plan:
    """Every combination of the options. The published loop comes first, because the others are
    compared with it."""
    settings = [
        {
            "recipe": recipe.name,
            "engine": engine,
            "checkpointing": how,
            "packing": packing and engine != "unsloth",
            "tokens_per_step": count,
            "rows": max(1, count // TOKENS_A_ROW),
        }
        for engine in sorted(engines, key=ENGINES.index)
        for how in checkpointing
        for count in tokens
    ]
    return {
        "layers": layers,
        "steps": steps,
        "warm_up": WARM_UP,
        "budget_bytes": budget_bytes,
        "base_model": "",
        "train_file": "",
        "recipes": {recipe.name: {key: asdict(recipe)[key] for key in TARGETS}},
        "settings": settings,
    }


def few(recipe: Recipe, settings: Settings) -> Plan:
    """The settings of `make bench`: the published engine, and ours on the same tokens, with and
    without checkpointing.

    A rehearsal trains its practice model without packing, which needs a GPU. A Spark trains the
    real architecture.
    """
    rehearsal = settings.rehearsal
    plan = of_options(
        recipe,
        ("published", "grouped"),
        ("on",),
        (400 if rehearsal else 1600,),
        packing=not rehearsal,
        steps=3 if rehearsal else 20,
        layers=LAYERS,
        budget_bytes=settings.night_bytes("TRAINING_MEMORY_BYTES", "bf16"),
    )
    plan["settings"].append(plan["settings"][-1] | {"checkpointing": "selective"})
    return plan | {"base_model": settings["TRAINED_MODEL"] if rehearsal else ""}


def read(path: Path) -> Plan:
    """Raises Misconfigured with the setting and the key."""
    try:
        plan: Plan = json.loads(path.read_text(encoding="utf-8"))
        settings, recipes = plan["settings"], plan["recipes"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Misconfigured(
            "the plan cannot be read",
            f"{path}: {type(error).__name__}: {error}",
            "docs/measurements/training-h200.plan.json is an example",
        ) from error
    for number, setting in enumerate(settings, 1):
        for key, value in setting.items():
            if key not in FORM or not FORM[key][1](value):
                allowed = FORM[key][0] if key in FORM else ", ".join(FORM)
                raise Misconfigured(
                    "a setting of the plan is wrong",
                    f"setting {number}: {key} = {value!r}",
                    f"allowed: {allowed}",
                )
        if setting.get("recipe") not in recipes:
            there = ", ".join(recipes)
            raise Misconfigured(
                "a setting's recipe is not in the plan", f"setting {number}", f"recipes: {there}"
            )
    return plan
