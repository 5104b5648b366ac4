"""Backups of what cannot be made again: what people made in the chat, adapters, nights, the
journal, settings, secrets.

<folder>/<utc>/   manifest.json   every file's SHA-256, the links, the images it was made with, the
                                  machine and a number
                  manifest.sha256 of manifest.json; written last
                  chat/           Open WebUI's databases, vectors and uploads
                  state/          the state folder without checkpoints and a training's own files
                  env/            site.env, images.env, the models' files and the recipes
Not in it: base models and merged checkpoints, which `make setup` and `make export` make again.
"""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from glue.clients import chat_volume, host
from glue.clients.site import Site
from glue.core import commands, files, journal, lock, upgrade_note
from glue.core.errors import PreconditionFailed, steps
from glue.core.settings import Settings
from glue.machine import backup_folder
from glue.machine.backup_folder import Kept, place
from glue.operations import backup_contents

LOCK = "backup.lock"
# a state folder that had these and lost them is on a disk that is not mounted
MUST_BE = ("secrets.env", "journal.jsonl")
RESTIC_SECONDS = 6 * 3600
RESTIC_KEEP = ("--keep-daily=7", "--keep-weekly=5", "--keep-monthly=12", "--group-by=host,tags")


def backup(site: Site, anew: bool = False) -> dict[str, Any]:
    """Makes a backup and removes the oldest beyond BACKUP_KEEP.

    anew: accept a folder without earlier backups, or a chat with less data than before.
    """
    with lock.hold(site.state, LOCK, "a backup"):
        try:
            require_sources(site, anew)
            forget_old(site)  # a smaller BACKUP_KEEP makes room for this one
            made = make(site, anew)
            forget_old(site, made)
            to_restic(site, made)
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            journal.note(site.state, event="backup", result="failed", reason=reason)
            raise
        size = sum(path.lstat().st_size for path in made.rglob("*"))
        disk = {"bytes": size, "own_disk": backup_folder.on_own_disk(site.settings)}
        manifest = files.read_json(made / files.MANIFEST, {})
        found = {key: manifest[key] for key in ("counts", "warnings")}
        journal.record(site.state, event="backup", result="done", folder=str(made), **disk, **found)
    return {"backup": str(made), "size": host.readable(size), "kept": len(there(site))}


def there(site: Site) -> list[Path]:
    """The complete backups of this machine, oldest first."""
    return [kept.folder for kept in backup_folder.there(site.settings)]


def require_sources(site: Site, anew: bool) -> None:
    """Raises PreconditionFailed if the earlier backups, or files of the state folder, are gone."""
    if anew:
        journal.record(site.state, event=journal.NEW_BACKUPS)
    if words := backup_folder.fault(site.settings):
        do = "mount its disk and run make backup. To start a new series here: make backup NEW=1"
        raise PreconditionFailed("BACKUP_DIR does not contain the earlier backups", words, do)
    chat_volume.require_not_lost(site.settings, site.stacks)
    kept = backup_folder.there(site.settings)
    if anew or not kept:
        return
    last = kept[-1]
    had = [name for name in MUST_BE if f"state/{name}" in last.checksums]
    if gone := [name for name in had if not (site.state / name).exists()]:
        saw = f"not in {site.state}, but in the backup {last.folder}: {', '.join(gone)}"
        again = f"or restore the files: make restore REPLACE=1 FROM={last.folder}"
        do = steps("check that the disk of STATE_DIR is mounted", again)
        raise PreconditionFailed("the state folder has lost files", saw, do)


# ---------------------------------------------------------------------- making one


def make(site: Site, anew: bool = False, now: datetime | None = None) -> Path:
    """Returns the folder of the backup. now: the time in its name."""
    kept = backup_folder.there(site.settings)
    target = place(site.settings)
    name = free_name(target, now)
    unfinished = target / unfinished_name(site.settings, name)
    target.mkdir(parents=True, exist_ok=True, mode=0o700)
    for half in target.glob(unfinished_name(site.settings, "*")):
        shutil.rmtree(half)
    unfinished.mkdir(mode=0o700)
    try:
        require_room(site, unfinished, kept[-1] if kept else None)
        fill(site, unfinished, name, kept, anew)
        unfinished.rename(target / name)
    except BaseException:  # what did not fit must not fill the disk until the next backup
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    files.sync_folder(target)
    return target / name


def free_name(target: Path, now: datetime | None = None) -> str:
    """now as a name, or the next free second: clocks are set back. Default: the current time."""
    now = now or datetime.now(UTC)
    while (target / files.time_stamp(now)).exists():
        now += timedelta(seconds=1)
    return files.time_stamp(now)


def unfinished_name(settings: Settings, name: str) -> str:
    """Differs between machines, which may share the folder."""
    return f".unfinished-{backup_folder.machine(settings)}-{name}"


def require_room(site: Site, unfinished: Path, before: Kept | None) -> None:
    """Raises PreconditionFailed unless it fits, and leaves room for the chat and a night."""
    databases, uploads = chat_volume.sizes(site.settings)
    links = before is not None and backup_contents.takes_links(before.folder, unfinished)
    linked_to = before.folder / "state" if before and links else None
    target = place(site.settings)
    needed = databases + uploads + backup_contents.state_bytes(site.state, linked_to, target)
    if host.on_one_disk(unfinished, site.state):
        needed += databases + site.settings.number("DISK_FREE_BYTES")
    if (free := host.free_disk_bytes(unfinished)) >= needed:
        return
    saw = f"{host.readable(needed)} needed on the disk of {target}, {host.readable(free)} free"
    do = "set a smaller BACKUP_KEEP, or BACKUP_DIR to another disk, in env/site.env"
    if others := backup_folder.others(site.settings):
        do += f"; or delete by hand what other machines or versions made: {', '.join(others)}"
    raise PreconditionFailed("there is no room for a backup", saw, do)


def fill(site: Site, unfinished: Path, name: str, kept: list[Kept], anew: bool) -> None:
    site.tell("copying the chat: people, conversations, documents")
    chat_volume.copy_out(site.settings, unfinished / "chat")
    counts = chat_volume.counts(unfinished / "chat")
    site.tell("copying adapters, nights and settings")
    before, target = (kept[-1] if kept else None), unfinished / "state"
    links, warnings = backup_contents.copy_state(site.state, target, before, place(site.settings))
    backup_contents.copy_settings(unfinished / "env")
    anew = anew or journal.chat_is_new(site.state)
    facts = backup_folder.facts(site.settings, kept, counts, anew)
    if less := ", ".join(backup_folder.fewer(counts, facts["most"])):
        warnings.append(f"the chat shrank below half: {less}; if that is right: make backup NEW=1")
    images = {key: site.settings.image(key) for key in ("OPEN_WEBUI_IMAGE", "VLLM_IMAGE")}
    facts |= {"made": name, "links": links, "images": images, "warnings": warnings}
    files.write_checksums(unfinished, facts)
    for words in warnings:
        site.tell(words)


# ---------------------------------------------------------------------- what is kept


def forget_old(site: Site, made: Path | None = None) -> None:
    """Removes the oldest backups of this machine beyond BACKUP_KEEP, but not the new one, nor one
    that an upgrade may need. A half-removed backup does not look complete."""
    kept = backup_folder.there(site.settings)
    needed = upgrade_note.read(site.state).get("backup")
    for old in backup_folder.removable(kept, site.settings.number("BACKUP_KEEP")):
        if old.folder != made and str(old.folder) != needed:
            goes = old.folder.with_name(unfinished_name(site.settings, old.folder.name))
            shutil.rmtree(old.folder.rename(goes))


def to_restic(site: Site, folder: Path) -> None:
    """Stores an encrypted copy at RESTIC_REPOSITORY, and removes old ones there."""
    repository = site.settings.values.get("RESTIC_REPOSITORY")
    if not repository:
        return
    environment = {
        "RESTIC_REPOSITORY": repository,
        "RESTIC_PASSWORD_FILE": site.settings.values.get("RESTIC_PASSWORD_FILE", ""),
    }
    do = "check that restic is installed and works (restic snapshots), or remove RESTIC_REPOSITORY"
    for verb, *options in (("backup", str(folder)), ("forget", *RESTIC_KEEP, "--prune")):
        site.tell(f"restic {verb}")
        command = ["restic", verb, "--tag=dual-use", *options]
        commands.run(command, do, environment=environment, timeout_seconds=RESTIC_SECONDS)


def verified(folder: Path) -> dict[str, Any]:
    """The manifest. Raises PreconditionFailed with the names of files that have changed."""
    try:
        manifest = files.read_manifest(folder, backup_folder.REQUIRED)
        files.require_below(manifest["links"])
    except (OSError, ValueError) as error:
        do = "name a folder that make backup made, with its unchanged manifest.json"
        raise PreconditionFailed("the backup is not complete", f"{folder}: {error}", do) from error
    if wrong := files.damaged(folder, manifest["sha256"]):
        saw = f"missing, or with a different SHA-256, in {folder}: {', '.join(wrong)}"
        raise PreconditionFailed("files of the backup have changed", saw, "restore an older one")
    return manifest
