"""Adapters on disk: complete, immutable folders, and one link that says which of them serves.

adapters/<utc>-<sha>/   adapter_config.json  adapter_model.safetensors  manifest.json
adapters/current ->     relative link to what serves; no link means the base model serves
adapters/served.json    what has served, oldest first; null is the base model
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from glue import files
from glue.types import PreconditionFailed

ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")
Release = str | None  # a name; None is the base model


@dataclass(frozen=True)
class Releases:
    folder: Path

    # ------------------------------------------------------------------ look

    def names(self) -> list[str]:
        """Complete releases, oldest first."""
        return sorted(path.parent.name for path in self.folder.glob("*/manifest.json") if not path.parent.is_symlink())

    def manifest(self, name: str) -> dict[str, Any]:
        path = self.folder / name / "manifest.json"
        if name not in self.names():
            there = ", ".join(self.names()) or "none"
            raise PreconditionFailed("there is no such adapter", f"{name!r}; there are: {there}", "make adapters")
        manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return manifest

    def current(self) -> Release:
        link = self.folder / "current"
        return str(link.readlink()) if link.is_symlink() else None

    def served(self) -> list[Release]:
        """What has served, oldest first. Ends with what serves now, also if a crash came between link and list."""
        path = self.folder / "served.json"
        history: list[Release] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else [None]
        return history if history[-1] == self.current() else [*history, self.current()]

    def previous(self) -> Release:
        """What served before what serves now. Raises PreconditionFailed if nothing did."""
        history = self.served()
        if len(history) < 2:
            raise PreconditionFailed(
                "there is nothing to roll back to", f"{shown(history[-1])} is all that ever served", "make adapters"
            )
        return history[-2]

    # ------------------------------------------------------------------ change

    def publish(self, source: Path, manifest: dict[str, Any]) -> str:
        """Copies an adapter into a new release and returns its name. It is seen only once it is complete and on disk."""
        hashes = {name: sha256(source / name) for name in ADAPTER_FILES}
        name = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{hashes[ADAPTER_FILES[1]][:8]}"
        unfinished = self.folder / f".unfinished-{name}"
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        for file in ADAPTER_FILES:
            shutil.copyfile(source / file, unfinished / file)
            with (unfinished / file).open("rb") as written:
                os.fsync(written.fileno())
        files.write_json(unfinished / "manifest.json", {"name": name, "sha256": hashes, **manifest})
        unfinished.rename(self.folder / name)
        files.sync_folder(self.folder)
        return name

    def verify(self, name: str) -> None:
        """Raises PreconditionFailed if a file is not the one that was published."""
        for file, expected in self.manifest(name)["sha256"].items():
            if sha256(self.folder / name / file) != expected:
                raise PreconditionFailed(
                    "an adapter is not what was published",
                    f"{name}/{file} has another hash",
                    "promote another: make adapters",
                )

    def point(self, release: Release, history: list[Release]) -> None:
        """Makes release the one that serves after any restart, and history what has served."""
        link = self.folder / "current"
        if release is None:
            link.unlink(missing_ok=True)
        else:
            unfinished = self.folder / ".unfinished-current"
            unfinished.unlink(missing_ok=True)
            unfinished.symlink_to(release)
            unfinished.replace(link)
        files.sync_folder(self.folder)
        files.write_json(self.folder / "served.json", history)


def shown(release: Release) -> str:
    return release or "the base model"


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
