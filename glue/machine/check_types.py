"""Input and result of doctor's checks: pure functions from Host to View in *_checks.py."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from glue.clients.docker import Engine
from glue.clients.host import Machine
from glue.core.recipes import Recipe
from glue.core.settings import Settings


class Grade(StrEnum):
    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True)
class Host:
    """Everything that the checks look at.

    recipe: None unless a night is checked. wrong_files: by model of the hub; one line for a model
    that was never fetched, or that is in unseen because it could not be checked. model_bytes: on
    disk, by model. answer_fault: why vLLM writes no token; empty if it does, None if it does not
    run. chat_lost: what became of a chat that was served here; chat_way_back: what to do.
    adapter_fault: for which other model the current adapter was made; empty if it fits.
    serves_merged: the current adapter serves as a merged checkpoint.
    """

    settings: Settings
    recipe: Recipe | None
    machine: Machine
    engine: Engine
    engine_free_bytes: int
    state_free_bytes: int
    one_disk: bool
    port_free: bool
    secrets_mode: int | None
    replay_there: bool
    adapters: int
    wrong_files: Mapping[str, tuple[str, ...]]
    model_bytes: Mapping[str, int]
    certificate_fault: str = ""
    unseen: frozenset[str] = frozenset()
    answer_fault: str | None = None
    closed_files: tuple[Path, ...] = ()
    foreign_files: tuple[Path, ...] = ()
    disk_fault: str = ""
    damaged_files: tuple[Path, ...] = ()
    foreign_remedy: str = ""
    chat_lost: str = ""
    chat_way_back: str = ""
    backup_fault: str = ""
    documents_fault: str = ""
    account_fault: tuple[str, str] = ("", "")
    backups_on_own_disk: bool = False
    adapter_fault: str = ""
    serves_merged: bool = False

    @property
    def base(self) -> str:
        """The weights that nights train; a day needs no others than the served."""
        return self.recipe.base if self.recipe else "served"


View = tuple[Grade, str, str]  # what was seen, and what to do


def ok(saw: str) -> View:
    return Grade.OK, saw, ""


def warn(saw: str, do: str) -> View:
    return Grade.WARN, saw, do


def fail(saw: str, do: str) -> View:
    return Grade.FAIL, saw, do
