"""The night's image by the Spark's own path, and what the recipes train, counted in it on the real architecture."""

import json
import subprocess
from dataclasses import replace

import pytest

from glue import settings, supplies
from glue.stacks import docker_cli
from tests.e2e.conftest import run_glue

TRAINABLE = {"case-study": 441_936_896, "team": 439_440_384, "lean": 11_359_232, "free": 12_460_032}


STAND_IN = "dual-use/trainer-stand-in:1"


@pytest.mark.long
def test_the_night_image_is_built_by_setups_own_code_on_a_stand_in_without_cuda() -> None:
    loaded = settings.load("rehearsal")
    stand_in = {"NIGHT_BASE_IMAGE": loaded["REHEARSAL_TORCH_IMAGE"], "TRAINER_IMAGE": STAND_IN}
    lines: list[str] = []
    supplies.build_night_image(replace(loaded, values=loaded.values | stand_in), lines.append, kernels="skip")
    assert any("install-stack.sh" in line for line in lines) and any("check_stack.py" in line for line in lines)
    subprocess.run([docker_cli(), "image", "rm", STAND_IN], check=True, capture_output=True)


@pytest.mark.parametrize("name", ["team", *(pytest.param(name, marks=pytest.mark.long) for name in TRAINABLE if name != "team")])
def test_a_recipe_trains_what_it_says_of_the_real_architecture(name: str) -> None:
    done = run_glue("recipe", "show", name, "--json", timeout_seconds=300)
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout.splitlines()[-1])
    assert facts["trainable_parameters"] == TRAINABLE[name]
    assert facts["total_parameters"] == 31_577_937_344


def test_a_recipe_whose_targets_are_not_in_the_model_is_refused() -> None:
    done = run_glue("recipe", "show", "rehearsal-not-there", "--json")
    assert done.returncode == 2 and "there is no such recipe" in done.stderr
