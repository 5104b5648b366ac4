"""The images' build files: lint, tags, and the step that needs a GPU's compiler."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import docker
import pytest

from glue.clients.docker import Stacks
from glue.core import env_files, image_tags, settings
from glue.core.settings import REPOSITORY
from glue.operations import clean

DOCKERFILES = sorted((REPOSITORY / "images").glob("*/*Dockerfile"))
ARCHITECTURES = ("75", "80", "87", "90", "100", "120", "103", "110", "121")
SETUP = "".join(
    f'    cc_flag.append("-gencode")\n    cc_flag.append("arch=compute_{n},code=sm_{n}")\n'
    for n in ARCHITECTURES
)


@pytest.mark.parametrize(
    "dockerfile", DOCKERFILES, ids=lambda path: str(path.relative_to(REPOSITORY))
)
def test_every_dockerfile_passes_the_linter(dockerfile: Path) -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    done = subprocess.run(
        [hadolint, "--config", REPOSITORY / ".hadolint.yaml", dockerfile],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def keep(architecture: str, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    setup = tmp_path / "setup.py"
    setup.write_text(f"cc_flag = []\nif True:\n{SETUP}print(cc_flag)\n")
    script = REPOSITORY / "images" / "trainer" / "keep_one_architecture.py"
    command = [sys.executable, str(script), str(setup), architecture]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("architecture", ["121", "90"])
def test_kernels_are_built_for_one_architecture(architecture: str, tmp_path: Path) -> None:
    assert keep(architecture, tmp_path).returncode == 0
    shown = subprocess.run(
        [sys.executable, str(tmp_path / "setup.py")], capture_output=True, text=True, check=True
    ).stdout
    assert shown.strip() == f"['-gencode', 'arch=compute_{architecture},code=sm_{architecture}']"


def test_an_unknown_architecture_is_refused_with_the_known_ones(
    tmp_path: Path,
) -> None:
    done = keep("999", tmp_path)
    assert done.returncode != 0 and "sm_999" in done.stderr and "121" in done.stderr


# ---------------------------------------------------------------------- tags


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A copy of the files that images are built from, which a test may change."""
    for name in (
        *(build.folder for build in image_tags.BUILDS.values()),
        "images/trainer/training",
        "env",
    ):
        shutil.copytree(
            REPOSITORY / name,
            tmp_path / name,
            dirs_exist_ok=True,
            ignore=shutil.ignore_patterns("__pycache__"),
        )
    return tmp_path


def tags(home: Path) -> dict[str, str]:
    return image_tags.with_tags(env_files.read_env_file(home / "env" / "images.env"), home)


ON_TRAINER = {f"REHEARSAL_{name}_IMAGE" for name in ("TRAINER", "MODEL", "TALKING_MODEL")}
ABOVE_TORCH = ON_TRAINER | {f"REHEARSAL_{name}_IMAGE" for name in ("VLLM", "OPEN_WEBUI")}


@pytest.mark.parametrize(
    ("file", "built_anew"),
    [
        (
            "images/base/requirements.txt",
            {"REHEARSAL_BASE_IMAGE", "REHEARSAL_TORCH_IMAGE"} | ABOVE_TORCH,
        ),
        (
            "images/base/make-root.sh",
            {"REHEARSAL_BASE_IMAGE", "REHEARSAL_TORCH_IMAGE"} | ABOVE_TORCH,
        ),
        ("images/vllm/constraints.txt", {"REHEARSAL_VLLM_IMAGE"}),
        ("images/vllm/cpu-experts/vllm_cpu_experts.py", {"REHEARSAL_VLLM_IMAGE"}),
        ("images/trainer/Dockerfile", ON_TRAINER),
        ("env/practice-world.toml", {"REHEARSAL_MODEL_IMAGE"}),
        ("images/talking-model/requirements.txt", {"REHEARSAL_TALKING_MODEL_IMAGE"}),
        ("images/vllm/serve-current.sh", set()),  # mounted, not copied
    ],
)
def test_a_changed_input_changes_the_tag_of_each_image_built_from_it(
    file: str, built_anew: set[str], home: Path
) -> None:
    before = tags(home)
    assert before == tags(REPOSITORY), "the same inputs in another folder have the same tags"
    with (home / file).open("a", encoding="utf-8") as stream:
        stream.write("# changed\n")
    after = tags(home)
    assert {key for key in after if after[key] != before[key]} == built_anew


def test_a_site_s_own_image_reference_is_used_unchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    assert image_tags.with_tags({"REHEARSAL_VLLM_IMAGE": "own/vllm:3"}, REPOSITORY) == {
        "REHEARSAL_VLLM_IMAGE": "own/vllm:3"
    }
    monkeypatch.setenv("GLUE_REHEARSAL_VLLM_IMAGE", "own/vllm:3")
    assert settings.load("rehearsal")["REHEARSAL_VLLM_IMAGE"] == "own/vllm:3"


def test_cleaning_removes_images_of_other_versions_that_nothing_uses() -> None:
    """A stub of Docker: one image is in use, and Docker keeps it."""
    loaded = settings.load("rehearsal")
    there = [
        loaded["REHEARSAL_VLLM_IMAGE"],
        "dual-use/vllm-cpu:old",
        "dual-use/torch:used",
        "dual-use/trainer-spark:1",
    ]
    gone: list[str] = []

    def remove(reference: str) -> None:
        if reference.endswith(":used"):
            raise docker.errors.APIError("conflict")
        gone.append(reference)

    images = SimpleNamespace(list=lambda filters: [SimpleNamespace(tags=there)], remove=remove)
    stacks = object.__new__(Stacks)
    stacks.settings, stacks.docker = loaded, cast(Any, SimpleNamespace(images=images))
    assert clean.remove_old_images(stacks) == gone == ["dual-use/vllm-cpu:old"]


def test_the_practice_model_s_image_has_every_imported_module() -> None:
    dockerfile = (REPOSITORY / "images" / "practice-model" / "Dockerfile").read_text(
        encoding="utf-8"
    )
    copied = {
        Path(name).stem for name in re.findall(r"images/trainer/training/\w+\.py", dockerfile)
    }
    for name in copied:
        source = (REPOSITORY / "images" / "trainer" / "training" / f"{name}.py").read_text(
            encoding="utf-8"
        )
        imported = re.findall(r"^from training(?:\.(\w+))? import (\w+)", source, re.MULTILINE)
        assert {module or plain for module, plain in imported} <= copied, name
