"""The images' build files: their lint, and the one step that cannot be tried without a GPU's compiler."""

import subprocess
import sys
from pathlib import Path

import pytest

from glue.settings import HOME

DOCKERFILES = sorted((HOME / "images").glob("*/*Dockerfile"))
ARCHITECTURES = ("75", "80", "87", "90", "100", "120", "103", "110", "121")
SETUP = "".join(f'    cc_flag.append("-gencode")\n    cc_flag.append("arch=compute_{n},code=sm_{n}")\n' for n in ARCHITECTURES)


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: str(path.relative_to(HOME)))
def test_every_dockerfile_passes_the_linter(dockerfile: Path) -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    done = subprocess.run(
        [hadolint, "--config", HOME / ".hadolint.yaml", dockerfile], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def keep(architecture: str, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    setup = tmp_path / "setup.py"
    setup.write_text(f"cc_flag = []\nif True:\n{SETUP}print(cc_flag)\n")
    script = HOME / "images" / "trainer" / "keep_one_architecture.py"
    command = [sys.executable, str(script), str(setup), architecture]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("architecture", ["121", "90"])
def test_kernels_are_built_for_one_architecture(architecture: str, tmp_path: Path) -> None:
    assert keep(architecture, tmp_path).returncode == 0
    shown = subprocess.run([sys.executable, str(tmp_path / "setup.py")], capture_output=True, text=True, check=True).stdout
    assert shown.strip() == f"['-gencode', 'arch=compute_{architecture},code=sm_{architecture}']"


def test_an_architecture_that_a_package_does_not_know_is_refused_with_those_that_it_does(tmp_path: Path) -> None:
    done = keep("999", tmp_path)
    assert done.returncode != 0 and "sm_999" in done.stderr and "121" in done.stderr
