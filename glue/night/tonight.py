"""What one night knows while it runs."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from glue.clients.site import Site
from glue.core.recipes import Recipe
from glue.core.verdict import Verdict


@dataclass
class Night:
    """What one night knows so far; each step adds to it. dataset: what the job that built it
    says."""

    site: Site
    name: str
    recipe: Recipe
    deadline_time: float
    dataset: dict[str, Any] = field(default_factory=dict)
    result: dict[str, Any] = field(default_factory=dict)
    release: str = ""
    verdict: Verdict | None = None
    moved: bool = False

    @property
    def folder(self) -> Path:
        return self.site.state / "nights" / self.name

    @property
    def reserve(self) -> Path:
        """Holds room on the disk from before the day stops until the release is written."""
        return self.folder / "reserve"


class NothingNew(Exception):
    """Too little to learn from; the day was never touched."""
