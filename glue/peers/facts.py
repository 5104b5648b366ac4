"""What two Sparks must have in common, and how they differ."""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import asdict
from typing import Any

from glue.clients.site import Site
from glue.core import files, services
from glue.machine.images import BUILT_HERE
from glue.operations import versions

Facts = dict[str, Any]
MOST_CLOCK_SECONDS = 2.0


def facts(site: Site) -> Facts:
    """time: Unix time."""
    stacks = site.stacks
    return {
        "mode": services.mode(stacks.services("day"), stacks.trainer()).value,
        "role": site.settings["ROLE"],
        "adapter": site.store.current(),
        "alike": alike(site),
        "time": time.time(),
    }


def alike(site: Site) -> dict[str, str]:
    """What must be equal on peers, empty where it is missing. Of the models, those that days and
    nights with this recipe need: a night on NVFP4 weights needs no other checkpoint."""
    found, recipe = site.settings, site.recipe()
    return {
        "version": version(),
        "profile": found.profile,
        "MODEL": f"{found['MODEL']} {digest(asdict(found.model))}",
        "RECIPE": f"{recipe.name} {digest(asdict(recipe))}",
        **{f"image {reference}": image(site, reference) for reference in found.images},
        **{f"model {name}": model(site, name) for name in found.needed_models(recipe.base)},
    }


def version() -> str:
    """The commit, and which changes are not committed, such as those of make pin."""
    commit, changes = versions.git("rev-parse", "HEAD").strip(), versions.git("diff", "HEAD")
    return f"{commit} with changes {digest(changes)}" if changes else commit


def digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]


def image(site: Site, reference: str) -> str:
    """Its ID. One that each machine builds is known by its tag: no two builds are equal."""
    if not site.stacks.has_image(reference):
        return ""
    return "built" if reference.startswith(BUILT_HERE) else site.stacks.image_id(reference)


def model(site: Site, name: str) -> str:
    """Of its commit and the hashes of all files, as make setup checked them."""
    known = files.read_json_if_whole(site.state / "models.json", {}).get(name, {})
    return digest([known.get("commit"), known["files"]]) if known.get("files") else ""


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
