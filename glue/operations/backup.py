"""Backups of all that cannot be had again: what people made in the chat, adapters, nights, the
journal, settings, secrets.

<folder>/<utc>/   manifest.json   the SHA-256 of every file, the links, the images it was made with,
                  the machine and a number
                  manifest.sha256 that of manifest.json; written last
                  chat/           Open WebUI's databases, vectors and uploads
                  state/          the state folder without models' checkpoints and a training's own
                                  files
                  env/            site.env, images.env and the recipes
Base models and merged checkpoints are not in it: `make setup` and `make export` make them again.
"""

from __future__ import annotations

import json
import os
import shutil
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from glue.clients import chat_volume, host
from glue.clients.site import Site
from glue.core import commands, files, journal, lock
from glue.core.errors import PreconditionFailed
from glue.core.files import sha256
from glue.core.settings import REPOSITORY
from glue.machine import backup_folder
from glue.machine.backup_folder import Kept, place

LOCK = "backup.lock"
LEFT_OUT = (
    "scratch",
    "adapter",
    "checkpoint",
    "desk",
    "demo",
)  # folders anywhere in the state folder
# what an upgrade that goes on, or died, would have undone: of this moment, not of a restore's
UPGRADE = "upgrade.json"
MUST_BE = (
    "secrets.env",
    "journal.jsonl",
)  # a state folder that had them and has not is on a disk that is not mounted
NOT_NEEDED = (".lock", ".unfinished", "reserve", UPGRADE, "alarm.json", "attempts.json")
RESTIC_SECONDS = 6 * 3600


def backup(site: Site, anew: bool = False) -> dict[str, Any]:
    """Makes one, gives the oldest beyond BACKUP_KEEP back to the disk, and says in the journal how
    it went.

    anew: a person knows that the folder has none of the earlier backups, or that the chat has less
    in it than it had.
    """
    with lock.hold(site.state, LOCK, "a backup"):
        try:
            require_sources(site, anew)
            forget_old(site)  # a smaller BACKUP_KEEP is to make room for this one
            made = make(site, anew)
            forget_old(
                site, made
            )  # whatever comes of the second copy: the disk is to hold BACKUP_KEEP of them
            to_restic(site, made)
        except Exception as error:
            journal.note(
                site.state,
                event="backup",
                result="failed",
                reason=f"{type(error).__name__}: {error}",
            )
            raise
        size = sum(path.lstat().st_size for path in made.rglob("*"))
        note_done(site, made, size)
    return {"backup": str(made), "size": host.readable(size), "kept": len(there(site))}


def note_done(site: Site, made: Path, size: int) -> None:
    manifest = json.loads((made / files.MANIFEST).read_text(encoding="utf-8"))
    more = {"counts": manifest["counts"], "warnings": manifest["warnings"]}
    own_disk = backup_folder.on_own_disk(site.settings)
    journal.record(
        site.state,
        event="backup",
        result="done",
        folder=str(made),
        bytes=size,
        own_disk=own_disk,
        **more,
    )


def there(site: Site) -> list[Path]:
    """Whole backups of this machine, in the order they were made in."""
    return [kept.folder for kept in backup_folder.there(site.settings)]


def require_sources(site: Site, anew: bool) -> None:
    """Raises PreconditionFailed where the folder is not the one of before, or what the last backup
    held of the state is gone."""
    if anew:
        journal.record(site.state, event=journal.NEW_BACKUPS)
    if words := backup_folder.fault(site.settings):
        do = "mount it, then make backup; or, to begin in this folder: make backup NEW=1"
        raise PreconditionFailed("this is not the folder of the earlier backups", words, do)
    chat_volume.require_not_lost(site.settings, site.stacks)
    kept = [] if anew else backup_folder.there(site.settings)
    gone = [
        name
        for name in MUST_BE
        if kept and f"state/{name}" in kept[-1].checksums and not (site.state / name).exists()
    ]
    if gone:
        saw = f"not in {site.state}, and in the backup {kept[-1].folder}: {', '.join(gone)}"
        do = (
            "see that the disk of STATE_DIR is mounted; or make restore REPLACE=1"
            f" FROM={kept[-1].folder}"
        )
        raise PreconditionFailed("the state folder has lost its files", saw, do)


def make(site: Site, anew: bool = False, now: datetime | None = None) -> Path:
    """Returns its folder. now: by the machine's clock, if not given."""
    kept = backup_folder.there(site.settings)
    target = place(site.settings)
    name = free_name(target, now or datetime.now(UTC))
    own = (  # another machine may be writing its own beside it
        f".unfinished-{backup_folder.machine(site.settings)}-"
    )
    unfinished = target / f"{own}{name}"
    target.mkdir(parents=True, exist_ok=True, mode=0o700)
    for half in target.glob(f"{own}*"):
        shutil.rmtree(half)
    unfinished.mkdir(mode=0o700)
    try:
        require_room(site, unfinished, kept[-1] if kept else None)
        fill(site, unfinished, name, kept, anew)
        unfinished.rename(target / name)
    except BaseException:  # what did not fit must not keep the disk full until the next one
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    files.sync_folder(target)
    return target / name


def free_name(target: Path, now: datetime) -> str:
    """The moment, or the next second that no folder is named after: a clock may have been set
    back."""
    while (target / f"{now:%Y%m%dT%H%M%SZ}").exists():
        now += timedelta(seconds=1)
    return f"{now:%Y%m%dT%H%M%SZ}"


def require_room(site: Site, unfinished: Path, before: Kept | None) -> None:
    """Raises PreconditionFailed unless all that will be copied fits, beside what the chat and a
    night need of the same disk."""
    databases, uploads = chat_volume.sizes(site.settings)
    linked_to = (
        before.folder / "state" if before and takes_links(before.folder, unfinished) else None
    )
    wanted = databases + uploads + state_bytes(site.state, linked_to, place(site.settings))
    if host.on_one_disk(unfinished, site.state):
        wanted += databases + site.settings.number("DISK_FREE_BYTES")
    free = host.free_disk_bytes(unfinished)
    if free < wanted:
        saw = (
            f"{host.readable(wanted)} needed on the disk of {place(site.settings)},"
            f" {host.readable(free)} free"
        )
        do = "a smaller BACKUP_KEEP, or another disk as BACKUP_DIR, in env/site.env"
        if others := backup_folder.others(site.settings):
            do += (
                "; never removed by themselves, as an earlier version or another machine made"
                f" them: {', '.join(others)}"
            )
        raise PreconditionFailed("a backup has no room", saw, do)


def takes_links(before: Path, unfinished: Path) -> bool:
    probe = unfinished / "probe"
    try:
        os.link(before / "manifest.json", probe)
    except OSError:
        return False
    probe.unlink()
    return True


def state_bytes(state: Path, linked_to: Path | None, backups: Path) -> int:
    """What copy_state will write. linked_to: the state folder of an earlier backup, where it can be
    linked to."""
    size = 0
    for folder, folders, names in os.walk(state):
        left_out = unneeded(Path(folder), [*folders, *names], backups)
        folders[:] = [name for name in folders if name not in left_out]
        paths = [Path(folder) / name for name in names if name not in left_out]
        size += sum(path.lstat().st_size for path in paths if not held(path, state, linked_to))
    return size


def held(path: Path, state: Path, earlier: Path | None) -> bool:
    """Whether an earlier backup's state folder has this adapter, which never changes once it is
    published."""
    return (
        earlier is not None
        and path.suffix == ".safetensors"
        and (earlier / path.relative_to(state)).exists()
    )


def unneeded(folder: Path, names: list[str], backups: Path) -> set[str]:
    """Of what is in a folder of the state folder, that which no backup takes: no backup either, of
    whatever BACKUP_DIR."""
    left_out = {
        name for name in names if name in LEFT_OUT or any(part in name for part in NOT_NEEDED)
    }
    of_backups = {name for name in names if backup_folder.is_backup(folder / name)}
    return (
        left_out
        | of_backups
        | {name for name in names if (folder / name).resolve() == backups.resolve()}
    )


def fill(site: Site, unfinished: Path, name: str, kept: list[Kept], anew: bool) -> None:
    site.tell("copying the chat: people, conversations, documents")
    chat_volume.copy_out(site.settings, unfinished / "chat")
    counts = chat_volume.counts(unfinished / "chat")
    site.tell("copying adapters, nights and settings")
    links, warnings = copy_state(
        site.state, unfinished / "state", kept[-1] if kept else None, place(site.settings)
    )
    copy_settings(unfinished / "env")
    images = {key: site.settings.image(key) for key in ("OPEN_WEBUI_IMAGE", "VLLM_IMAGE")}
    facts = backup_folder.facts(
        site.settings, kept, counts, anew or journal.chat_is_new(site.state)
    )
    if less := backup_folder.fewer(counts, facts["most"]):
        warnings.append(
            f"the chat has lost much: {', '.join(less)}; if that is right: make backup NEW=1"
        )
    files.write_checksums(
        unfinished, {"made": name, "links": links, "images": images, "warnings": warnings, **facts}
    )
    for words in warnings:
        site.tell(words)


def copy_state(
    state: Path, target: Path, before: Kept | None, backups: Path
) -> tuple[dict[str, str], list[str]]:
    """Adapters never change once they are published, so one that an earlier backup holds is linked
    to, not copied again.

    An office's share often has neither kind of link: there an adapter is copied. Symbolic ones are
    returned, not copied.
    Returned, too, in words: each adapter that is damaged, here or in the earlier backup; the whole
    one is taken.
    """
    links: dict[str, str] = {}
    warnings: list[str] = []

    def link_or_copy(source: str, copy: str) -> str:
        path = Path(source)
        earlier = (
            before.folder / "state" / path.relative_to(state)
            if before and path.suffix == ".safetensors"
            else None
        )
        if before and earlier and is_whole(path, earlier, before, warnings):
            with suppress(OSError):
                os.link(earlier, copy)
                return copy
        return shutil.copy2(source, copy)

    def unwanted(folder: str, names: list[str]) -> set[str]:
        left_out = unneeded(Path(folder), names, backups)
        linked = {
            name: Path(folder) / name
            for name in names
            if name not in left_out and (Path(folder) / name).is_symlink()
        }
        links.update(
            {
                str("state" / path.relative_to(state)): str(path.readlink())
                for path in linked.values()
            }
        )
        return left_out | linked.keys()

    shutil.copytree(state, target, ignore=unwanted, copy_function=link_or_copy)
    return links, warnings


def is_whole(path: Path, earlier: Path, before: Kept, warnings: list[str]) -> bool:
    """Whether the earlier backup's copy of this adapter is what was published, and what its
    manifest says. Tells of damage."""
    here, known = sha256(path), before.checksums.get(str(earlier.relative_to(before.folder)))
    wanted = published(path) or here
    if here != wanted:
        warnings.append(f"{path} is damaged")
    if known is None:
        return False
    if files.damaged(before.folder, {str(earlier.relative_to(before.folder)): known}):
        warnings.append(f"{earlier} is damaged")
        return False
    return known == wanted


def published(path: Path) -> str | None:
    """The SHA-256 that the manifest beside an adapter's file says; None where it says none."""
    try:
        found = json.loads((path.parent / files.MANIFEST).read_text(encoding="utf-8"))["sha256"][
            path.name
        ]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return str(found)


def copy_settings(target: Path) -> None:
    shutil.copytree(REPOSITORY / "env" / "recipes", target / "recipes")
    for name in ("site.env", "images.env"):
        if (REPOSITORY / "env" / name).exists():
            shutil.copy2(REPOSITORY / "env" / name, target / name)


def forget_old(site: Site, made: Path | None = None) -> None:
    """Of this machine's alone, and never made, the one just made. A removal that breaks off leaves
    nothing that looks whole."""
    for old in backup_folder.removable(
        backup_folder.there(site.settings), site.settings.number("BACKUP_KEEP")
    ):
        if old.folder != made:
            goes = old.folder.with_name(
                f".unfinished-{backup_folder.machine(site.settings)}-{old.folder.name}"
            )
            shutil.rmtree(old.folder.rename(goes))


def to_restic(site: Site, folder: Path) -> None:
    """A second copy where RESTIC_REPOSITORY says, encrypted, by restic and its own rule of what to
    keep."""
    repository = site.settings.values.get("RESTIC_REPOSITORY")
    if not repository:
        return
    environment = {
        "RESTIC_REPOSITORY": repository,
        "RESTIC_PASSWORD_FILE": site.settings.values.get("RESTIC_PASSWORD_FILE", ""),
    }
    keep = [
        "--keep-daily=7",
        "--keep-weekly=5",
        "--keep-monthly=12",
        "--group-by=host,tags",
        "--prune",
    ]
    do = "apt-get install restic; restic snapshots; or take RESTIC_REPOSITORY away"
    for arguments in (
        ["backup", "--tag=dual-use", str(folder)],
        ["forget", "--tag=dual-use", *keep],
    ):
        site.tell(f"restic {arguments[0]}")
        commands.run(
            ["restic", *arguments], do, environment=environment, timeout_seconds=RESTIC_SECONDS
        )


def verified(folder: Path) -> dict[str, Any]:
    """The backup's manifest. Raises PreconditionFailed, naming files, unless every byte of it is
    what was backed up."""
    try:
        manifest = files.read_manifest(folder, backup_folder.REQUIRED)
        files.require_below(manifest["links"])
    except (OSError, ValueError) as error:
        do = "name a folder that make backup made, with its manifest.json as it was"
        raise PreconditionFailed("this is no whole backup", f"{folder}: {error}", do) from error
    if wrong := files.damaged(folder, manifest["sha256"]):
        saw = f"missing, or with another SHA-256, in {folder}: {', '.join(wrong)}"
        raise PreconditionFailed("a backup is not what was backed up", saw, "restore an older one")
    return manifest
