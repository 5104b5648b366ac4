"""The night's job, as glue/night/train.py writes it."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Search:
    """What a night tries beside the recipe's own setting: every combination, the recipe's value
    where a list is empty, most_candidates in all. share_of_minutes: of the time until the
    deadline."""

    learning_rate: list[float] = field(default_factory=list)
    passes: list[int] = field(default_factory=list)
    rank: list[int] = field(default_factory=list)
    most_candidates: int = 6
    share_of_minutes: float = 0.5


@dataclass(frozen=True)
class Job:
    """job.json. Paths are as this container sees them; deadline_time is a Unix time in seconds.

    begin_from: a release's folder, whose adapter is trained on; empty begins a new one.
    tokens_per_step holds where samples can be packed, rows_per_step where they cannot; both are
    ceilings, since a small night has smaller steps. A row of more than longest_tokens is left out;
    none is cut short. preferences: "none", or "dpo" for a second stage on preference_file. merged:
    packed weights are trained through the quantiser (packed_merge), for a checkpoint that contains
    the adapter.
    """

    base_model: str
    served_model: str
    train_file: str
    output_folder: str
    deadline_time: float
    steps: int
    rows_per_step: int
    tokens_per_step: int
    memory_bytes: int
    learning_rate: float
    rank: int
    alpha: int
    longest_tokens: int
    target_modules: list[str]
    target_parameters: list[str]
    layers: list[int]
    begin_from: str = ""
    seed: int = 3407
    most_passes: int = 10_000
    search: dict[str, object] | None = None
    preferences: str = "none"
    preference_file: str = ""
    merged: bool = False


class Refused(Exception):
    """The run must stop, or its result must not be used. The message says why."""
