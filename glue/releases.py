"""Adapters on disk: complete, immutable folders, and one link that says which of them serves.

adapters/<utc>-<sha>/   adapter_config.json  adapter_model.safetensors  manifest.json
                        checkpoint/, checkpoint.json   the adapter inside a whole model, if somebody or a recipe wanted that
                        serve-merged                   there if this release serves by its checkpoint
adapters/current ->     relative link to what serves; no link means the base model serves
adapters/served.json    what has served, oldest first; null is the base model
adapters/judging        there while a night judges: vLLM then runs the base model with adapters beside it, whatever serves
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
MERGED, JUDGING = "serve-merged", "judging"
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

    def serves_merged(self) -> bool:
        """Whether a vLLM that starts now runs the current release's checkpoint; serve-current.sh has the same rule."""
        current = self.folder / "current"
        whole = (current / MERGED).exists() and (current / "checkpoint" / "config.json").exists()
        return whole and not (self.folder / JUDGING).exists()

    def is_merged(self, release: Release) -> bool:
        """Whether release serves, or last served, by its checkpoint."""
        return release is not None and (self.folder / release / MERGED).exists()

    def checkpoint(self, name: str) -> dict[str, Any] | None:
        """What is known of the release's checkpoint: its form, its base model, the hash of each file. None without one."""
        path = self.folder / name / "checkpoint.json"
        found: dict[str, Any] | None = json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
        return found

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

    def publish_checkpoint(self, name: str, source: Path, facts: dict[str, Any]) -> dict[str, Any]:
        """Moves a finished checkpoint into the release, in place of any other, and returns what is known of it."""
        self.forget_checkpoint(name)
        hashes = {f"checkpoint/{path.name}": sha256(path) for path in sorted(source.iterdir())}
        source.rename(self.folder / name / "checkpoint")
        files.sync_folder(self.folder / name)
        known = {**facts, "sha256": hashes}
        files.write_json(self.folder / name / "checkpoint.json", known)
        return known

    def forget_checkpoint(self, name: str) -> None:
        """Whatever moment this ends at, there is a whole checkpoint or none. The release then serves as an adapter."""
        folder, unfinished = self.folder / name, self.folder / f".unfinished-{name}-checkpoint"
        for name_of_file in (MERGED, "checkpoint.json"):
            (folder / name_of_file).unlink(missing_ok=True)
        shutil.rmtree(unfinished, ignore_errors=True)
        if (folder / "checkpoint").exists():
            (folder / "checkpoint").rename(unfinished)
            shutil.rmtree(unfinished)

    def forget_old_checkpoints(self) -> None:
        """Only what serves and what served before keep the checkpoints that serving made; the others' adapters stay."""
        kept = self.served()[-2:]
        for name in self.names():
            if self.is_merged(name) and name not in kept:
                self.forget_checkpoint(name)

    def serve_as(self, release: str, merged: bool) -> None:
        """The form in which release serves, from when it is current."""
        mark = self.folder / release / MERGED
        if merged:
            files.write(mark, "")
        else:
            mark.unlink(missing_ok=True)

    def judge(self, judging: bool) -> None:
        """While judging, vLLM is to run the base model with adapters beside it, whatever serves."""
        if judging:
            files.write(self.folder / JUDGING, "")
        else:
            (self.folder / JUDGING).unlink(missing_ok=True)

    def verify(self, name: str, checkpoint: bool = False) -> None:
        """Raises PreconditionFailed if a file is not the one that was published. checkpoint: those of the checkpoint too."""
        published = dict(self.manifest(name)["sha256"])
        if checkpoint:
            published |= (self.checkpoint(name) or {}).get("sha256", {})
        for file, expected in published.items():
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
