"""Tags of images. Those that the rehearsal builds are tagged with a hash of what they are built
from: an unchanged image is built once, and clones of several versions can share a machine."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Build:
    """folder: of the Dockerfile. base: key of the image that FROM names. context: of COPY."""

    folder: str
    base: str
    context: str = ""
    further: tuple[str, ...] = ()


# in the order of building
BUILDS = {
    "REHEARSAL_BASE_IMAGE": Build("images/base", "REHEARSAL_ROOT_IMAGE", further=("make-root.sh",)),
    "REHEARSAL_TORCH_IMAGE": Build("images/base", "REHEARSAL_BASE_IMAGE"),
    "REHEARSAL_TRAINER_IMAGE": Build("images/trainer", "REHEARSAL_TORCH_IMAGE"),
    "REHEARSAL_VLLM_IMAGE": Build("images/vllm", "REHEARSAL_TORCH_IMAGE"),
    "REHEARSAL_OPEN_WEBUI_IMAGE": Build("images/open-webui", "REHEARSAL_TORCH_IMAGE"),
    "REHEARSAL_MODEL_IMAGE": Build("images/practice-model", "REHEARSAL_TRAINER_IMAGE", context="."),
}
COPY = re.compile(r"^COPY (?!--from)(.+)$", re.MULTILINE)
DIGITS = 12


def with_tags(references: Mapping[str, str], home: Path) -> dict[str, str]:
    """references, with a tag for each image that is built here and has none."""
    found = dict(references)
    for key, build in BUILDS.items():
        if key in found and ":" not in found[key]:
            found[key] = f"{found[key]}:{tag(build, found.get(build.base, ''), home)}"
    return found


def tag(build: Build, base: str, home: Path) -> str:
    """base: the reference of the image below, whose tag stands for its content."""
    total = hashlib.sha256(base.encode())
    for path in inputs(build, home):
        total.update(f"\n{path.relative_to(home)}\n".encode() + path.read_bytes())
    return total.hexdigest()[:DIGITS]


def inputs(build: Build, home: Path) -> Iterator[Path]:
    """The Dockerfile, and each file that its COPY lines name."""
    folder = home / build.folder
    yield folder / "Dockerfile"
    yield from (folder / name for name in build.further)
    for line in COPY.findall((folder / "Dockerfile").read_text(encoding="utf-8")):
        for name in line.split()[:-1]:
            path = home / (build.context or build.folder) / name
            yield from sorted(filter(Path.is_file, path.rglob("*"))) if path.is_dir() else [path]


def version(text: str) -> tuple[int, ...]:
    """(0, 12, 4) for 0.12.4 or x/y:v0.12.4@sha256:...; () for a tag that is no version."""
    found = re.match(r"v?(\d+(?:\.\d+)*)(?![\w.])", text.partition("@")[0].rpartition(":")[2])
    return tuple(map(int, found[1].split("."))) if found else ()


def is_older(one: str, other: str) -> bool:
    """False where one of them is no version."""
    return bool(version(one)) and version(one) < version(other)
