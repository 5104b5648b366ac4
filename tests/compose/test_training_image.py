"""Runs the tests of images/trainer/training in the trainer image, which has their packages,
without a network."""

import subprocess

from glue.clients.compose import docker_cli
from glue.core import settings
from glue.core.settings import REPOSITORY


def test_the_trainer_image_s_own_tests_pass() -> None:
    mounts = [
        f"--volume={REPOSITORY}:/repo:ro",
        f"--volume={REPOSITORY}/images/trainer/training:/opt/training:ro",
        f"--volume={REPOSITORY}/env/models:/env/models:ro",
    ]
    image = settings.load("rehearsal")["REHEARSAL_TRAINER_IMAGE"]
    run = [docker_cli(), "run", "--rm", "--network=none", *mounts, "--entrypoint=python3", image]
    pytest = [
        "-m",
        "pytest",
        "-c",
        "/dev/null",
        "--rootdir=/repo",
        "-p",
        "no:cacheprovider",
        "/repo/tests/training/in_image",
    ]
    done = subprocess.run(
        [*run, *pytest], capture_output=True, text=True, timeout=1500, check=False
    )
    print(done.stdout[-4000:])
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
