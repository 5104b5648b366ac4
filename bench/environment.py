"""The environment of a measurement, for every report: machine, versions, load."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from glue import __version__
from glue.clients import host
from glue.clients.site import Site
from glue.core import files

CPUINFO = Path("/proc/cpuinfo")
IMAGES = ("VLLM_IMAGE", "OPEN_WEBUI_IMAGE", "DOOR_IMAGE")


def describe(site: Site) -> dict[str, Any]:
    observed = host.observe()
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {
            "system": observed.system,
            "kernel": platform.release(),
            "architecture": observed.architecture,
            "processor": processor(),
            "cores": os.cpu_count(),
            "memory_bytes": host.meminfo_bytes("MemTotal"),
            "gpu": observed.gpu.name if observed.gpu else None,
        },
        "versions": {
            "glue": __version__,
            "python": platform.python_version(),
            "docker": site.stacks.engine().version,
            "images": {key: image(site, site.settings.image(key)) for key in IMAGES},
            "Open WebUI": version(site.settings["OPEN_WEBUI_IMAGE"]),
        },
        "profile": site.settings.profile,
    }


def image(site: Site, reference: str) -> str:
    there = site.stacks.has_image(reference)
    return (
        f"{reference} {site.stacks.image_id(reference)[:19]}"
        if there
        else f"{reference}, not there"
    )


def version(reference: str) -> str:
    """The version in the image's tag. A rehearsal's own image is built from the same release, so
    the upstream image's tag counts."""
    tag = reference.partition("@")[0].rpartition("/")[2].partition(":")[2]
    return tag.removeprefix("v") or reference


def processor() -> str:
    lines = [
        line
        for line in CPUINFO.read_text(encoding="utf-8").splitlines()
        if line.startswith("model name")
    ]
    return lines[0].partition(":")[2].strip() if lines else platform.processor()


def load() -> dict[str, float]:
    """Processes that run or want to, as the kernel averages them over one minute and over five."""
    one, five, _ = os.getloadavg()
    return {"one_minute": round(one, 2), "five_minutes": round(five, 2)}


def save(site: Site, name: str, result: dict[str, Any]) -> str:
    """Writes state/bench/<name>.json, which `python -m bench report` reads."""
    folder = site.state / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    files.write_json(folder / f"{name}.json", result)
    return str(folder / f"{name}.json")
