"""What every verb works on: one profile's settings, containers and adapters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from glue.clients.adapter_store import AdapterStore
from glue.clients.docker import Stacks
from glue.clients.open_webui import WebUI
from glue.clients.vllm import Vllm
from glue.clients.webui_accounts import administrator
from glue.core import recipes
from glue.core.errors import Invalid
from glue.core.settings import REPOSITORY, Settings

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Site:
    """tell: takes a line of progress for people. The same line again means no change."""

    settings: Settings
    stacks: Stacks
    tell: Tell

    @property
    def state(self) -> Path:
        return self.settings.state

    @property
    def store(self) -> AdapterStore:
        return AdapterStore(self.state / "adapters")

    def recipe(self, name: str | None = None) -> recipes.Recipe:
        """Raises Misconfigured, also for a rank above MAX_LORA_RANK."""
        found = recipes.load(REPOSITORY / "env" / "recipes", name or self.settings["RECIPE"])
        largest = self.settings.number("MAX_LORA_RANK")
        if found.largest_rank > largest:
            raise Invalid(
                f"Invalid value for rank in env/recipes/{found.name}.toml",
                str(found.largest_rank),
                f"Expected at most MAX_LORA_RANK ({largest}). Lower it, or set"
                f" MAX_LORA_RANK={found.largest_rank} or higher in env/site.env and run make day.",
            )
        return found

    def vllm(self) -> Vllm:
        return Vllm(self.stacks.address("vllm"), self.settings["MODEL_API_KEY"])

    def administrator(self) -> WebUI:
        return administrator(self.settings)
