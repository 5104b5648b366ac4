"""A recipe: how a night trains and when its adapter is good enough. One TOML file in
env/recipes/."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from glue.core.errors import Misconfigured


@dataclass(frozen=True)
class Recipe:
    """Gains and losses are in nats a token of the reference answer: 0.1 makes it about 10 % more
    likely, token by token.

    begin_from: "base" trains a new adapter on all that the team said; "current" goes on with the
    one that serves.
    engine: "grouped" (ours) or "unsloth". layers: the model's layers that are trained, by number;
    empty is all of them.
    steps: at the most; fewer where the rows would be seen more than most_passes times.
    longest_tokens: a longer example is left out; none is cut short.
    serve: "adapter" loads it beside the base model at run time; "merged" serves a checkpoint with
    the adapter in it.
    document_questions: how many questions the day model writes about each document, at most; 0 is
    none.
    The gate's limits are at the end; env/recipes/team.toml says what each is for.
    """

    name: str
    begin_from: str
    engine: str
    serve: str
    rank: int
    alpha: int
    learning_rate: float
    steps: int
    most_passes: int
    rows_per_step: int
    tokens_per_step: int
    longest_tokens: int
    target_modules: list[str]
    target_parameters: list[str]
    layers: list[int]
    longest_minutes: int
    replay_file: str
    replay_rows: int
    general_rows: int
    document_questions: int
    fewest_new_examples: int
    held_out_share: float
    sampled_answers: int
    least_gain: float
    most_forgetting: float
    fewest_units: int
    most_golden_lost: int
    most_new_faults: int
    most_slowdown: float


Rule = tuple[str, Callable[[Any], bool]]


def _whole(low: int, high: int) -> Rule:
    return f"a whole number from {low} to {high}", lambda v: type(v) is int and low <= v <= high


def _number(low: float, high: float) -> Rule:
    return f"a number from {low} to {high}", lambda v: type(v) in (int, float) and low <= v <= high


def _names(v: Any) -> bool:
    return isinstance(v, list) and bool(v) and all(isinstance(name, str) and name for name in v)


def _one_of(*choices: str) -> Rule:
    return " or ".join(choices), lambda v: v in choices


NAMES: Rule = ("a list of names, not empty", _names)
RULES: dict[str, Rule] = {
    "begin_from": _one_of("base", "current"),
    "engine": _one_of("grouped", "unsloth"),
    "serve": _one_of("adapter", "merged"),
    "rank": _whole(1, 512),
    "alpha": _whole(1, 1024),
    "learning_rate": _number(1e-7, 0.1),
    "steps": _whole(1, 1_000_000),
    "most_passes": _whole(1, 10_000),
    "rows_per_step": _whole(1, 1024),
    "tokens_per_step": _whole(16, 1_000_000),
    "longest_tokens": _whole(16, 131_072),
    "target_modules": NAMES,
    "target_parameters": ("a list of names, may be empty", lambda v: v == [] or _names(v)),
    "layers": (
        "a list of layer numbers, may be empty",
        lambda v: isinstance(v, list) and all(type(n) is int and n >= 0 for n in v),
    ),
    "longest_minutes": _whole(1, 24 * 60),
    "replay_file": ("a path below the state folder, or empty", lambda v: isinstance(v, str)),
    "replay_rows": _whole(0, 10_000_000),
    "general_rows": _whole(0, 1000),
    "document_questions": _whole(0, 1000),
    "fewest_new_examples": _whole(1, 1_000_000),
    "held_out_share": _number(0.0, 0.5),
    "sampled_answers": _whole(0, 1000),
    "least_gain": _number(0.0, 10.0),
    "most_forgetting": _number(0.0, 10.0),
    "fewest_units": _whole(2, 1000),
    "most_golden_lost": _whole(0, 1000),
    "most_new_faults": _whole(0, 1000),
    "most_slowdown": _number(1.0, 100.0),
}


# Keys that must fit each other, what is right, and what to do otherwise.
RULES_OF_TWO: tuple[tuple[tuple[str, str], Callable[[Any, Any], bool], str], ...] = (
    (
        ("tokens_per_step", "longest_tokens"),
        lambda most, longest: most >= longest,
        (
            "raise tokens_per_step or lower longest_tokens: a pack of tokens_per_step must hold the"
            " longest example"
        ),
    ),
    (
        ("begin_from", "engine"),
        lambda begin, engine: not (begin == "current" and engine == "unsloth"),
        (
            'set engine = "grouped", or begin_from = "base": the Unsloth engine always begins a new'
            " adapter"
        ),
    ),
)


def load(folder: Path, name: str) -> Recipe:
    """Raises Misconfigured, naming the file, the key, the value and what is allowed."""
    path = folder / f"{name}.toml"
    if not path.exists():
        there = ", ".join(sorted(p.stem for p in folder.glob("*.toml")))
        raise Misconfigured("there is no such recipe", str(path), f"set RECIPE to one of: {there}")
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Misconfigured(
            "a recipe is not TOML", f"{path}: {error}", "correct that line"
        ) from error
    for key in table.keys() - RULES.keys():
        raise Misconfigured(
            "a recipe has a key that is not known",
            f"{path}: {key} = {table[key]!r}",
            "allowed: " + ", ".join(RULES),
        )
    for key, (allowed, accepts) in RULES.items():
        if key not in table or not accepts(table[key]):
            saw = f"{key} = {table[key]!r}" if key in table else f"no {key}"
            raise Misconfigured(
                "a recipe has a value it may not have", f"{path}: {saw}", f"{key}: {allowed}"
            )
    for keys, fits, do in RULES_OF_TWO:
        if not fits(*(table[key] for key in keys)):
            saw = " and ".join(f"{key} = {table[key]!r}" for key in keys)
            raise Misconfigured(
                "a recipe has values that do not fit each other", f"{path}: {saw}", do
            )
    return Recipe(
        name=name,
        **{field.name: table[field.name] for field in fields(Recipe) if field.name != "name"},
    )
