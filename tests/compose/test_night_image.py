"""The night image, built as on a Spark, and the parameter counts of the recipes in it, on the
real architecture."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from glue.clients.compose import docker_cli
from glue.core import settings
from glue.core.settings import REPOSITORY
from glue.machine import images
from tests.e2e.conftest import run_glue

TRAINABLE = {
    "case-study": 441_936_896,
    "team": 439_440_384,
    "team-merged": 439_440_384,
    "lean": 11_359_232,
    "free": 12_460_032,
}


STAND_IN = "dual-use/trainer-stand-in:1"


@pytest.mark.long
def test_setup_builds_the_night_image_on_a_stand_in_without_cuda() -> None:
    loaded = settings.load("rehearsal")
    stand_in = {"NIGHT_BASE_IMAGE": loaded["REHEARSAL_TORCH_IMAGE"], "TRAINER_IMAGE": STAND_IN}
    lines: list[str] = []
    images.build_night_image(
        replace(loaded, values=loaded.values | stand_in), lines.append, kernels="skip"
    )
    assert any("install-stack.sh" in line for line in lines) and any(
        "check_stack.py" in line for line in lines
    )
    subprocess.run([docker_cli(), "image", "rm", STAND_IN], check=True, capture_output=True)


def test_packages_that_pip_cannot_uninstall_do_not_fail_the_build(
    tmp_path: Path,
) -> None:
    """As in NVIDIA's container: a package of the distribution's without RECORD, under a pip that is
    not the distribution's.

    Debian 12 still ships that file for python3-packaging; Ubuntu 24.04 ships none for
    python3-wheel, so here it is removed.
    """
    trainer, base = (
        REPOSITORY / "images" / "trainer",
        settings.load("rehearsal")["REHEARSAL_BASE_IMAGE"],
    )
    names = ("packaging==", "setuptools==", "wheel==")
    pins = [
        line
        for line in (trainer / "constraints.txt").read_text().splitlines()
        if line.startswith(names)
    ]
    download = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--dest",
        str(tmp_path),
    ]
    subprocess.run([*download, "pip", *pins], check=True, timeout=120)
    subprocess.run(
        ["apt-get", "download", "-q", "python3-packaging"], cwd=tmp_path, check=True, timeout=120
    )
    container = [docker_cli(), "run", "--rm", "--network=none", f"--volume={trainer}:/opt/build:ro"]
    container += [
        f"--volume={tmp_path}:/wheelhouse:ro",
        "--env=PIP_BREAK_SYSTEM_PACKAGES=1",
        "--env=PIP_NO_INDEX=1",
    ]
    container += ["--env=PIP_FIND_LINKS=/wheelhouse", base, "bash", "-euc"]
    prepare = (
        "dpkg --force-depends -i /wheelhouse/*.deb; rm"
        " /usr/lib/python3/dist-packages/packaging-*.dist-info/RECORD"
    )
    prepare += "; python3 -m pip install --ignore-installed pip"

    def run(script: str) -> subprocess.CompletedProcess[str]:
        command = [*container, f"{prepare}; {script}"]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)

    install = f"python3 -m pip install {' '.join(pins)}"
    before = run(install)
    assert before.returncode != 0 and "ninstall packaging" in before.stderr, (
        before.stdout + before.stderr
    )
    beside = "/opt/build/install-beside.sh -- /opt/build/constraints.txt"
    after = run(f"{beside}; {install}; python3 -m pip list --format freeze")
    assert after.returncode == 0 and set(pins) <= set(after.stdout.splitlines()), (
        after.stdout + after.stderr
    )


@pytest.mark.parametrize(
    "name",
    ["team", *(pytest.param(name, marks=pytest.mark.long) for name in TRAINABLE if name != "team")],
)
def test_a_recipe_trains_its_stated_number_of_parameters(name: str) -> None:
    done = run_glue("recipe", "show", name, "--json", timeout_seconds=300, GLUE_MODEL="nano")
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout.splitlines()[-1])
    assert facts["trainable_parameters"] == TRAINABLE[name]
    assert facts["total_parameters"] == 31_577_937_344


def test_a_recipe_whose_targets_are_not_in_the_model_is_refused() -> None:
    done = run_glue("recipe", "show", "rehearsal-not-there", "--json")
    assert done.returncode == 2 and "Invalid value for RECIPE" in done.stderr
