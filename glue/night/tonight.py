"""The data of one night while it runs."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from glue.clients.site import Site
from glue.core import files
from glue.core.recipes import Recipe
from glue.core.verdict import Verdict


@dataclass
class Night:
    """Each step adds to it. dataset: the result of the job that built it. result: the trainer's.
    energy: see Report. steps: seconds by step. switched: the desired state is this night's."""

    site: Site
    name: str
    recipe: Recipe
    deadline_time: float
    dataset: dict[str, Any] = field(default_factory=dict)
    result: dict[str, Any] = field(default_factory=dict)
    energy: dict[str, float] = field(default_factory=dict)
    release: str = ""
    verdict: Verdict | None = None
    steps: dict[str, float] = field(default_factory=dict)
    switched: bool = False

    @property
    def folder(self) -> Path:
        return self.site.state / "nights" / self.name

    @property
    def card(self) -> dict[str, Any]:
        """Of the data set; empty before there is one."""
        return files.read_json_if_whole(self.folder / "dataset" / "card.json", {})

    @property
    def reserve(self) -> Path:
        """A file that reserves disk space until the adapter is stored."""
        return self.folder / "reserve"


class NothingNew(Exception):
    """Too few new examples; the day was not touched."""
