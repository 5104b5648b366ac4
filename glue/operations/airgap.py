"""Bundles for a site without a network: a connected machine writes everything into a folder, and
the other one loads it.

<folder>/  manifest.json  every file's SHA-256, the images by name and ID, the machine they are for
           images.tar     every image of the profile       models.tar   the recipe's models
           state/         what is known of the models      wheels/      glue's Python packages
           glue.bundle    this repository: git clone glue.bundle
"""

from __future__ import annotations

import platform
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from glue.clients import host, one_shot
from glue.clients.compose import docker_cli
from glue.clients.docker import Stacks
from glue.clients.site import Site
from glue.core import commands, files
from glue.core.errors import GlueError, PreconditionFailed
from glue.core.settings import BASE_FACTS, LOADED, REPOSITORY, Settings

LONG_SECONDS = 6 * 3600.0
ROOM = "check that the disk has room"
MODELS = "models.json"
# MODELS of a bundle, under a name that an earlier version's make load, which upgrades run, copies
# beside the site's own list and does not put in its place
BUNDLED = "bundled-models.json"


def bundle(site: Site, folder: Path) -> dict[str, Any]:
    """Raises PreconditionFailed if an image is missing or the folder is not empty."""
    if missing := site.stacks.missing_images(site.settings.images):
        do = "make setup, then make bundle"
        raise PreconditionFailed("an image is not on this machine", ", ".join(missing), do)
    if folder.exists() and any(folder.iterdir()):
        raise PreconditionFailed("the folder is not empty", str(folder), "name a new folder")
    (folder / "state").mkdir(parents=True)
    site.tell("saving the images")
    save_images(site.stacks, site.settings.images, folder / "images.tar")
    models = save_models(site, folder)
    site.tell("saving glue and its packages")
    save_glue(folder)
    facts = {"machine": platform.machine(), "python": python(), "profile": site.settings.profile}
    images = {name: site.stacks.image_id(name) for name in site.settings.images}
    files.write_checksums(folder, facts | {"images": images})
    size = sum(path.stat().st_size for path in files.listed(folder))
    return {"bundle": str(folder), "size": host.readable(size), "models": models}


def save_models(site: Site, folder: Path) -> list[str]:
    """Those that the recipe needs, readable for every user: vLLM has another user ID there. Returns
    their names."""
    recipe, known = site.recipe(), files.read_json(site.state / MODELS, {})
    needed = site.settings.hub_models(recipe.base)
    spare = sorted(known.keys() - needed.keys())
    words = f"saving the models that the recipe {recipe.name} needs"
    site.tell(f"{words}, without {' and '.join(spare)}" if spare else words)
    # where the hub's library keeps a model
    left_out = [f"--exclude=./hub/models--{name.replace('/', '--')}" for name in spare]
    packing = ("--create", "--mode=a+rX", "--file=-", "--directory=/models", *left_out, ".")
    with (folder / "models.tar").open("wb") as file:
        command = tar_in_volume(site.settings, ":ro", *packing)
        commands.run(command, ROOM, output=file, timeout_seconds=LONG_SECONDS)
    kept = {name: known[name] for name in needed if name in known}
    files.write_json(folder / "state" / BUNDLED, kept)
    if (site.state / BASE_FACTS).exists():
        shutil.copy2(site.state / BASE_FACTS, folder / "state" / BASE_FACTS)
    return sorted(kept)


def save_glue(folder: Path) -> None:
    """The Python packages, the bench's included, and this repository."""
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    wanted = ["--require-hashes", "--requirement", str(REPOSITORY / "requirements-bench.txt")]
    target, do = f"--dest={folder / 'wheels'}", "check that this machine reaches its package index"
    commands.run([*pip, *wanted, target], do, timeout_seconds=LONG_SECONDS)
    git = ["git", "-C", str(REPOSITORY), "bundle", "create", "--quiet", str(folder / "glue.bundle")]
    commands.run([*git, "HEAD"], "run it from a git clone")


def name_of(reference: str) -> str:
    """The reference without its digest, which docker save does not keep."""
    return reference.partition("@")[0]


def save_images(stacks: Stacks, references: Iterable[str], path: Path) -> None:
    """By name: an image that is saved by its digest is loaded without a name
    (https://github.com/docker/cli/issues/5933)."""
    for reference in references:
        tag = [docker_cli(), "tag", stacks.image_id(reference), name_of(reference)]
        commands.run(tag, "make setup, then make bundle")
    save = [docker_cli(), "save", "--output", str(path), *map(name_of, references)]
    commands.run(save, ROOM, timeout_seconds=LONG_SECONDS)


def load_images(stacks: Stacks, references: Iterable[str], path: Path) -> dict[str, str]:
    """Returns the ID of each loaded image, also of earlier bundles: an upgrade may go back to them.
    An ID may differ from that on the other machine."""
    load = [docker_cli(), "load", "--quiet", "--input", str(path)]
    commands.run(load, ROOM, timeout_seconds=LONG_SECONDS)
    if missing := stacks.missing_images(tuple(map(name_of, references))):
        do = "make the bundle again, with this version of glue"
        raise GlueError("an image is not in the bundle", ", ".join(missing), do)
    loaded = {reference: stacks.image_id(name_of(reference)) for reference in references}
    return stacks.settings.loaded_images | loaded


def python() -> str:
    return ".".join(map(str, sys.version_info[:2]))


def load(site: Site, folder: Path) -> dict[str, Any]:
    """Checks every byte, then loads images and models. After it, make setup needs no network."""
    manifest = verified(folder, site.settings.profile)
    site.tell("loading the images")
    images = load_images(site.stacks, manifest["images"], folder / "images.tar")
    site.tell("loading the models")
    site.stacks.ensure_volumes("models")
    unpacking = ("--extract", "--file=-", "--directory=/models")
    with (folder / "models.tar").open("rb") as file:
        command = tar_in_volume(site.settings, "", *unpacking)
        commands.run(command, ROOM, source=file, timeout_seconds=LONG_SECONDS)
    files.make_folder(site.state)
    for name, checksum in files.below("state", manifest["sha256"]).items():
        own = site.state / (BUNDLED if name == MODELS else name)  # as earlier versions named it
        files.copy_checked(folder / "state" / name, own, checksum, 0o644)
    models = ensure_models_known(site.state)
    files.write_json(site.state / LOADED, images)
    return {"images": len(manifest["images"]), "models": models, "next": "make setup"}


def ensure_models_known(state: Path) -> list[str]:
    """Adds the models of a bundle to those of earlier ones. Returns their names; none where there
    is nothing to add. Setup does it too, after the make load of an earlier version."""
    loaded = files.read_json(state / BUNDLED, {})
    if loaded:
        files.write_json(state / MODELS, files.read_json_if_whole(state / MODELS, {}) | loaded)
    (state / BUNDLED).unlink(missing_ok=True)
    return sorted(loaded)


def verified(folder: Path, profile: str) -> dict[str, Any]:
    """The manifest. Raises PreconditionFailed if it was changed or is for another machine."""
    try:
        manifest = files.read_manifest(folder, {"machine": str, "profile": str, "images": dict})
    except (OSError, ValueError) as error:
        saw, do = f"{folder}: {error}", "copy the bundle again"
        raise PreconditionFailed("the bundle is not complete", saw, do) from error
    made_for = tuple(map(manifest.get, ("machine", "profile", "python")))
    here = (platform.machine(), profile, python())
    if made_for != here:
        saw = f"it is for {made_for}, here {here}"
        do = "make the bundle on a machine like this one, with this Python"
        raise PreconditionFailed("the bundle is for another machine or Python", saw, do)
    if wrong := files.damaged(folder, manifest["sha256"]):
        saw = f"missing, or with a different SHA-256, in {folder}: {', '.join(wrong)}"
        raise PreconditionFailed("files of the bundle have changed", saw, "copy the bundle again")
    return manifest


def are_loaded(site: Site) -> bool:
    """Whether every image of the profile is one that make load loaded."""
    known, wanted = site.settings.loaded_images, site.settings.images
    return not site.stacks.missing_images(wanted) and all(
        known.get(name) == site.stacks.image_id(name) for name in wanted
    )


def tar_in_volume(settings: Settings, access: str, *arguments: str) -> list[str]:
    """As root without privileges. access: ":ro" or "". Without a log: Docker would log the tar."""
    image = settings.local(settings.image("NIGHT_DESK_IMAGE"))
    volumes = {f"/models{access}": f"{settings['PROJECT']}-models"}
    options = ("--interactive", "--user=0:0", "--log-driver=none")
    tar = ("tar", "--no-same-owner", *arguments)
    return one_shot.command(image, *tar, options=options, volumes=volumes)
