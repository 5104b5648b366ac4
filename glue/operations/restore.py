"""A backup put back, on this machine or on a fresh one. Every byte is checked before anything is
touched."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from glue.clients import chat_volume
from glue.clients.site import Site
from glue.core import desired_state, files, journal, lock
from glue.core.desired_state import Turn, Wanted
from glue.core.errors import PreconditionFailed
from glue.core.settings import REPOSITORY, SECRETS
from glue.operations import backup, setup
from glue.serving import model
from learning.dataset import forget

PUBLIC = (
    "adapters",
    "bench",
    "models.json",
)  # what containers read as others than its owner; the rest is the owner's alone


def restore(site: Site, folder: Path, replace: bool = False) -> dict[str, Any]:
    """Afterwards everything is stopped, with the backup's people, documents, adapters, secrets and
    journal: make day.

    One that breaks off leaves a mark, and no day begins before another one ended. An upgrade that
    died is not undone any more:
    that would put its own backup over this one. One that is alive, and may have called this, keeps
    its note.

    replace: also where there is a chat already; else PreconditionFailed, with nothing touched.
    """
    manifest = backup.verified(folder)
    missing = site.stacks.missing_images((site.settings.image("OPEN_WEBUI_IMAGE"),))
    if missing:
        raise PreconditionFailed(
            "Open WebUI's image is not on this machine", str(missing), "make setup, then restore"
        )
    refuse_downgrade(site, manifest)
    site.stacks.ensure_volumes(
        chat_volume.VOLUME
    )  # no other: what the rest held is not in a backup, and setup makes it again
    if not (
        replace or desired_state.half_filled(site.state) or chat_volume.is_empty(site.settings)
    ):
        saw = f"the volume {site.settings['PROJECT']}-webui-data holds people and conversations"
        raise PreconditionFailed(
            "there is a chat already",
            saw,
            f"make backup, then make restore REPLACE=1 FROM={folder}",
        )
    setup.ensure_state(site.settings, site.tell)
    with (
        lock.hold(site.state, lock.NIGHT, "restore"),
        lock.hold(site.state, lock.MOVE, "restore", model.MOVE_WAIT_SECONDS),
    ):
        site.tell("stopping what runs")
        site.stacks.remove_trainer()
        if site.stacks.services("day"):
            with_secrets(site).stacks.compose("day", "down")
        desired_state.take(site.state, Turn(Wanted.DOWN))
        unfinished = site.state / desired_state.RESTORING
        files.write(unfinished, f"{folder}\n")
        if not lock.held(site.state, lock.UPGRADE):
            (site.state / backup.UPGRADE).unlink(missing_ok=True)
        site.tell("putting back the chat")
        chat_volume.fill(site.settings, folder / "chat", below("chat", manifest["sha256"]))
        site.tell("putting back adapters, nights, secrets and journal")
        for words in put_back_state(site.state, folder, manifest):
            site.tell(words)
        kept = put_back_settings(folder / "env", below("env", manifest["sha256"]))
        site.tell(kept)
        desired_state.take(site.state, Turn(Wanted.DOWN))
        journal.record(site.state, event="restore", backup=manifest["made"])
        unfinished.unlink()
    return {"restored": manifest["made"], "adapters": len(site.releases.names()), "settings": kept}


def refuse_downgrade(site: Site, manifest: dict[str, Any]) -> None:
    """Open WebUI changes its database one way only, so an older one than the backup's must not get
    it."""
    image, made_with = (
        site.settings.image("OPEN_WEBUI_IMAGE"),
        str(manifest["images"].get("OPEN_WEBUI_IMAGE", "")),
    )
    if version(image) < version(made_with):
        do = f"set OPEN_WEBUI_IMAGE={made_with} in env/images.env, make setup, then restore"
        raise PreconditionFailed(
            "the backup is from a newer Open WebUI", f"{made_with}, here {image}", do
        )


def version(image: str) -> tuple[int, ...]:
    """Of a reference's tag, such as v0.12.4@sha256:...; whatever cannot be compared is equal."""
    tag = image.partition("@")[0].rpartition(":")[2].lstrip("v")
    return (
        tuple(int(part) for part in tag.split("."))
        if all(part.isdigit() for part in tag.split("."))
        else ()
    )


def with_secrets(site: Site) -> Site:
    """As it is, or, where the state folder had lost its secrets, with those that were just made:
    Compose asks for some."""
    whole = all(key in site.settings.values for key in SECRETS)
    return site if whole else setup.open_site(site.settings.profile, site.tell)


def below(folder: str, checksums: dict[str, str]) -> dict[str, str]:
    """Of all files of a backup, those of one of its folders, by their paths below that folder."""
    return {
        name.removeprefix(f"{folder}/"): found
        for name, found in checksums.items()
        if name.startswith(f"{folder}/")
    }


def put_back_state(state: Path, folder: Path, manifest: dict[str, Any]) -> list[str]:
    """Releases and nights that are there and not in the backup stay; what the backup holds wins,
    but for damaged adapters.

    Only what the manifest names is taken. Returns, in words, what was left out.
    """
    asked = files.read_lines(state / forget.FORGOTTEN)
    (state / "adapters" / "current").unlink(missing_ok=True)
    (state / "adapters" / "judging").unlink(missing_ok=True)
    left_out = []
    for name, checksum in below("state", manifest["sha256"]).items():
        if any(unneeded in name for unneeded in backup.NOT_NEEDED):  # older backups hold some of it
            continue
        if backup.published(folder / "state" / name) in (None, checksum):
            put_back_file(folder / "state" / name, state, name, checksum)
        else:
            left_out.append(
                f"{name} was damaged before it was backed up, and is left as it is here"
            )
    for name, leads_to in below("state", manifest["links"]).items():
        link = state / name
        if link.is_dir() and not link.is_symlink():
            left_out.append(f"{name} was a link, and is left as the folder it is here")
            continue
        link.parent.mkdir(parents=True, exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(leads_to)
    (state / "webui-token").unlink(missing_ok=True)
    forget_again(state, asked)
    return left_out


def put_back_file(source: Path, state: Path, name: str, checksum: str) -> None:
    """With the mode that glue itself gives it: what a share shows, or a person's umask, has no
    say."""
    public, open_folders = name.split("/")[0] in PUBLIC, setup.OPEN_FOLDERS
    target = state / name
    for parent in reversed(target.relative_to(state).parents[:-1]):
        (state / parent).mkdir(parents=True, exist_ok=True)
        (state / parent).chmod(0o755 if public or str(parent) in open_folders else 0o700)
    files.copy_checked(source, target, checksum, 0o644 if public else 0o600)


def forget_again(state: Path, asked: list[dict[str, Any]]) -> None:
    """What was to be forgotten since the backup, and what datasets in it hold of that, does not
    come back with it."""
    for row in asked:
        if row not in files.read_lines(state / forget.FORGOTTEN):
            files.append_line(state / forget.FORGOTTEN, row)
    forget.remove_named(state, {row["name"] for row in files.read_lines(state / forget.FORGOTTEN)})


def put_back_settings(source: Path, checksums: dict[str, str]) -> str:
    """What there is here wins: this machine's port and disk are its own, and images belong to the
    version that runs them.

    Returns in words what came back, and what differs.
    """
    target = REPOSITORY / "env"
    new = [name for name in sorted(checksums) if not (target / name).exists()]
    for name in new:
        (target / name).parent.mkdir(exist_ok=True)
        files.copy_checked(
            source / name, target / name, checksums[name], 0o600 if name == "site.env" else 0o644
        )
    words = (
        f"{target / 'site.env'} is {'the backup' if 'site.env' in new else 'this machine'}'s own"
    )
    if recipes := [Path(name).name for name in new if name.startswith("recipes/")]:
        words += f"; recipes put back: {', '.join(recipes)}"
    images = target / "images.env"
    if "images.env" in checksums and checksums["images.env"] != files.sha256(images):
        words += (
            f"; {images} is this machine's own and differs from the backup's: diff it with"
            f" {source / 'images.env'}"
        )
    return words
