"""The learning study, in the trainer's image: on a GPU in minutes, on a CPU in hours.

    make learning-study FROM=<folder of a small chat model that transformers loads>

Rows go to state/learning-study/rows.jsonl, so a study that was stopped goes on where it was; the
table to docs/measurements/learning-study.json. learning-answers.md says what came out.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from glue.clients import one_shot
from glue.clients.docker import Stacks
from glue.core import settings
from glue.core.settings import REPOSITORY, Settings

OUTPUT = REPOSITORY / "docs" / "measurements" / "learning-study.json"
MODULE = "tests.training.in_image.learning_study.study"
CODE, MODEL, ROWS, OUT = "/repo", "/model", "/rows", "/out"
ENVIRONMENT = {"PYTHONPATH": f"{CODE}/images/trainer:{CODE}", "OMP_NUM_THREADS": "1"}


def command(found: Settings, gpus: bool, model: Path, rows: Path, *arguments: str) -> list[str]:
    """argv of `docker run`, as who calls it. arguments: of the study."""
    options = [f"--env={name}={value}" for name, value in ENVIRONMENT.items()]
    options += [f"--user={os.getuid()}:{os.getgid()}", f"--workdir={CODE}", *["--gpus=all"] * gpus]
    volumes = {
        f"{CODE}:ro": REPOSITORY,
        f"{MODEL}:ro": model,
        ROWS: rows,
        OUT: OUTPUT.parent,
    }
    image = found.image("TRAINER_IMAGE")
    return one_shot.command(
        image, "python3", "-m", MODULE, *arguments, options=options, volumes=volumes
    )


def main() -> None:
    model = Path(os.environ.get("ARG_FROM", ""))
    if not (model / "config.json").exists():
        sys.exit(f"No model in {str(model)!r}. make learning-study FROM=<folder with config.json>")
    found = settings.load(None)
    gpus = Stacks(found).engine().gpus
    rows = found.state / "learning-study"
    rows.mkdir(parents=True, exist_ok=True)
    file, workers = f"{ROWS}/rows.jsonl", "8" if gpus else str(os.cpu_count() or 1)
    for arguments in (
        ("play", MODEL, file, "--workers", workers),
        ("table", f"{OUT}/{OUTPUT.name}", file),
    ):
        subprocess.run(command(found, gpus, model.resolve(), rows, *arguments), check=True)


if __name__ == "__main__":
    main()
