"""Adapters on disk: complete, immutable folders, and one link that says which of them serves.

adapters/<utc>-<sha>/   adapter_config.json  adapter_model.safetensors  manifest.json
                        verdict.json                   what the gate said of it, once
                        checkpoint/, checkpoint.json   the adapter inside a whole model, if somebody
                                                       or a recipe wanted that
                        serve-merged                   there if this release serves by its
                                                       checkpoint
adapters/current ->     relative link to what serves; no link means the base model serves
adapters/served.json    what has served, oldest first; null is the base model
adapters/pruned/        the manifests of releases that were removed: what they learned is not
                        forgotten with them
adapters/judging        there while a night judges: vLLM then runs the base model with adapters
                        beside it, whatever serves
"""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from glue.core import files
from glue.core.errors import PreconditionFailed
from glue.core.files import sha256

ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")
MERGED, JUDGING, PRUNED = "serve-merged", "judging", "pruned"
Release = str | None  # a name; None is the base model


@dataclass(frozen=True)
class Releases:
    folder: Path

    # ------------------------------------------------------------------ look

    def names(self) -> list[str]:
        """Complete releases, oldest first."""
        return sorted(
            path.parent.name
            for path in self.folder.glob("[!.]*/manifest.json")
            if not path.parent.is_symlink()
        )

    def manifest(self, name: str) -> dict[str, Any]:
        """What was published, with the gate's verdict if there is one. Raises PreconditionFailed
        for no such release."""
        if name not in self.names():
            there = ", ".join(self.names()) or "none"
            raise PreconditionFailed(
                "there is no such adapter", f"{name!r}; there are: {there}", "make adapters"
            )
        verdict = files.read_json_if_whole(self.folder / name / "verdict.json", {})
        found = files.read_json_if_whole(self.folder / name / "manifest.json", {}) or {
            "name": name,
            "damaged": "manifest.json",
        }
        return found | ({"verdict": verdict} if verdict else {})

    def manifests(self) -> list[dict[str, Any]]:
        """Of every release that there is or was, oldest first: what has been learned from once is
        not new."""
        pruned = [
            files.read_json_if_whole(path, {}) for path in (self.folder / PRUNED).glob("*.json")
        ]
        removed = [manifest for manifest in pruned if manifest]
        there = [self.manifest(name) for name in self.names()]
        return sorted(
            {row["name"]: row for row in removed + there}.values(), key=lambda row: str(row["name"])
        )

    def current(self) -> Release:
        """What serves after any restart. A link to a release that is not whole counts for nothing,
        as for serve-current.sh."""
        link = self.folder / "current"
        return (
            str(link.readlink())
            if link.is_symlink() and (link / "manifest.json").exists()
            else None
        )

    def served(self) -> list[Release]:
        """What has served, oldest first. Ends with what serves now: the link says what does,
        whatever became of the list.

        What the list has after that was never linked to, or was rolled back on a full disk.
        """
        current = self.current()
        history: list[Release] = files.read_json_if_whole(self.folder / "served.json", [None])
        if current not in history:
            return [*history, current]
        return history[: len(history) - history[::-1].index(current)]

    def before(self) -> list[Release]:
        """What served, down to what served before what serves now, and is still there. Raises
        PreconditionFailed for nothing."""
        there, current = {None, *self.names()}, self.current()
        history = [release for release in self.served() if release in there]
        while history and history[-1] == current:
            history.pop()
        if not history:
            raise PreconditionFailed(
                "there is nothing to roll back to",
                f"{shown(current)} is all that ever served",
                "make adapters",
            )
        return history

    def previous(self) -> Release:
        """What served before what serves now, and is still there."""
        return self.before()[-1]

    def serves_merged(self) -> bool:
        """Whether a vLLM that starts now runs the current release's checkpoint; serve-current.sh
        has the same rule."""
        current = self.folder / "current"
        whole = (current / MERGED).exists() and (current / "checkpoint" / "config.json").exists()
        return whole and not self.judging()

    def judging(self) -> bool:
        """Whether a vLLM that starts now runs the base model with adapters beside it, whatever
        serves."""
        return (self.folder / JUDGING).exists()

    def is_merged(self, release: Release) -> bool:
        """Whether release serves, or last served, by its checkpoint."""
        return release is not None and (self.folder / release / MERGED).exists()

    def checkpoint(self, name: str) -> dict[str, Any] | None:
        """What is known of the release's checkpoint: its form, its base model, the hash of each
        file. None without one, as
        after a restore: a backup holds what is known of it, and not the checkpoint."""
        there = (self.folder / name / "checkpoint").is_dir()
        return (
            (files.read_json_if_whole(self.folder / name / "checkpoint.json", {}) or None)
            if there
            else None
        )

    # ------------------------------------------------------------------ change

    def publish(self, source: Path, manifest: dict[str, Any]) -> str:
        """Copies an adapter into a new release and returns its name. It is seen only once it is
        complete and on disk."""
        hashes = {name: sha256(source / name) for name in ADAPTER_FILES}
        name = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{hashes[ADAPTER_FILES[1]][:8]}"
        unfinished = self.folder / f".unfinished-{name}"
        shutil.rmtree(unfinished, ignore_errors=True)
        files.make_folder(unfinished)
        for file in ADAPTER_FILES:
            shutil.copyfile(source / file, unfinished / file)
            with (unfinished / file).open("rb") as written:
                os.fsync(written.fileno())
        files.write_json(unfinished / "manifest.json", {"name": name, "sha256": hashes, **manifest})
        unfinished.rename(self.folder / name)
        files.sync_folder(self.folder)
        return name

    def publish_checkpoint(self, name: str, source: Path, facts: dict[str, Any]) -> dict[str, Any]:
        """Moves a finished checkpoint into the release, in place of any other, and returns what is
        known of it."""
        self.forget_checkpoint(name)
        hashes = {f"checkpoint/{path.name}": sha256(path) for path in sorted(source.iterdir())}
        source.rename(self.folder / name / "checkpoint")
        files.sync_folder(self.folder / name)
        known = {**facts, "sha256": hashes}
        files.write_json(self.folder / name / "checkpoint.json", known)
        return known

    def forget_checkpoint(self, name: str) -> None:
        """Whatever moment this ends at, there is a whole checkpoint or none. The release then
        serves as an adapter."""
        folder, unfinished = self.folder / name, self.folder / f".unfinished-{name}-checkpoint"
        for name_of_file in (MERGED, "checkpoint.json"):
            (folder / name_of_file).unlink(missing_ok=True)
        shutil.rmtree(unfinished, ignore_errors=True)
        if (folder / "checkpoint").exists():
            (folder / "checkpoint").rename(unfinished)
            shutil.rmtree(unfinished)

    def forget_old_checkpoints(self) -> None:
        """Only what serves and what served before keep the checkpoints that serving made; the
        others' adapters stay."""
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
        """Raises PreconditionFailed if a file is not the one that was published. checkpoint: those
        of the checkpoint too."""
        published = self.published(name)
        if checkpoint:
            published |= (self.checkpoint(name) or {}).get("sha256", {})
        if damaged := files.damaged(self.folder / name, published):
            saw = (
                "missing, or with another SHA-256:"
                f" {', '.join(f'{name}/{file}' for file in damaged)}"
            )
            raise PreconditionFailed(
                "an adapter is not what was published", saw, "promote another: make adapters"
            )

    def published(self, name: str) -> dict[str, str]:
        """The hash of each file. Raises PreconditionFailed where the manifest is damaged."""
        path = self.folder / name / "manifest.json"
        hashes = self.manifest(name).get("sha256")
        if not hashes:
            do = "put it back from the newest backup, or promote another: make adapters"
            raise PreconditionFailed("an adapter's manifest is damaged", str(path), do)
        return dict(hashes)

    def note_verdict(self, name: str, verdict: dict[str, Any]) -> None:
        """Said once, like everything in a release."""
        if not (self.folder / name / "verdict.json").exists():
            files.write_json(self.folder / name / "verdict.json", verdict)

    def advance(self, release: Release) -> None:
        """release serves from now on, or OSError is raised and all is as before. The way back comes
        first, the link last."""
        history = self.served()
        back = self.ready(history[-1]) if history[-1] is not None else None
        self.remember(history if history[-1] == release else [*history, release])
        self.link(release)
        for old in set(self.folder.glob(".to-*")) - {back}:
            old.unlink()

    def retreat(self, history: list[Release]) -> None:
        """The last of history serves again, and what came after it is forgotten, on a full disk
        too.

        The list first, and served() ends it with the link: after a crash between the two, or
        without room for the list, a
        rollback never goes forward to what was rolled back.
        """
        with suppress(OSError):
            self.remember(history)
        self.link(history[-1])

    def remember(self, history: list[Release]) -> None:
        files.write_json(self.folder / "served.json", history)

    def link(self, release: Release) -> None:
        link = self.folder / "current"
        if release is None:
            link.unlink(missing_ok=True)
        else:
            self.ready(release).replace(link)
        files.sync_folder(self.folder)

    def ready(self, release: str) -> Path:
        """A link to release that only has to be renamed, which a full disk still allows."""
        made = self.folder / f".to-{release}"
        if not made.is_symlink():
            made.symlink_to(release)
        return made

    # ------------------------------------------------------------------ give room back

    def removable(self, keep: int) -> list[str]:
        """Releases that may go, oldest first. Never what serves, what a rollback goes to, the
        newest, the last `keep` that
        served and the last `keep` that the gate found good; nor what came from elsewhere and has
        never been judged.
        """
        names = self.names()
        known = {name: self.manifest(name) for name in names}
        served = list(
            dict.fromkeys(release for release in reversed(self.served()) if release in known)
        )
        good = [name for name in names if known[name].get("verdict", {}).get("promote")]
        own = [
            name
            for name in names
            if "source" in known[name] and "verdict" not in known[name] and name not in served
        ]
        kept = {self.current(), *names[-1:], *served[: max(keep, 2)], *good[-max(keep, 1) :], *own}
        return [name for name in names if name not in kept]

    def prune(self, keep: int) -> list[str]:
        """Removes what is removable and returns its names. Whatever moment it ends at, each release
        is whole or gone."""
        for left in self.folder.glob(".unfinished-*"):
            if left.is_dir() and not left.is_symlink():
                shutil.rmtree(left)
        names = self.removable(keep)
        for name in names:
            files.make_folder(self.folder / PRUNED)
            files.write_json(self.folder / PRUNED / f"{name}.json", self.manifest(name))
            (self.folder / name).rename(self.folder / f".unfinished-{name}")
            files.sync_folder(self.folder)
            shutil.rmtree(self.folder / f".unfinished-{name}")
        return names


def shown(release: Release) -> str:
    return release or "the base model"
