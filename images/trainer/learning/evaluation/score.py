"""The job that scores one model on a night's held-out answers. Its order: night, name."""

from __future__ import annotations

from statistics import fmean
from typing import Any

from learning import job as jobs
from learning.dataset import files
from learning.evaluation import evaluate
from learning.job import Job


def score(job: Job) -> dict[str, Any]:
    """mean: log-probability, in nats a token, of the right answers."""
    rows = files.read(job.state / job.order["night"] / "dataset").held_out
    return {"mean": fmean(evaluate.score(job, job.order["name"], rows, "held-out"))}


if __name__ == "__main__":
    jobs.run(score)
