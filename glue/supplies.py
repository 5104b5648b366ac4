"""What a machine does not have at first: images that are pulled or built here, and the models of the hub."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from glue.commands import Hear, run, stream
from glue.settings import HOME, Settings
from glue.stacks import docker_cli, run_command
from glue.types import GlueError

PULL_DEADLINE_SECONDS = 6 * 3600
BUILD_DEADLINE_SECONDS = 3 * 3600
FETCH_DEADLINE_SECONDS = 24 * 3600
LOOK_DEADLINE_SECONDS = 120
KERNEL_DEADLINE_SECONDS = 300
COPY_DEADLINE_SECONDS = 600
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy")


def pull(reference: str, tell: Hear) -> None:
    """Raises GlueError with the last lines that it printed."""
    begun: set[str] = set()
    done: set[str] = set()

    def heard(line: str) -> None:
        layer, _, what = line.partition(": ")
        begun.update([layer] if what in ("Pulling fs layer", "Already exists") else [])
        done.update([layer] if what in ("Pull complete", "Already exists") else [])
        tell(f"pulling {reference}: {len(done)} of {len(begun)} layers")

    code, last_lines = stream([docker_cli(), "pull", reference], dict(os.environ), heard, PULL_DEADLINE_SECONDS)
    if code != 0:
        raise GlueError("an image could not be pulled", last_lines, "see that this machine reaches the registry, then make setup")


def run_fetch(settings: Settings, *options: str, hear: Callable[[dict[str, Any]], None]) -> tuple[int, str]:
    """Runs glue/training/fetch.py on state/models.json; hear gets its rows. Returns its exit code and its last lines.

    In vLLM's own image: it is here before the night's is built, and the library that fetches a model is then the one
    that finds it by day.
    """
    offline = "--check" in options
    environment = {key: os.environ[key] for key in PROXIES if key in os.environ and not offline}
    environment |= {key: settings[key] for key in ("HF_TOKEN", "HF_ENDPOINT") if key in settings.values}
    # without Xet, because plain HTTPS goes through any office's proxy, and is what was tested
    environment |= {"HF_HOME": "/models", "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    mounts = {
        f"{settings['PROJECT']}-models": "/models",
        f"{HOME}/glue/training/fetch.py": "/opt/fetch.py:ro",
        f"{settings.state}/models.json": "/opt/models.json:ro",
    }
    if authorities := settings.values.get("EXTRA_CA") or host_ca_bundle():
        mounts[authorities] = "/opt/authorities.pem:ro"
        environment["SSL_CERT_FILE"] = "/opt/authorities.pem"
    command = [*run_command(online=not offline), "--entrypoint=python3"]
    command += [f"--volume={here}:{there}" for here, there in mounts.items()] + [f"--env={key}" for key in environment]
    command += [settings.local(settings.image("VLLM_IMAGE")), "/opt/fetch.py", *options, "/opt/models.json"]

    def heard(line: str) -> None:
        if line.startswith("{"):  # the library has words of its own to say
            hear(json.loads(line))

    return stream(command, dict(os.environ) | environment, heard, LOOK_DEADLINE_SECONDS if offline else FETCH_DEADLINE_SECONDS)


def build_rehearsal_images(settings: Settings, tell: Hear) -> None:
    """Runs images/build-rehearsal.sh. Raises GlueError with the last lines it printed."""
    images = {key: value for key, value in settings.values.items() if key.startswith("REHEARSAL_")}
    build([str(HOME / "images" / "build-rehearsal.sh")], settings, images, tell)


def run_kernel(image: str) -> tuple[int, str]:
    """Runs images/trainer/first_kernel.py in an image, started as a night is. Returns exit code and last lines."""
    command = [docker_cli(), "run", "--rm", "--init", "--pull=never", "--gpus=all", "--network=none", "--cap-drop=ALL"]
    command += [f"--volume={HOME}/images/trainer/first_kernel.py:/opt/first_kernel.py:ro"]
    command += ["--entrypoint=python3", image, "/opt/first_kernel.py"]
    return stream(command, dict(os.environ), lambda line: None, KERNEL_DEADLINE_SECONDS)


# $0: the model's folder in the volume. Renamed into place, so that a half-copied one is never used. Opened to vLLM and the
# trainer, which run as the state folder's owner: safetensors writes weights that only their owner can read, here root
PLACE = (
    'test -e "$0/config.json" || '
    '{ rm -rf "$0.part" && cp -r /opt/practice-model "$0.part" && chmod -R a+rX "$0.part" && mv "$0.part" "$0"; }'
)


def copy_practice_model(settings: Settings) -> None:
    """Copies it from its image into the volume of base models, unless it is there."""
    command = [docker_cli(), "run", "--rm", "--init", "--pull=never", "--network=none", "--cap-drop=ALL", "--user=0:0"]
    command += [f"--volume={settings['PROJECT']}-models:/models", "--entrypoint=sh", settings["REHEARSAL_MODEL_IMAGE"]]
    run([*command, "-c", PLACE, settings["TRAINED_MODEL"]], "make setup", timeout_seconds=COPY_DEADLINE_SECONDS)


def build_night_image(settings: Settings, tell: Hear, kernels: str = "build") -> None:
    """TRAINER_IMAGE from images/trainer on NIGHT_BASE_IMAGE. kernels: "build", or "skip" where the base has no CUDA.

    Raises GlueError with the last lines it printed.
    """
    environment = build_environment(settings)
    command = [docker_cli(), "build", "--progress=plain", f"--tag={settings['TRAINER_IMAGE']}"]
    command += [f"--build-arg=BASE_IMAGE={settings['NIGHT_BASE_IMAGE']}", f"--build-arg=KERNELS={kernels}"]
    command += [f"--build-context=wheelhouse={environment['WHEELHOUSE'] or HOME / 'images' / 'no-wheelhouse'}"]
    command += [f"--secret=id=extra_ca,src={environment['EXTRA_CA']}"] if environment["EXTRA_CA"] else []

    def steps(line: str) -> None:
        if " [" in line:
            tell(line)

    build([*command, str(HOME / "images" / "trainer")], settings, {}, steps)


def build(command: list[str], settings: Settings, more: dict[str, str], tell: Hear) -> None:
    code, last_lines = stream(command, build_environment(settings) | more, tell, BUILD_DEADLINE_SECONDS)
    if code != 0:
        raise GlueError("an image could not be built", last_lines, "see EXTRA_CA and WHEELHOUSE in env/site.env.example")


def build_environment(settings: Settings) -> dict[str, str]:
    """This shell's, with the docker command first, and what builds behind an office's proxy need; empty where there is none."""
    return dict(os.environ) | {
        "PATH": f"{Path(docker_cli()).parent}:{os.environ['PATH']}",
        "EXTRA_CA": settings.values.get("EXTRA_CA") or host_ca_bundle(),
        "WHEELHOUSE": settings.values.get("WHEELHOUSE") or pip_wheelhouse(),
    }


def host_ca_bundle() -> str:
    """What this host trusts, and so what a build behind the same office's proxy must trust. Empty where there is none."""
    candidates = (os.environ.get("PIP_CERT"), os.environ.get("SSL_CERT_FILE"), "/etc/ssl/certs/ca-certificates.crt")
    return next((path for path in candidates if path and Path(path).is_file()), "")


def pip_wheelhouse() -> str:
    """The folder in which this host's own pip looks for wheels, if it is told of one."""
    folder = os.environ.get("PIP_FIND_LINKS", "")
    return folder if folder and Path(folder).is_dir() else ""
