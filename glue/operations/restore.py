"""Restores a backup, on this machine or another. All files are checked before any change."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from glue.clients import chat_volume, webui_accounts
from glue.clients.site import Site
from glue.core import desired_state, files, image_tags, journal, lock, names, upgrade_note
from glue.core.desired_state import DesiredState, Wanted
from glue.core.errors import PreconditionFailed
from glue.core.settings import REPOSITORY, SECRETS
from glue.operations import backup, backup_contents, forget, setup
from glue.serving import model

PUBLIC = ("adapters", "bench", "models.json")  # containers read these as other users


def restore(site: Site, folder: Path, replace: bool = False) -> dict[str, Any]:
    """Restores the backup in folder. Everything is stopped afterwards.

    A restore that dies leaves a mark, and no day starts until another one has ended. It discards
    the note of an upgrade that died, whose older backup must not replace this one; a running
    upgrade, which may have called this, keeps its note.

    replace: also if a chat exists. Raises PreconditionFailed with nothing changed.
    """
    manifest = backup.verified(folder)
    require_possible(site, folder, manifest, replace)
    setup.ensure_state(site.settings, site.tell)
    with (
        lock.hold(site.state, lock.TRAINING, "restore"),
        lock.hold(site.state, lock.SWITCH, "restore", model.SWITCH_WAIT_SECONDS),
    ):
        stop(site)
        unfinished = site.state / desired_state.RESTORING
        files.write(unfinished, f"{folder}\n")
        if not lock.held(site.state, lock.UPGRADE):
            (site.state / upgrade_note.NOTE).unlink(missing_ok=True)
        site.tell("restoring the chat")
        chat_volume.fill(site.settings, folder / "chat", files.below("chat", manifest["sha256"]))
        site.tell("restoring adapters, nights, secrets and journal")
        for words in put_back_state(site.state, folder, manifest):
            site.tell(words)
        forget_again(site)
        kept = put_back_settings(folder / "env", files.below("env", manifest["sha256"]))
        site.tell(kept)
        desired_state.write(site.state, DesiredState(Wanted.DOWN))
        journal.record(site.state, event="restore", backup=manifest["made"])
        unfinished.unlink()
    return {"restored": manifest["made"], "adapters": len(site.store.names()), "settings": kept}


def require_possible(site: Site, folder: Path, manifest: dict[str, Any], replace: bool) -> None:
    needed = tuple(site.settings.image(f"{name}_IMAGE") for name in ("OPEN_WEBUI", "TRAINER"))
    if absent := site.stacks.missing_images(needed):
        do = "make setup, then make restore"
        raise PreconditionFailed("an image is not on this machine", ", ".join(absent), do)
    refuse_downgrade(site, manifest)
    site.stacks.ensure_volumes(chat_volume.VOLUME)  # setup creates the others
    half = desired_state.unfinished_restore(site.state)
    if replace or half or chat_volume.is_empty(site.settings):
        return
    saw = f"the volume {site.settings['PROJECT']}-webui-data holds people and conversations"
    do = f"make backup, then make restore REPLACE=1 FROM={folder}"
    raise PreconditionFailed("a chat already exists", saw, do)


def stop(site: Site) -> None:
    site.tell("stopping containers")
    site.stacks.remove_trainer()
    if site.stacks.services("day"):
        with_secrets(site).stacks.compose("day", "down")
    desired_state.write(site.state, DesiredState(Wanted.DOWN))


def refuse_downgrade(site: Site, manifest: dict[str, Any]) -> None:
    """Raises PreconditionFailed: an older Open WebUI cannot read a newer one's database."""
    image = site.settings.image("OPEN_WEBUI_IMAGE")
    made_with = str(manifest["images"].get("OPEN_WEBUI_IMAGE", ""))
    if image_tags.is_older(image, made_with):
        do = f"set OPEN_WEBUI_IMAGE={made_with} in env/images.env, make setup, then make restore"
        saw = f"{made_with}, here {image}"
        raise PreconditionFailed("the backup is from a newer Open WebUI", saw, do)


def with_secrets(site: Site) -> Site:
    """With the secrets that setup.ensure_state made, which Compose needs."""
    whole = all(key in site.settings.values for key in SECRETS)
    return site if whole else setup.open_site(site.settings.profile, site.tell)


def put_back_state(state: Path, folder: Path, manifest: dict[str, Any]) -> list[str]:
    """Replaces the files that the manifest names; other adapters and nights stay. Returns a
    sentence for each file that is not restored."""
    asked = files.read_lines(state / names.FORGOTTEN)
    for name in ("current", "judging"):
        (state / "adapters" / name).unlink(missing_ok=True)
    left_out = []
    for name, checksum in files.below("state", manifest["sha256"]).items():
        if not all(map(backup_contents.is_needed, (Path(name), *Path(name).parents))):
            continue  # of an older version's backup
        source = folder / "state" / name
        if backup_contents.published(source) in (None, checksum):
            put_back_file(source, state, name, checksum)
        else:
            left_out.append(f"{name} is not restored: it was damaged before it was backed up")
    for name, leads_to in files.below("state", manifest["links"]).items():
        link = state / name
        if link.is_dir() and not link.is_symlink():
            left_out.append(f"{name} is not restored: a link in the backup and a folder here")
            continue
        files.make_folder(link.parent)
        link.unlink(missing_ok=True)
        link.symlink_to(leads_to)
    (state / webui_accounts.TOKEN).unlink(missing_ok=True)
    for row in asked:  # what was to be forgotten since the backup stays so
        if row not in files.read_lines(state / names.FORGOTTEN):
            files.append_line(state / names.FORGOTTEN, row)
    return left_out


def put_back_file(source: Path, state: Path, name: str, checksum: str) -> None:
    """With the usual mode of such a file, whatever mode the backup's disk shows."""
    public, open_folders = name.split("/")[0] in PUBLIC, setup.OPEN_FOLDERS
    target = state / name
    for parent in reversed(target.relative_to(state).parents[:-1]):
        files.make_folder(state / parent)
        (state / parent).chmod(0o755 if public or str(parent) in open_folders else 0o700)
    files.copy_checked(source, target, checksum, 0o644 if public else 0o600)


def forget_again(site: Site) -> None:
    """Removes examples that were forgotten since the backup."""
    rows = files.read_lines(site.state / names.FORGOTTEN)
    forget.remove(site, [row["name"] for row in rows])


def put_back_settings(source: Path, checksums: dict[str, str]) -> str:
    """Only missing files: port and disk are those of this machine, and images belong to its
    version. Returns what was restored and what differs, in words."""
    target = REPOSITORY / "env"
    new = [name for name in sorted(checksums) if not (target / name).exists()]
    for name in new:
        (target / name).parent.mkdir(exist_ok=True)
        mode = 0o600 if name == "site.env" else 0o644
        files.copy_checked(source / name, target / name, checksums[name], mode)
    words = f"{target / 'site.env'} is {'the backup' if 'site.env' in new else 'this machine'}'s"
    for folder in ("models", "recipes"):
        if found := [Path(name).name for name in new if name.startswith(f"{folder}/")]:
            words += f"; {folder} restored: {', '.join(found)}"
    images = target / "images.env"
    if "images.env" in checksums and checksums["images.env"] != files.sha256(images):
        words += f"; {images} is this machine's, and differs from {source / 'images.env'}"
    return words
