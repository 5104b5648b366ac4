"""A backup put back, on this machine or on a fresh one. Every byte is checked before anything is touched."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from glue import backup, chat_volume, day, files, forget, journal, lock, setup, turn
from glue.plan import Turn, Wanted
from glue.settings import HOME
from glue.site import Site
from glue.types import PreconditionFailed


def restore(site: Site, folder: Path, replace: bool = False) -> dict[str, Any]:
    """Afterwards everything is stopped, with the backup's people, documents, adapters, secrets and journal: make day.

    One that breaks off leaves a mark, and no day begins before another one ended. An upgrade that died is not undone any more:
    that would put its own backup over this one. One that is alive, and may have called this, keeps its note.

    replace: also where there is a chat already; else PreconditionFailed, with nothing touched.
    """
    manifest = backup.verified(folder)
    missing = site.stacks.missing_images((site.settings.image("OPEN_WEBUI_IMAGE"),))
    if missing:
        raise PreconditionFailed("Open WebUI's image is not on this machine", str(missing), "make setup, then restore")
    refuse_downgrade(site, manifest)
    site.stacks.ensure_volumes()
    if not (replace or chat_volume.half_filled(site.state) or chat_volume.is_empty(site.settings)):
        saw = f"the volume {site.settings['PROJECT']}-webui-data holds people and conversations"
        raise PreconditionFailed("there is a chat already", saw, "make backup, then restore with --replace")
    setup.ensure_state(site.settings, site.tell)
    with lock.hold(site.state, lock.NIGHT, "restore"), lock.hold(site.state, lock.MOVE, "restore", day.MOVE_WAIT_SECONDS):
        site.tell("stopping what runs")
        site.stacks.remove_trainer()
        if site.stacks.services("day"):
            site.stacks.compose("day", "down")
        turn.take(site.state, Turn(Wanted.DOWN))
        unfinished = site.state / chat_volume.RESTORING
        files.write(unfinished, f"{folder}\n")
        if not lock.held(site.state, lock.UPGRADE):
            (site.state / backup.UPGRADE).unlink(missing_ok=True)
        site.tell("putting back the chat")
        chat_volume.fill(site.settings, folder / "chat")
        site.tell("putting back adapters, nights, secrets and journal")
        put_back_state(site.state, folder, manifest["links"])
        kept = put_back_settings(folder / "env")
        site.tell(kept)
        turn.take(site.state, Turn(Wanted.DOWN))
        journal.record(site.state, event="restore", backup=manifest["made"])
        unfinished.unlink()
    return {"restored": manifest["made"], "adapters": len(site.releases.names()), "settings": kept}


def refuse_downgrade(site: Site, manifest: dict[str, Any]) -> None:
    """Open WebUI changes its database one way only, so an older one than the backup's must not get it."""
    image, made_with = site.settings.image("OPEN_WEBUI_IMAGE"), manifest["images"]["OPEN_WEBUI_IMAGE"]
    if version(image) < version(made_with):
        do = f"set OPEN_WEBUI_IMAGE={made_with} in env/images.env, make setup, then restore"
        raise PreconditionFailed("the backup is from a newer Open WebUI", f"{made_with}, here {image}", do)


def version(image: str) -> tuple[int, ...]:
    """Of a reference's tag, such as v0.12.4@sha256:...; whatever cannot be compared is equal."""
    tag = image.partition("@")[0].rpartition(":")[2].lstrip("v")
    return tuple(int(part) for part in tag.split(".")) if all(part.isdigit() for part in tag.split(".")) else ()


def put_back_state(state: Path, folder: Path, links: dict[str, str]) -> None:
    """Releases and nights that are there and not in the backup stay; what the backup holds wins."""
    asked = files.read_lines(state / forget.FORGOTTEN)
    (state / "adapters" / "current").unlink(missing_ok=True)
    (state / "adapters" / "judging").unlink(missing_ok=True)
    of_then = shutil.ignore_patterns(*backup.NOT_NEEDED)  # older backups hold some of it
    shutil.copytree(folder / "state", state, ignore=of_then, symlinks=True, dirs_exist_ok=True)
    for name, leads_to in links.items():
        link = state / Path(name).relative_to("state")
        link.unlink(missing_ok=True)
        link.symlink_to(leads_to)
    (state / "webui-token").unlink(missing_ok=True)
    forget_again(state, asked)


def forget_again(state: Path, asked: list[dict[str, Any]]) -> None:
    """What was to be forgotten since the backup, and what datasets in it hold of that, does not come back with it."""
    for row in asked:
        if row not in files.read_lines(state / forget.FORGOTTEN):
            files.append_line(state / forget.FORGOTTEN, row)
    forget.remove_named(state, {row["name"] for row in files.read_lines(state / forget.FORGOTTEN)})


def put_back_settings(source: Path) -> str:
    """What there is here wins: this machine's port and disk are its own, and images belong to the version that runs them.

    Returns in words what came back, and what differs.
    """
    target = HOME / "env"
    words = f"{target / 'site.env'} is this machine's own"
    if (source / "site.env").exists() and not (target / "site.env").exists():
        shutil.copy2(source / "site.env", target)
        words = f"{target / 'site.env'} is the backup's"
    recipes = [file for file in sorted((source / "recipes").glob("*")) if not (target / "recipes" / file.name).exists()]
    for file in recipes:
        shutil.copy2(file, target / "recipes")
    if recipes:
        words += f"; recipes put back: {', '.join(file.name for file in recipes)}"
    there = source / "images.env"
    if there.exists() and there.read_bytes() != (target / "images.env").read_bytes():
        words += f"; {target / 'images.env'} is this machine's own and differs from the backup's: diff it with {there}"
    return words
