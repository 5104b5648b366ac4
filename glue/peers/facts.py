"""What two Sparks must have in common, and how they differ."""

from __future__ import annotations

import hashlib
import json
import time
from typing import Any

from glue.clients.site import Site
from glue.core import files, services
from glue.machine.images import BUILT_HERE
from glue.operations import versions

Facts = dict[str, Any]
MOST_CLOCK_SECONDS = 2.0


def facts(site: Site) -> Facts:
    """alike: what must be equal on peers, empty where it is missing. time: Unix time."""
    stacks, found = site.stacks, site.settings
    return {
        "mode": services.mode(stacks.services("day"), stacks.trainer()).value,
        "role": found["ROLE"],
        "adapter": site.store.current(),
        "alike": {
            "version": versions.git(
                "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"
            ).strip(),
            "profile": found.profile,
            **{f"image {reference}": image(site, reference) for reference in found.images},
            **{
                f"model {name}": model(site, name)
                for name in found.needed_models(site.recipe().base)
            },
        },
        "time": time.time(),
    }


def image(site: Site, reference: str) -> str:
    """Its ID. One that each machine builds is known by its tag: no two builds are equal."""
    if not site.stacks.has_image(reference):
        return ""
    return "built" if reference.startswith(BUILT_HERE) else site.stacks.image_id(reference)


def model(site: Site, name: str) -> str:
    """Hash of the commit and the hashes of all files, as make setup checked them."""
    known = files.read_json_if_whole(site.state / "models.json", {}).get(name, {})
    content = json.dumps([known.get("commit"), known.get("files")], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest() if known.get("files") else ""


def differences(mine: dict[str, str], theirs: dict[str, str]) -> list[str]:
    """In words. What both lack is one too."""
    wrong = [key for key in {**mine, **theirs} if not mine.get(key) == theirs.get(key) != ""]
    return [
        f"{key}: here {mine.get(key) or 'missing'}, there {theirs.get(key) or 'missing'}"
        for key in wrong
    ]


def clock_fault(before: float, theirs: float, after: float) -> str:
    """before, after: this clock around the answer that had their time. Empty if the clocks may
    agree within MOST_CLOCK_SECONDS."""
    off = max(before - theirs, theirs - after)
    side = "behind" if theirs < before else "ahead"
    return f"clock: {off:.0f} s {side} there" if off > MOST_CLOCK_SECONDS else ""
