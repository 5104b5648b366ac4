"""What every verb works on: one profile's settings, its containers, its adapters, and somebody to tell."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from glue import recipes
from glue.releases import Releases
from glue.settings import HOME, Settings
from glue.stacks import Stacks
from glue.vllm import Vllm
from glue.webui import WebUI, administrator

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Site:
    """tell: takes one line for people; the same line again means that nothing has changed."""

    settings: Settings
    stacks: Stacks
    tell: Tell

    @property
    def state(self) -> Path:
        return self.settings.state

    @property
    def releases(self) -> Releases:
        return Releases(self.state / "adapters")

    def recipe(self, name: str | None = None) -> recipes.Recipe:
        return recipes.load(HOME / "env" / "recipes", name or self.settings["RECIPE"])

    def vllm(self) -> Vllm:
        return Vllm(self.stacks.address("vllm"), self.settings["MODEL_API_KEY"])

    def administrator(self) -> WebUI:
        return administrator(self.settings)
