"""Adapters on disk: complete, immutable folders, and one link to the one that serves.

adapters/<utc>-<sha>/   adapter_config.json  adapter_model.safetensors  manifest.json
                        verdict.json                   the gate's verdict, written once
                        checkpoint/, checkpoint.json   the adapter merged into a whole model, where
                                                       a recipe or a person asked for it
                        serve-merged                   present if it serves by that checkpoint
adapters/current ->     relative link to what serves; no link means the base model
adapters/served.json    what has served, oldest first; null is the base model
adapters/pruned/        the manifests of removed adapters, which say what was learned
adapters/judging        present while a night evaluates: vLLM then runs the base model with adapters
                        beside it, whatever serves, or the checkpoint of the adapter that it names
"""

from __future__ import annotations

import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glue.core import files
from glue.core.errors import PreconditionFailed
from glue.core.files import sha256

ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")
MERGED, JUDGING, PRUNED = "serve-merged", "judging", "pruned"
# in adapter_config.json, by training.adapter_file; images/vllm/serve-current.sh looks for it too
THROUGH_QUANTISER = "trained_through_quantiser"
PROMOTE = "promote an undamaged adapter (make adapters lists them)"
AdapterName = str | None  # an adapter's name; None is the base model


@dataclass(frozen=True)
class AdapterStore:
    folder: Path

    # ------------------------------------------------------------------ read

    def names(self) -> list[str]:
        """Complete adapters, oldest first."""
        manifests = self.folder.glob("[!.]*/manifest.json")
        return sorted(path.parent.name for path in manifests if not path.parent.is_symlink())

    def manifest(self, name: str) -> dict[str, Any]:
        """As published, with the gate's verdict. Raises PreconditionFailed if there is none."""
        if name not in self.names():
            saw = f"{name!r}; there are: {', '.join(self.names()) or 'none'}"
            raise PreconditionFailed("there is no such adapter", saw, "make adapters")
        verdict = files.read_json_if_whole(self.folder / name / "verdict.json", {})
        damaged = {"name": name, "damaged": "manifest.json"}
        found = files.read_json_if_whole(self.folder / name / "manifest.json", {}) or damaged
        return found | ({"verdict": verdict} if verdict else {})

    def manifests(self) -> list[dict[str, Any]]:
        """Of every adapter, removed ones too, oldest first."""
        pruned = sorted((self.folder / PRUNED).glob("*.json"))
        rows = [files.read_json_if_whole(path, {}) for path in pruned]
        rows += [self.manifest(name) for name in self.names()]
        by_name = {str(row["name"]): row for row in rows if row}
        return [by_name[name] for name in sorted(by_name)]

    def current(self) -> AdapterName:
        """What serves after any restart; images/vllm/serve-current.sh has the same rule. A link to
        an incomplete adapter means the base model."""
        link = self.folder / "current"
        complete = link.is_symlink() and (link / "manifest.json").exists()
        return str(link.readlink()) if complete else None

    def served(self) -> list[AdapterName]:
        """What has served, oldest first, up to the link. Later entries of served.json were never
        linked to, or were rolled back on a full disk."""
        current = self.current()
        history: list[AdapterName] = files.read_json_if_whole(self.folder / "served.json", [None])
        if current not in history:
            return [*history, current]
        return history[: len(history) - history[::-1].index(current)]

    def before(self) -> list[AdapterName]:
        """What served earlier and still exists. Raises PreconditionFailed if nothing did."""
        there, current = {None, *self.names()}, self.current()
        history = [name for name in self.served() if name in there]
        while history and history[-1] == current:
            history.pop()
        if not history:
            saw = f"nothing but {shown(current)} has served"
            raise PreconditionFailed("there is nothing to roll back to", saw, "make adapters")
        return history

    def serves_merged(self) -> bool:
        """Whether vLLM starts with a checkpoint of an adapter."""
        return self.runs() is not None

    def runs(self) -> AdapterName:
        """The adapter whose checkpoint vLLM starts with, as in images/vllm/serve-current.sh; None
        is the base model, with adapters beside it."""
        if self.judging():
            name = (self.folder / JUDGING).read_text(encoding="utf-8").strip()
        else:
            current = self.current()
            name = str(current) if self.is_merged(current) else ""
        complete = name and (self.folder / name / "checkpoint/config.json").exists()
        return name if complete else None

    def only_merged(self, name: AdapterName) -> bool:
        """Whether it was trained through the quantiser (training.packed_merge): it answers as it
        learned from a merged checkpoint only, and is never loaded beside the base model."""
        configuration = self.folder / str(name) / ADAPTER_FILES[0]
        return bool(files.read_json_if_whole(configuration, {}).get(THROUGH_QUANTISER))

    def lacks_checkpoint(self, name: AdapterName) -> bool:
        """Whether it answers from a merged checkpoint only and has none, as after a restore."""
        return self.only_merged(name) and not (self.is_merged(name) and self.checkpoint(str(name)))

    def judging(self) -> bool:
        """Whether a vLLM that starts now runs the base model, with adapters beside it."""
        return (self.folder / JUDGING).exists()

    def is_merged(self, name: AdapterName) -> bool:
        """Whether it serves, or last served, by its checkpoint."""
        return name is not None and (self.folder / name / MERGED).exists()

    def checkpoint(self, name: str) -> dict[str, Any] | None:
        """Form, base model and file hashes of its checkpoint; None without one, as after a
        restore: a backup has checkpoint.json and not the files."""
        if not (self.folder / name / "checkpoint").is_dir():
            return None
        return files.read_json_if_whole(self.folder / name / "checkpoint.json", {}) or None

    def verify(self, name: str, checkpoint: bool = False) -> None:
        """Raises PreconditionFailed if a file differs from what was published."""
        published = self.published(name)
        if checkpoint:
            published |= (self.checkpoint(name) or {}).get("sha256", {})
        if damaged := files.damaged(self.folder / name, published):
            names = ", ".join(f"{name}/{file}" for file in damaged)
            what = f"adapter {name} is damaged: its files do not match its manifest"
            raise PreconditionFailed(what, f"missing, or different SHA-256: {names}", PROMOTE)

    def published(self, name: str) -> dict[str, str]:
        """The hash of each file. Raises PreconditionFailed where the manifest is damaged."""
        if hashes := self.manifest(name).get("sha256"):
            return dict(hashes)
        saw = str(self.folder / name / "manifest.json")
        do = f"restore that file from the newest backup, or {PROMOTE}"
        raise PreconditionFailed(f"adapter {name} is damaged: its manifest is unreadable", saw, do)

    # ------------------------------------------------------------------ write

    def publish(self, source: Path, manifest: dict[str, Any]) -> str:
        """Copies an adapter into the store and returns its name. It is seen once it is complete."""
        hashes = {name: sha256(source / name) for name in ADAPTER_FILES}
        name = f"{files.time_stamp()}-{hashes[ADAPTER_FILES[1]][:8]}"
        unfinished = self.folder / f".unfinished-{name}"
        shutil.rmtree(unfinished, ignore_errors=True)
        files.make_folder(unfinished)
        for file, checksum in hashes.items():
            files.copy_checked(source / file, unfinished / file, checksum, 0o644)
        files.write_json(unfinished / "manifest.json", {"name": name, "sha256": hashes, **manifest})
        unfinished.rename(self.folder / name)
        files.sync_folder(self.folder)
        return name

    def publish_checkpoint(self, name: str, source: Path, facts: dict[str, Any]) -> dict[str, Any]:
        """Moves a finished checkpoint into the adapter's folder. Returns its checkpoint.json."""
        self.forget_checkpoint(name)
        hashes = {f"checkpoint/{path.name}": sha256(path) for path in sorted(source.iterdir())}
        source.rename(self.folder / name / "checkpoint")
        files.sync_folder(self.folder / name)
        known = {**facts, "sha256": hashes}
        files.write_json(self.folder / name / "checkpoint.json", known)
        return known

    def forget_checkpoint(self, name: str) -> None:
        """Afterwards the adapter serves beside the base model. A crash leaves all of it or none."""
        folder, unfinished = self.folder / name, self.folder / f".unfinished-{name}-checkpoint"
        for name_of_file in (MERGED, "checkpoint.json"):
            (folder / name_of_file).unlink(missing_ok=True)
        shutil.rmtree(unfinished, ignore_errors=True)
        if (folder / "checkpoint").exists():
            (folder / "checkpoint").rename(unfinished)
            shutil.rmtree(unfinished)

    def forget_old_checkpoints(self) -> None:
        """Keeps those of what serves and of what served before. Adapters stay."""
        kept = self.served()[-2:]
        for name in self.names():
            if self.is_merged(name) and name not in kept:
                self.forget_checkpoint(name)

    def serve_as(self, name: str, merged: bool) -> None:
        """The form in which the adapter serves once it is current."""
        mark(self.folder / name / MERGED, merged)

    def set_judging(self, judging: bool, checkpoint_of: str = "") -> None:
        """checkpoint_of: the adapter whose checkpoint is judged, if not one beside the base."""
        if judging:
            files.write(self.folder / JUDGING, checkpoint_of)
        else:
            (self.folder / JUDGING).unlink(missing_ok=True)

    def note_verdict(self, name: str, verdict: dict[str, Any]) -> None:
        """Written once, like all in an adapter's folder."""
        if not (self.folder / name / "verdict.json").exists():
            files.write_json(self.folder / name / "verdict.json", verdict)

    def advance(self, name: AdapterName) -> None:
        """It serves from now on, or OSError is raised and nothing has changed: the link for the
        way back is made first, and the current link last."""
        history = self.served()
        back = self.ready(history[-1]) if history[-1] is not None else None
        self.remember(history if history[-1] == name else [*history, name])
        self.link(name)
        for old in set(self.folder.glob(".to-*")) - {back}:
            old.unlink()

    def retreat(self, history: list[AdapterName]) -> None:
        """The last of history serves again, also on a full disk; what came later is forgotten. The
        list first: after a crash between the two, served() ends it with the link."""
        with suppress(OSError):
            self.remember(history)
        self.link(history[-1])

    def remember(self, history: list[AdapterName]) -> None:
        files.write_json(self.folder / "served.json", history)

    def link(self, name: AdapterName) -> None:
        link = self.folder / "current"
        if name is None:
            link.unlink(missing_ok=True)
        else:
            self.ready(name).replace(link)
        files.sync_folder(self.folder)

    def ready(self, name: str) -> Path:
        """A link that only has to be renamed, which a full disk still allows."""
        made = self.folder / f".to-{name}"
        if not made.is_symlink():
            made.symlink_to(name)
        return made

    # ------------------------------------------------------------------ prune

    def removable(self, keep: int) -> list[str]:
        """Adapters that may go, oldest first. Kept: what serves, what a rollback needs, the newest,
        the last `keep` that served and that the gate accepted, and what was added and never
        evaluated."""
        known = {name: self.manifest(name) for name in self.names()}
        names = list(known)
        served = list(dict.fromkeys(name for name in reversed(self.served()) if name in known))
        good = [name for name in names if known[name].get("verdict", {}).get("promote")]
        own = [name for name in names if "source" in known[name] and "verdict" not in known[name]]
        waiting = set(own) - set(served)
        kept = {self.current(), *names[-1:], *served[: max(keep, 2)], *good[-max(keep, 1) :]}
        return [name for name in names if name not in kept | waiting]

    def prune(self, keep: int) -> list[str]:
        """Removes what is removable. A crash leaves each adapter complete or gone."""
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


def mark(path: Path, there: bool) -> None:
    if there:
        files.write(path, "")
    else:
        path.unlink(missing_ok=True)


def shown(name: AdapterName) -> str:
    return name or "the base model"
