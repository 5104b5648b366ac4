"""Jobs of one kind each, for test_jobs.py: python -m tests.clients.small_jobs ORDER STATE."""

from __future__ import annotations

import time
from typing import Any

from glue.core.errors import GlueError, Misconfigured
from learning import job as jobs
from learning.job import Job


def act(job: Job) -> dict[str, Any]:
    kind = job.order["kind"]
    job.tell(f"one line of {kind}")
    if kind == "error":
        raise Misconfigured("Invalid glossary.toml", "line 3", "correct it")
    if kind == "failure":
        raise GlueError("the data set cannot be built", "line 3", "correct it")
    if kind == "traceback":
        raise ZeroDivisionError("by nothing")
    if kind == "hangs":
        time.sleep(600)
    if kind == "writes":
        (job.state / "nights" / "n" / "made").write_text("made")
    return {
        "sees": sorted(str(path.relative_to(job.state)) for path in job.state.rglob("*")),
        "key": job.model.key,
    }


if __name__ == "__main__":
    jobs.run(act)
