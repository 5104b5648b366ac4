"""Backups of all that cannot be had again: what people made in the chat, adapters, nights, the journal, settings, secrets.

<folder>/<utc>/   manifest.json   the hash of every file, the links, and the images it was made with; written last
                  chat/           Open WebUI's databases, vectors and uploads
                  state/          the state folder without models' checkpoints and a training's own files
                  env/            site.env, images.env and the recipes
Base models and merged checkpoints are not in it: `make setup` and `make export` make them again.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from glue import chat_volume, commands, files, host, journal, lock
from glue.releases import sha256
from glue.settings import HOME
from glue.site import Site
from glue.types import PreconditionFailed

LOCK = "backup.lock"
LEFT_OUT = ("scratch", "adapter", "checkpoint", "desk", "demo")  # folders anywhere in the state folder
UPGRADE = "upgrade.json"  # what an upgrade that goes on, or died, would have undone: of this moment, not of a restore's
NOT_NEEDED = (".lock", ".unfinished", "reserve", UPGRADE, "alarm.json", "attempts.json")
RESTIC_SECONDS = 6 * 3600


def backup(site: Site) -> dict[str, Any]:
    """Makes one, gives the oldest beyond BACKUP_KEEP back to the disk, and says in the journal how it went."""
    with lock.hold(site.state, LOCK, "a backup"):
        try:
            forget_old(site)  # a smaller BACKUP_KEEP is to make room for this one
            made = make(site)
            forget_old(site)  # whatever comes of the second copy: the disk is to hold BACKUP_KEEP of them
            to_restic(site, made)
        except Exception as error:
            journal.note(site.state, event="backup", result="failed", reason=f"{type(error).__name__}: {error}")
            raise
        size = sum(path.lstat().st_size for path in made.rglob("*"))
        journal.record(site.state, event="backup", result="done", folder=str(made), bytes=size)
    return {"backup": str(made), "size": host.readable(size), "kept": len(there(site))}


def place(site: Site) -> Path:
    return site.state / site.settings["BACKUP_DIR"]  # an absolute path stays itself


def there(site: Site) -> list[Path]:
    """Whole backups, oldest first."""
    return sorted(path.parent for path in place(site).glob("*Z/manifest.json"))


def make(site: Site) -> Path:
    earlier = there(site)
    before = earlier[-1] if earlier else None
    name = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    unfinished = place(site) / f".unfinished-{name}"
    place(site).mkdir(parents=True, exist_ok=True, mode=0o700)
    for half in place(site).glob(".unfinished-*"):
        shutil.rmtree(half)
    unfinished.mkdir(mode=0o700)
    try:
        require_room(site, unfinished, before)
        fill(site, unfinished, name, before)
        unfinished.rename(place(site) / name)
    except BaseException:  # what did not fit must not keep the disk full until the next one
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    files.sync_folder(place(site))
    return place(site) / name


def require_room(site: Site, unfinished: Path, before: Path | None) -> None:
    """Raises PreconditionFailed unless all that will be copied fits, beside what the chat and a night need of the same disk."""
    databases, uploads = chat_volume.sizes(site.settings)
    linked_to = before / "state" if before and takes_links(before, unfinished) else None
    wanted = databases + uploads + state_bytes(site.state, linked_to, place(site))
    if host.on_one_disk(unfinished, site.state):
        wanted += databases + site.settings.number("DISK_FREE_BYTES")
    free = host.free_disk_bytes(unfinished)
    if free < wanted:
        saw = f"{host.readable(wanted)} needed on the disk of {place(site)}, {host.readable(free)} free"
        raise PreconditionFailed(
            "a backup has no room", saw, "a smaller BACKUP_KEEP, or another disk as BACKUP_DIR, in env/site.env"
        )


def takes_links(before: Path, unfinished: Path) -> bool:
    probe = unfinished / "probe"
    try:
        os.link(before / "manifest.json", probe)
    except OSError:
        return False
    probe.unlink()
    return True


def state_bytes(state: Path, linked_to: Path | None, backups: Path) -> int:
    """What copy_state will write. linked_to: the state folder of an earlier backup, where it can be linked to."""
    size = 0
    for folder, folders, names in os.walk(state):
        left_out = unneeded(Path(folder), [*folders, *names], backups)
        folders[:] = [name for name in folders if name not in left_out]
        paths = [Path(folder) / name for name in names if name not in left_out]
        size += sum(path.lstat().st_size for path in paths if not held(path, state, linked_to))
    return size


def held(path: Path, state: Path, earlier: Path | None) -> bool:
    """Whether an earlier backup's state folder has this adapter, which never changes once it is published."""
    return earlier is not None and path.suffix == ".safetensors" and (earlier / path.relative_to(state)).exists()


def unneeded(folder: Path, names: list[str], backups: Path) -> set[str]:
    """Of what is in a folder of the state folder, that which no backup takes."""
    left_out = {name for name in names if name in LEFT_OUT or any(part in name for part in NOT_NEEDED)}
    return left_out | {name for name in names if folder / name == backups}


def fill(site: Site, unfinished: Path, name: str, before: Path | None) -> None:
    site.tell("copying the chat: people, conversations, documents")
    chat_volume.copy_out(site.settings, unfinished / "chat")
    site.tell("copying adapters, nights and settings")
    links = copy_state(site.state, unfinished / "state", before / "state" if before else None, place(site))
    copy_settings(unfinished / "env")
    hashes = {str(path.relative_to(unfinished)): sha256(path) for path in listed(unfinished)}
    images = {key: site.settings.image(key) for key in ("OPEN_WEBUI_IMAGE", "VLLM_IMAGE")}
    files.write_json(unfinished / "manifest.json", {"made": name, "sha256": hashes, "links": links, "images": images})


def listed(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink())


def copy_state(state: Path, target: Path, before: Path | None, backups: Path) -> dict[str, str]:
    """Adapters never change once they are published, so one that an earlier backup holds is linked to, not copied again.

    An office's share often has neither kind of link: there an adapter is copied. Symbolic ones are returned, not copied.
    """
    links: dict[str, str] = {}

    def link_or_copy(source: str, copy: str) -> str:
        if before is not None and held(Path(source), state, before):
            with suppress(OSError):
                os.link(before / Path(source).relative_to(state), copy)
                return copy
        return shutil.copy2(source, copy)

    def unwanted(folder: str, names: list[str]) -> set[str]:
        left_out = unneeded(Path(folder), names, backups)
        linked = {name: Path(folder) / name for name in names if name not in left_out and (Path(folder) / name).is_symlink()}
        links.update({str("state" / path.relative_to(state)): str(path.readlink()) for path in linked.values()})
        return left_out | linked.keys()

    shutil.copytree(state, target, ignore=unwanted, copy_function=link_or_copy)
    return links


def copy_settings(target: Path) -> None:
    shutil.copytree(HOME / "env" / "recipes", target / "recipes")
    for name in ("site.env", "images.env"):
        if (HOME / "env" / name).exists():
            shutil.copy2(HOME / "env" / name, target / name)


def forget_old(site: Site) -> None:
    for old in there(site)[: -site.settings.number("BACKUP_KEEP")]:
        shutil.rmtree(old)


def to_restic(site: Site, folder: Path) -> None:
    """A second copy where RESTIC_REPOSITORY says, encrypted, by restic and its own rule of what to keep."""
    repository = site.settings.values.get("RESTIC_REPOSITORY")
    if not repository:
        return
    environment = {"RESTIC_REPOSITORY": repository, "RESTIC_PASSWORD_FILE": site.settings.values.get("RESTIC_PASSWORD_FILE", "")}
    keep = ["--keep-daily=7", "--keep-weekly=5", "--keep-monthly=12", "--group-by=host,tags", "--prune"]
    do = "apt-get install restic; restic snapshots; or take RESTIC_REPOSITORY away"
    for arguments in (["backup", "--tag=dual-use", str(folder)], ["forget", "--tag=dual-use", *keep]):
        site.tell(f"restic {arguments[0]}")
        commands.run(["restic", *arguments], do, environment=environment, timeout_seconds=RESTIC_SECONDS)


def verified(folder: Path) -> dict[str, Any]:
    """The backup's manifest. Raises PreconditionFailed, naming a file, unless every byte of it is what was backed up."""
    try:
        manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise PreconditionFailed(
            "this is no whole backup", f"{folder}: {error}", "name a folder that holds manifest.json"
        ) from error
    for name, expected in manifest["sha256"].items():
        if not (folder / name).is_file() or sha256(folder / name) != expected:
            raise PreconditionFailed("a backup is not what was backed up", f"{folder / name}", "restore an older one")
    return manifest
