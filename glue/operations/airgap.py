"""A site without a network: everything on a connected machine into one folder, and out of it on the
other.

<folder>/  manifest.json  the hash of every file, the images by name and id, the machine they are
           for
           images.tar     every image of the profile       models.tar   the base models' volume
           state/         what is known of the models      wheels/      glue's own Python packages
           glue.bundle    this repository: git clone glue.bundle
"""

from __future__ import annotations

import platform
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from glue.clients import host
from glue.clients.compose import docker_cli, run_command
from glue.clients.docker import Stacks
from glue.clients.site import Site
from glue.core import commands, files
from glue.core.errors import GlueError, PreconditionFailed
from glue.core.settings import LOADED, REPOSITORY, Settings

LONG = 6 * 3600.0
ROOM = "see that the disk has room"
KNOWN = ("models.json", "base_model.json")


def bundle(site: Site, folder: Path) -> dict[str, Any]:
    """Raises PreconditionFailed where something is missing that would have to go into it, or the
    folder is not empty."""
    missing = site.stacks.missing_images(site.settings.images)
    if missing:
        raise PreconditionFailed(
            "an image is not on this machine", ", ".join(missing), "make setup, then bundle"
        )
    if folder.exists() and any(folder.iterdir()):
        raise PreconditionFailed("the folder is not empty", str(folder), "name a new one")
    (folder / "state").mkdir(parents=True)
    site.tell("saving the images")
    save_images(site.stacks, site.settings.images, folder / "images.tar")
    site.tell("saving the models")
    with (folder / "models.tar").open("wb") as file:
        # vLLM there runs as another user than whose these files are here
        packing = tar_in_volume(
            site.settings, "ro", "--create", "--mode=a+rX", "--file=-", "--directory=/models", "."
        )
        commands.run(packing, ROOM, output=file, timeout_seconds=LONG)
    for name in KNOWN:
        if (site.state / name).exists():
            shutil.copy2(site.state / name, folder / "state" / name)
    site.tell("saving glue and its packages")
    wheels = [
        "--require-hashes",
        "--requirement",
        str(REPOSITORY / "requirements.txt"),
        "--dest",
        str(folder / "wheels"),
    ]
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    commands.run(
        [*pip, *wheels], "see that this machine reaches its package index", timeout_seconds=LONG
    )
    commands.run(
        [
            "git",
            "-C",
            str(REPOSITORY),
            "bundle",
            "create",
            "--quiet",
            str(folder / "glue.bundle"),
            "HEAD",
        ],
        "run it from a clone",
    )
    manifest = {
        "machine": platform.machine(),
        "python": python(),
        "profile": site.settings.profile,
        "images": {
            reference: site.stacks.image_id(reference) for reference in site.settings.images
        },
    }
    files.write_checksums(folder, manifest)
    return {
        "bundle": str(folder),
        "size": host.readable(sum(path.stat().st_size for path in files.listed(folder))),
    }


def name_of(reference: str) -> str:
    """The reference without its digest, which an image does not take along."""
    return reference.partition("@")[0]


def save_images(stacks: Stacks, references: Iterable[str], path: Path) -> None:
    """Each by its name: an image that is saved by its digest arrives without any
    (https://github.com/docker/cli/issues/5933)."""
    for reference in references:
        commands.run(
            [docker_cli(), "tag", stacks.image_id(reference), name_of(reference)],
            "make setup, then bundle",
        )
    names = map(name_of, references)
    commands.run([docker_cli(), "save", "--output", str(path), *names], ROOM, timeout_seconds=LONG)


def load_images(stacks: Stacks, references: Iterable[str], path: Path) -> dict[str, str]:
    """The ID of each image here, and of what was loaded before: an upgrade goes back to it. An ID
    differs from the other
    machine's where the two Docker engines store images differently."""
    commands.run(
        [docker_cli(), "load", "--quiet", "--input", str(path)], ROOM, timeout_seconds=LONG
    )
    missing = stacks.missing_images(tuple(map(name_of, references)))
    if missing:
        raise GlueError(
            "an image is not in the bundle",
            ", ".join(missing),
            "bundle again, with this version of glue",
        )
    return stacks.settings.loaded_images | {
        reference: stacks.image_id(name_of(reference)) for reference in references
    }


def python() -> str:
    """The wheels of a bundle are for this one."""
    return ".".join(map(str, sys.version_info[:2]))


def load(site: Site, folder: Path) -> dict[str, Any]:
    """Every byte is checked first. Then images and models are here, and make setup needs no
    network."""
    manifest = verified(folder, site.settings.profile)
    site.tell("loading the images")
    images = load_images(site.stacks, manifest["images"], folder / "images.tar")
    site.tell("loading the models")
    site.stacks.ensure_volumes("models")
    with (folder / "models.tar").open("rb") as file:
        unpacking = tar_in_volume(
            site.settings, "rw", "--extract", "--file=-", "--directory=/models"
        )
        commands.run(unpacking, ROOM, source=file, timeout_seconds=LONG)
    files.make_folder(site.state)
    for name in sorted(name for name in manifest["sha256"] if name.startswith("state/")):
        files.copy_checked(
            folder / name, site.state / Path(name).name, manifest["sha256"][name], 0o644
        )
    files.write_json(site.state / LOADED, images)
    return {"images": len(manifest["images"]), "models": "loaded", "next": "make setup"}


def verified(folder: Path, profile: str) -> dict[str, Any]:
    """The manifest. Raises PreconditionFailed for a bundle of another machine or profile, or one
    with a byte changed."""
    try:
        manifest = files.read_manifest(folder, {"machine": str, "profile": str, "images": dict})
    except (OSError, ValueError) as error:
        raise PreconditionFailed(
            "this is no whole bundle", f"{folder}: {error}", "copy it again"
        ) from error
    made_for, here = (manifest["machine"], manifest["profile"]), (platform.machine(), profile)
    if made_for != here:
        raise PreconditionFailed(
            "the bundle is for another machine",
            f"{made_for}, here {here}",
            "bundle on a machine like this one",
        )
    if manifest.get("python") != python():
        saw = f"its packages are for Python {manifest.get('python')}, here {python()}"
        raise PreconditionFailed(
            "the bundle is for another Python", saw, "bundle anew, or make .venv with that Python"
        )
    if wrong := files.damaged(folder, manifest["sha256"]):
        saw = f"missing, or with another SHA-256, in {folder}: {', '.join(wrong)}"
        raise PreconditionFailed("a bundle is not what was bundled", saw, "copy it again")
    return manifest


def are_loaded(site: Site) -> bool:
    """Whether every image of the profile is the very one that came by load."""
    known, wanted = site.settings.loaded_images, site.settings.images
    return not site.stacks.missing_images(wanted) and all(
        known.get(name) == site.stacks.image_id(name) for name in wanted
    )


def tar_in_volume(settings: Settings, access: str, *arguments: str) -> list[str]:
    """Root inside, without root's powers and without a network. No log: Docker would write the
    whole tar into it."""
    return [
        *run_command(),
        *("--interactive", "--user=0:0", "--log-driver=none"),
        f"--volume={settings['PROJECT']}-models:/models:{access}",
        *(
            "--entrypoint=tar",
            settings.local(settings.image("NIGHT_DESK_IMAGE")),
            "--no-same-owner",
            *arguments,
        ),
    ]
