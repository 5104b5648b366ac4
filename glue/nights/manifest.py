"""What a release says of itself: all that made it, so that a year later nobody has to ask."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import glue
from glue import files
from glue.learning import dataset
from glue.nights.tonight import Night
from glue.site import Site


def manifest(night: Night) -> dict[str, Any]:
    """Beside its name and the hash of each file, which publishing adds, and the verdict, which judging does."""
    settings, models = night.site.settings, files.read_json_if_whole(night.site.state / "models.json", {})
    return {
        "night": night.name,
        "recipe": asdict(night.recipe),
        **base(night.site),
        "served_model": settings["SERVED_MODEL"],
        "served_revision": revision(models, settings["SERVED_MODEL"]),
        "dataset": files.read_json_if_whole(night.folder / "dataset" / "card.json", {}),
        "training": night.result,
        "versions": {"glue": glue.__version__, "images": {key: settings.image(key) for key in ("VLLM_IMAGE", "TRAINER_IMAGE")}},
        "counts": {part: len(getattr(night.dataset, part)) for part in ("train", "held_out", "earlier", "general", "replay")},
        "examples": sorted(dataset.fingerprint(row) for row in night.dataset.learned),
        "origins": origins(night),
    }


def base(site: Site) -> dict[str, str]:
    """The weights that an adapter is trained on."""
    name = site.settings["TRAINED_MODEL"]
    return {"base_model": name, "base_revision": revision(files.read_json_if_whole(site.state / "models.json", {}), name)}


def origins(night: Night) -> list[str]:
    """Of its own examples, and of those of the adapter that it went on from, which are in its numbers too."""
    before = Path(files.read_json_if_whole(night.folder / "job.json", {}).get("begin_from", "")).name
    inherited = night.site.releases.manifest(before).get("origins", []) if before else []
    return sorted({*dataset.origins(night.dataset.learned), *inherited})


def revision(models: dict[str, Any], name: str) -> str:
    """The commit that was fetched; a model that was made on this machine has none."""
    return str(models.get(name, {}).get("commit") or "made on this machine")
