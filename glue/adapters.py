"""Which adapter serves: promote, roll back, take in one from elsewhere. No container restarts and nobody picks anything."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from glue import adapter_format, journal, lock, vllm
from glue.adapter_format import BaseModel
from glue.day import ADAPTERS_IN_CONTAINER, MOVE_WAIT_SECONDS
from glue.releases import Release, shown
from glue.site import Site
from glue.types import PreconditionFailed


def listing(site: Site) -> list[dict[str, Any]]:
    """Every release, oldest first, with what its manifest says and whether it serves."""
    releases = site.releases
    current = releases.current()
    return [{**releases.manifest(name), "serves": name == current} for name in releases.names()]


def promote(site: Site, release: Release) -> Release:
    """release answers from now on, and after any restart. None is the base model. vLLM first, since it may refuse."""
    with lock.hold(site.state, lock.MOVE, f"promote {shown(release)}", MOVE_WAIT_SECONDS):
        if release is not None:
            site.releases.verify(release)
        load(site, release)
        history = site.releases.served()
        site.releases.point(release, history if history[-1] == release else [*history, release])
        answer_with(site, release)
    return release


def rollback(site: Site) -> Release:
    """What served before answers again; a second rollback goes one further back.

    The link first: whatever then fails, with vLLM dead of what is rolled back, the next start follows the link.
    """
    with lock.hold(site.state, lock.MOVE, "roll back", MOVE_WAIT_SECONDS):
        previous = site.releases.previous()
        site.releases.point(previous, site.releases.served()[:-1])
        load(site, previous)
        answer_with(site, previous)
    return previous


def load(site: Site, release: Release) -> None:
    if release is not None:
        site.vllm().serve(vllm.ADAPTER, f"{ADAPTERS_IN_CONTAINER}/{release}")


def answer_with(site: Site, release: Release) -> None:
    """The name behind the assistant: the adapter's, or the base model's."""
    site.administrator().ensure_assistant(site.settings, vllm.ADAPTER if release else vllm.BASE)
    journal.record(site.state, event="serve", adapter=release)
    site.tell(f"{shown(release)} serves")


def require_good(site: Site, folder: Path) -> None:
    """Raises PreconditionFailed with what is wrong with the adapter in folder."""
    facts = site.state / "base_model.json"
    base = BaseModel.read(facts) if facts.exists() else None
    wrong = adapter_format.problems(folder, base, site.settings.number("MAX_LORA_RANK"))
    if wrong:
        more = f" (and {len(wrong) - 3} more)" if len(wrong) > 3 else ""
        raise PreconditionFailed("this adapter cannot be served", "; ".join(wrong[:3]) + more, "train it again, or take another")


def add(site: Site, folder: Path) -> str:
    """Takes a copy of the adapter in folder as a new release, which does not serve yet."""
    require_good(site, folder)
    return site.releases.publish(folder, {"source": f"added from {folder.name}"})
