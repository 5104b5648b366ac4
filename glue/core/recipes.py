"""A recipe: how a night trains, and when its adapter is good enough. TOML in env/recipes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import ConfigDict, Field

from glue.core import schema
from glue.core.errors import Invalid
from glue.core.schema import number, one_of, whole

Text = Annotated[str, Field(min_length=1)]
LAYERS = Field(description="a list of layer numbers; empty for all")
SEARCH = Field(
    description="a table with lists learning_rate, passes and rank, most_candidates (2 to 64) and"
    " share_of_minutes (0.05 to 0.8)"
)


@dataclass(frozen=True)
class Search:
    """Settings that a night tries beside the recipe's own: every combination, the recipe's value
    where a list is empty. share_of_minutes: of the time until training must end."""

    __pydantic_config__: ClassVar = ConfigDict(extra="forbid")

    learning_rate: list[Annotated[float, number(1e-7, 0.1)]] = field(default_factory=list)
    passes: list[Annotated[int, whole(1, 10_000)]] = field(default_factory=list)
    rank: list[Annotated[int, whole(1, 512)]] = field(default_factory=list)
    most_candidates: Annotated[int, whole(2, 64)] = 6
    share_of_minutes: Annotated[float, number(0.05, 0.8)] = 0.5


@dataclass(frozen=True)
class Recipe:
    """env/recipes/team.toml says what each is for. Gains and losses: nats a token of the reference
    answer; 0.1 makes it about 10 % more likely, token by token.

    begin_from: "base" trains a new adapter on everything, "current" continues the one that serves.
    steps: at most; fewer where rows would be used more than most_passes times. longest_tokens: a
    longer example is left out, none is cut. serve: "adapter" loads it beside the base model,
    "merged" serves a checkpoint that contains it, for which packed weights are trained through the
    quantiser. document_questions: per document, at most.
    base: the weights that are trained on: "served" is the checkpoint that serves (SERVED_MODEL),
    whose packed weights stay packed; "bf16" is TRAINED_MODEL, and the default of unsloth, which
    trains on no other. sort_by_support: trains of what people taught only what its passages
    support, in variants_each rows of each example; those that no share names ask in other words.
    reading_questions: about other things, of evaluation/reading.toml, at most. keeps_form: refuses
    a night after which JSON or a tool call is not given any more when it is asked for. preferences:
    "dpo" trains the pairs of answers, one preferred, after the examples. paraphrases: other ways to
    ask a question that the day model writes, at most.
    """

    __pydantic_config__: ClassVar = ConfigDict(extra="forbid")

    name: Annotated[str, Field(description="the file's name")]
    begin_from: Annotated[str, one_of("base", "current")]
    engine: Annotated[str, one_of("grouped", "unsloth")]
    serve: Annotated[str, one_of("adapter", "merged")]
    rank: Annotated[int, whole(1, 512)]
    alpha: Annotated[int, whole(1, 1024)]
    learning_rate: Annotated[float, number(1e-7, 0.1)]
    steps: Annotated[int, whole(1, 1_000_000)]
    most_passes: Annotated[int, whole(1, 10_000)]
    rows_per_step: Annotated[int, whole(1, 1024)]
    tokens_per_step: Annotated[int, whole(16, 1_000_000)]
    longest_tokens: Annotated[int, whole(16, 131_072)]
    target_modules: Annotated[list[Text], Field(min_length=1, description="a list of names")]
    target_parameters: Annotated[list[Text], Field(description="a list of names; may be empty")]
    layers: Annotated[list[Annotated[int, whole(0)]], LAYERS]
    longest_minutes: Annotated[int, whole(1, 24 * 60)]
    replay_file: Annotated[str, Field(description="a path below the state folder, or empty")]
    replay_rows: Annotated[int, whole(0, 10_000_000)]
    general_rows: Annotated[int, whole(0, 1000)]
    document_questions: Annotated[int, whole(0, 1000)]
    fewest_new_examples: Annotated[int, whole(1, 1_000_000)]
    held_out_share: Annotated[float, number(0.0, 0.5)]
    sampled_answers: Annotated[int, whole(0, 1000)]
    least_gain: Annotated[float, number(0.0, 10.0)]
    most_forgetting: Annotated[float, number(0.0, 10.0)]
    most_own_loss: Annotated[float, number(0.01, 10.0)]
    fewest_units: Annotated[int, whole(2, 1000)]
    fewest_facts: Annotated[int, whole(2, 1000)]
    most_golden_lost: Annotated[int, whole(0, 1000)]
    most_new_faults: Annotated[int, whole(0, 1000)]
    most_slowdown: Annotated[float, number(1.0, 100.0)]
    sort_by_support: Annotated[bool, Field(strict=True, description="true or false")]
    base: Annotated[str, one_of("served", "bf16")] = "served"
    most_without_passage: Annotated[int, whole(0, 1_000_000)] = 50
    variants_each: Annotated[int, whole(1, 100)] = 14
    changed_share: Annotated[float, number(0.0, 1.0)] = 0.25
    absent_share: Annotated[float, number(0.0, 1.0)] = 0.07
    note_share: Annotated[float, number(0.0, 1.0)] = 0.25
    distracted_share: Annotated[float, number(0.0, 1.0)] = 0.5
    unrelated_rows: Annotated[int, whole(0, 10_000)] = 960
    most_lost_answers: Annotated[float, number(0.01, 1.0)] = 0.2
    reading_questions: Annotated[int, whole(0, 1000)] = 100
    keeps_form: Annotated[bool, Field(strict=True, description="true or false")] = True
    search: Annotated[Search | None, SEARCH] = None
    preferences: Annotated[str, one_of("none", "dpo")] = "none"
    paraphrases: Annotated[int, whole(0, 12)] = 0

    @property
    def trains_merged(self) -> bool:
        """Whether packed weights are trained as the merged checkpoint will hold them."""
        return self.serve == "merged" and self.base == "served"

    @property
    def largest_rank(self) -> int:
        return max([self.rank, *(self.search.rank if self.search else [])])


def load(folder: Path, name: str) -> Recipe:
    """Raises Misconfigured, naming the file, the key, the value and what is expected."""
    path = folder / f"{name}.toml"
    if not path.exists():
        there = ", ".join(sorted(p.stem for p in folder.glob("*.toml")))
        raise Invalid("Invalid value for RECIPE", repr(name), f"Expected one of: {there}.")
    table = {"name": name} | schema.read_toml(path)
    if table.get("engine") == "unsloth":
        table.setdefault("base", "bf16")
    schema.check(Recipe, table, str(path))
    if "search" in table:
        table["search"] = Search(**table["search"])
    recipe = Recipe(**table)
    require_fit(recipe, path)
    return recipe


def require_fit(recipe: Recipe, path: Path) -> None:
    """Raises Invalid for keys that contradict each other."""
    for key, saw, do in (*contradictions(recipe, path), *engine_contradictions(recipe)):
        raise Invalid(f"Invalid value for {key} in {path}", saw, do)


def contradictions(recipe: Recipe, path: Path) -> Iterator[tuple[str, str, str]]:
    """A key, what was seen and what to do, for each."""
    if recipe.name != path.stem:
        yield "name", repr(recipe.name), "Remove this key."
    if recipe.tokens_per_step < recipe.longest_tokens:
        saw = f"{recipe.tokens_per_step}, and longest_tokens is {recipe.longest_tokens}"
        do = "Raise it or lower longest_tokens: a step must hold the longest example."
        yield "tokens_per_step", saw, do
    shares = recipe.changed_share + recipe.absent_share + recipe.note_share
    if shares > 1:
        saw = f"{recipe.note_share}, with changed_share and absent_share {shares:g}"
        yield "note_share", saw, "Lower one of them: together they are at most 1."
    if recipe.search and recipe.search.rank and recipe.begin_from == "current":
        saw = f"rank = {recipe.search.rank}, and begin_from is 'current'"
        do = "Remove its list of ranks: an adapter that is continued keeps its own."
        yield "search", saw, do


def engine_contradictions(recipe: Recipe) -> Iterator[tuple[str, str, str]]:
    if recipe.engine != "unsloth":
        return
    engine = 'Set engine = "grouped"'
    if recipe.search:
        saw = "engine is 'unsloth', which loads the model once for each adapter"
        yield "search", saw, f"{engine} or remove the key."
    if recipe.begin_from == "current":
        saw = "'current', and engine is 'unsloth', which always begins a new adapter"
        yield "begin_from", saw, f'{engine} or begin_from = "base".'
    if recipe.base == "served":
        saw = "'served', and engine is 'unsloth', which cannot train on packed weights"
        yield "base", saw, f'{engine} or base = "bf16".'
