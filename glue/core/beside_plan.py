"""NIGHT=beside: whether a night fits beside the day that serves. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from glue.core.recipes import Recipe
from glue.core.services import ABSENT, Service, Services
from glue.core.settings import Settings

BESIDE = "beside"
REMEDY = "set NIGHT=swap in env/site.env"


@dataclass(frozen=True)
class Plan:
    """In bytes. night: with reserve, which stays free. room: what both can have together.
    restarts: why such a night would restart vLLM; empty if it would not."""

    day: int
    night: int
    reserve: int
    room: int
    restarts: str = ""

    @property
    def fits(self) -> bool:
        return not self.restarts and self.day + self.night <= self.room

    @property
    def words(self) -> str:
        if self.restarts:
            return self.restarts
        counts = (self.day, self.night, self.reserve, self.day + self.night, self.room)
        day, night, reserve, both, room = (f"{count / 1e9:.1f} GB" for count in counts)
        parts = f"the day takes {day} and a night {night}, with a reserve of {reserve}"
        return f"{parts}: {both} together, and there are {room} for them"


def chosen(settings: Settings) -> bool:
    """Not where a peer trains, or this machine for one: no night is beside a day there."""
    return settings["NIGHT"] == BESIDE and settings["ROLE"] == "both"


def plan(
    settings: Settings,
    recipe: Recipe,
    available_bytes: int,
    services: Services,
    trainer: Service | None,
    serves_merged: bool,
) -> Plan:
    """available_bytes: of the machine's memory now, which a running vLLM and trainer lower."""
    day = settings.number("DAY_FREE_BYTES")
    night = settings.night_bytes("NIGHT_FREE_BYTES", recipe.base)
    reserve, room = settings.number("MEMORY_RESERVE_BYTES"), available_bytes
    if services.get("vllm", ABSENT).state == "running":
        room += day
    if (trainer or ABSENT).state == "running":
        room += night - reserve
    return Plan(day, night, reserve, room, why_it_restarts(recipe, serves_merged))


def why_it_restarts(recipe: Recipe, serves_merged: bool) -> str:
    """vLLM serves a merged checkpoint without LoRA, so it loads no candidate beside it."""
    if recipe.serve == "merged":
        return f"recipe {recipe.name} serves a merged checkpoint, and so restarts vLLM"
    return "a merged checkpoint serves, so that a night restarts vLLM" if serves_merged else ""
