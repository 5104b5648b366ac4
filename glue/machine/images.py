"""Images: pulled, built on this machine, and pinned to their digests."""

from __future__ import annotations

import os
import re
from pathlib import Path

from glue.clients import one_shot
from glue.clients.compose import docker_cli
from glue.clients.site import Site
from glue.core import files, image_tags
from glue.core.commands import Hear, run, stream, unheard
from glue.core.errors import GlueError
from glue.core.settings import REPOSITORY, Settings
from glue.machine import models

PULL_DEADLINE_SECONDS = 6 * 3600
BUILD_DEADLINE_SECONDS = 3 * 3600
KERNEL_DEADLINE_SECONDS = 300
COPY_DEADLINE_SECONDS = 600


def pull(reference: str, tell: Hear) -> None:
    """Raises GlueError with the last lines of docker pull."""
    begun: set[str] = set()
    done: set[str] = set()

    def heard(line: str) -> None:
        layer, _, what = line.partition(": ")
        begun.update([layer] if what in ("Pulling fs layer", "Already exists") else [])
        done.update([layer] if what in ("Pull complete", "Already exists") else [])
        tell(f"pulling {reference}: {len(done)} of {len(begun)} layers")

    command = [docker_cli(), "pull", reference]
    code, last_lines = stream(command, dict(os.environ), heard, PULL_DEADLINE_SECONDS)
    if code != 0:
        do = "check that this machine reaches the registry, then make setup"
        raise GlueError("an image could not be pulled", last_lines, do)


def build_rehearsal_images(settings: Settings, tell: Hear) -> None:
    images = {key: value for key, value in settings.values.items() if key.startswith("REHEARSAL_")}
    model = image_tags.BUILDS[settings.model_image]
    images |= {
        "MODEL_IMAGE": settings[settings.model_image],
        "MODEL_FOLDER": Path(model.folder).name,
        "MODEL_CONTEXT": model.context or model.folder,
    }
    build([str(REPOSITORY / "images" / "build-rehearsal.sh")], settings, images, tell)


def run_kernel(image: str) -> tuple[int, str]:
    """Runs first_kernel.py as a night would. Returns its exit code and last lines."""
    script = "/opt/first_kernel.py"
    volumes = {f"{script}:ro": REPOSITORY / "images" / "trainer" / "first_kernel.py"}
    command = one_shot.command(image, "python3", script, options=("--gpus=all",), volumes=volumes)
    return stream(command, dict(os.environ), unheard, KERNEL_DEADLINE_SECONDS)


# $0: the model's folder in the volume. It is renamed into place, so that a half-copied one is never
# used, and readable for vLLM and the trainer, which do not run as root: safetensors writes weights
# that only their owner can read.
PLACE = (
    'test -e "$0/config.json" || { rm -rf "$0.part" && cp -r /opt/practice-model "$0.part" && chmod'
    ' -R a+rX "$0.part" && mv "$0.part" "$0"; }'
)


def copy_model(settings: Settings) -> None:
    """Copies it from its image into the volume of base models, unless it is there."""
    image, volumes = settings[settings.model_image], {"/models": f"{settings['PROJECT']}-models"}
    script = ("-c", PLACE, settings["SERVED_MODEL"])
    command = one_shot.command(image, "sh", *script, options=("--user=0:0",), volumes=volumes)
    run(command, "make setup", timeout_seconds=COPY_DEADLINE_SECONDS)


def build_night_image(settings: Settings, tell: Hear, kernels: str = "build") -> None:
    """TRAINER_IMAGE from images/trainer on NIGHT_BASE_IMAGE. kernels: "build", or "skip" where the
    base has no CUDA. Raises GlueError with the build's last lines."""
    environment = build_environment(settings)
    options = {
        "--tag": settings["TRAINER_IMAGE"],
        "--build-arg=BASE_IMAGE": settings["NIGHT_BASE_IMAGE"],
        "--build-arg=KERNELS": kernels,
        "--build-context=wheelhouse": environment["WHEELHOUSE"]
        or REPOSITORY / "images/no-wheelhouse",
    }
    if environment["EXTRA_CA"]:
        options["--secret=id=extra_ca,src"] = environment["EXTRA_CA"]
    command = [docker_cli(), "build", "--progress=plain"]
    command += [f"{name}={value}" for name, value in options.items()]
    folder = str(REPOSITORY / "images" / "trainer")
    build([*command, folder], settings, {}, lambda line: tell(line) if " [" in line else None)


def build(command: list[str], settings: Settings, more: dict[str, str], tell: Hear) -> None:
    environment = build_environment(settings) | more
    code, last_lines = stream(command, environment, tell, BUILD_DEADLINE_SECONDS)
    if code != 0:
        do = "see EXTRA_CA and WHEELHOUSE in env/site.env.example"
        raise GlueError("an image could not be built", last_lines, do)


def build_environment(settings: Settings) -> dict[str, str]:
    """This shell's, with the docker command first on the PATH, and what a build behind an office's
    proxy needs."""
    found = os.environ.get("PIP_FIND_LINKS", "")
    wheels = found if Path(found).is_dir() else ""
    return dict(os.environ) | {
        "PATH": f"{Path(docker_cli()).parent}:{os.environ['PATH']}",
        "EXTRA_CA": settings.values.get("EXTRA_CA") or models.host_ca_bundle(),
        "WHEELHOUSE": settings.values.get("WHEELHOUSE") or wheels,
    }


BUILT_HERE = "dual-use/"
TAG_ONLY = re.compile(rf"^(\w+_IMAGE=)(?!{BUILT_HERE})([^@\s]+)$", re.MULTILINE)


def pin(site: Site, path: Path = REPOSITORY / "env" / "images.env") -> list[str]:
    """Adds @sha256:... to every reference in the file that a registry knows, and returns those.
    Raises PreconditionFailed, with nothing written."""
    text = path.read_text(encoding="utf-8")
    references = sorted({match[2] for match in TAG_ONLY.finditer(text)})
    pinned = {reference: f"{reference}@{site.stacks.digest(reference)}" for reference in references}
    if pinned:
        files.write(path, TAG_ONLY.sub(lambda match: match[1] + pinned[match[2]], text))
    return list(pinned.values())
