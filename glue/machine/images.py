"""Images that are pulled or built here, and their digests."""

from __future__ import annotations

import os
import re
from pathlib import Path

from glue.clients.compose import docker_cli
from glue.clients.docker import Stacks
from glue.core import files
from glue.core.commands import Hear, run, stream
from glue.core.errors import GlueError
from glue.core.settings import REPOSITORY, Settings
from glue.machine import models

PULL_DEADLINE_SECONDS = 6 * 3600
BUILD_DEADLINE_SECONDS = 3 * 3600
KERNEL_DEADLINE_SECONDS = 300
COPY_DEADLINE_SECONDS = 600


def pull(reference: str, tell: Hear) -> None:
    """Raises GlueError with the last lines that it printed."""
    begun: set[str] = set()
    done: set[str] = set()

    def heard(line: str) -> None:
        layer, _, what = line.partition(": ")
        begun.update([layer] if what in ("Pulling fs layer", "Already exists") else [])
        done.update([layer] if what in ("Pull complete", "Already exists") else [])
        tell(f"pulling {reference}: {len(done)} of {len(begun)} layers")

    code, last_lines = stream(
        [docker_cli(), "pull", reference], dict(os.environ), heard, PULL_DEADLINE_SECONDS
    )
    if code != 0:
        raise GlueError(
            "an image could not be pulled",
            last_lines,
            "see that this machine reaches the registry, then make setup",
        )


def build_rehearsal_images(settings: Settings, tell: Hear) -> None:
    """Runs images/build-rehearsal.sh. Raises GlueError with the last lines it printed."""
    images = {key: value for key, value in settings.values.items() if key.startswith("REHEARSAL_")}
    build([str(REPOSITORY / "images" / "build-rehearsal.sh")], settings, images, tell)


def run_kernel(image: str) -> tuple[int, str]:
    """Runs images/trainer/first_kernel.py in an image, started as a night is. Returns exit code and
    last lines."""
    command = [
        docker_cli(),
        "run",
        "--rm",
        "--init",
        "--pull=never",
        "--gpus=all",
        "--network=none",
        "--cap-drop=ALL",
    ]
    command += [f"--volume={REPOSITORY}/images/trainer/first_kernel.py:/opt/first_kernel.py:ro"]
    command += ["--entrypoint=python3", image, "/opt/first_kernel.py"]
    return stream(command, dict(os.environ), lambda line: None, KERNEL_DEADLINE_SECONDS)


# $0: the model's folder in the volume. Renamed into place, so that a half-copied one is never used.
# Opened to vLLM and the
# trainer, which run as the state folder's owner: safetensors writes weights that only their owner
# can read, here root
PLACE = (
    'test -e "$0/config.json" || { rm -rf "$0.part" && cp -r /opt/practice-model "$0.part" && chmod'
    ' -R a+rX "$0.part" && mv "$0.part" "$0"; }'
)


def copy_practice_model(settings: Settings) -> None:
    """Copies it from its image into the volume of base models, unless it is there."""
    command = [
        docker_cli(),
        "run",
        "--rm",
        "--init",
        "--pull=never",
        "--network=none",
        "--cap-drop=ALL",
        "--user=0:0",
    ]
    command += [
        f"--volume={settings['PROJECT']}-models:/models",
        "--entrypoint=sh",
        settings["REHEARSAL_MODEL_IMAGE"],
    ]
    run(
        [*command, "-c", PLACE, settings["TRAINED_MODEL"]],
        "make setup",
        timeout_seconds=COPY_DEADLINE_SECONDS,
    )


def build_night_image(settings: Settings, tell: Hear, kernels: str = "build") -> None:
    """TRAINER_IMAGE from images/trainer on NIGHT_BASE_IMAGE. kernels: "build", or "skip" where the
    base has no CUDA.

    Raises GlueError with the last lines it printed.
    """
    environment = build_environment(settings)
    command = [docker_cli(), "build", "--progress=plain", f"--tag={settings['TRAINER_IMAGE']}"]
    command += [
        f"--build-arg=BASE_IMAGE={settings['NIGHT_BASE_IMAGE']}",
        f"--build-arg=KERNELS={kernels}",
    ]
    wheelhouse = environment["WHEELHOUSE"] or REPOSITORY / "images" / "no-wheelhouse"
    command += [f"--build-context=wheelhouse={wheelhouse}"]
    command += (
        [f"--secret=id=extra_ca,src={environment['EXTRA_CA']}"] if environment["EXTRA_CA"] else []
    )

    def steps(line: str) -> None:
        if " [" in line:
            tell(line)

    build([*command, str(REPOSITORY / "images" / "trainer")], settings, {}, steps)


def build(command: list[str], settings: Settings, more: dict[str, str], tell: Hear) -> None:
    code, last_lines = stream(
        command, build_environment(settings) | more, tell, BUILD_DEADLINE_SECONDS
    )
    if code != 0:
        raise GlueError(
            "an image could not be built",
            last_lines,
            "see EXTRA_CA and WHEELHOUSE in env/site.env.example",
        )


def build_environment(settings: Settings) -> dict[str, str]:
    """This shell's, with the docker command first, and what builds behind an office's proxy need;
    empty where there is none."""
    return dict(os.environ) | {
        "PATH": f"{Path(docker_cli()).parent}:{os.environ['PATH']}",
        "EXTRA_CA": settings.values.get("EXTRA_CA") or models.host_ca_bundle(),
        "WHEELHOUSE": settings.values.get("WHEELHOUSE") or pip_wheelhouse(),
    }


def pip_wheelhouse() -> str:
    """The folder in which this host's own pip looks for wheels, if it is told of one."""
    folder = os.environ.get("PIP_FIND_LINKS", "")
    return folder if folder and Path(folder).is_dir() else ""


BUILT_HERE = "dual-use/"
TAG_ONLY = re.compile(rf"^(\w+_IMAGE=)(?!{BUILT_HERE})([^@\s]+)$", re.MULTILINE)


def pin(stacks: Stacks, path: Path = REPOSITORY / "env" / "images.env") -> list[str]:
    """Adds @sha256:... to every reference in the file that has none, and returns those. The tag
    stays, for people.

    Images built on this machine are left alone: no registry knows them. Raises PreconditionFailed,
    with nothing written.
    """
    text = path.read_text(encoding="utf-8")
    references = sorted({match[2] for match in TAG_ONLY.finditer(text)})
    pinned = {reference: f"{reference}@{stacks.digest(reference)}" for reference in references}
    if pinned:
        files.write(path, TAG_ONLY.sub(lambda match: match[1] + pinned[match[2]], text))
    return list(pinned.values())
