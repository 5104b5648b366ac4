"""Does the night's search find better settings, by right answers that it never sees?

    PYTHONPATH=images/trainer python -m tests.training.in_image.night_study.search_study \
        MODEL OUTPUT.json [--seeds 2]

The night's own search (training.search) runs on the company's corrections; then every setting
trains on all of them and answers the questions. A row says which setting the search took, and what
each gets right: sound is a search whose setting is not worse than the recipe's own, and near the
best. Needs torch, transformers and peft; some minutes a seed on an H100.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.training.in_image.night_study import company
from tests.training.in_image.night_study.real_model import RealModel
from training import loop, models, search
from training.night_job import Search
from training.night_rows import Told
from training.progress import Progress

RANGES = Search([1e-4, 2e-4, 5e-4, 1e-3], [4, 8], [16], most_candidates=8, share_of_minutes=0.8)


def searched(model: RealModel, seed: int, told: list[Told], folder: Path) -> dict[str, Any]:
    job = model.job(seed=seed, search=asdict(RANGES))
    tell, started = Progress(folder, job.deadline_time), time.monotonic()
    _, model.base, found = search.search(job, told, model.base, model.pack, tell)
    return {"seed": seed, "search": found, "seconds": round(time.monotonic() - started, 1)}


def answered(
    model: RealModel, seed: int, told: list[Told], setting: search.Setting
) -> dict[str, Any]:
    job = setting.of(model.job(seed=seed))
    net = models.adapted(model.base, job)
    rows = [sample for _, sample in told]
    loop.learn(net, rows, loop.schedule(job, [len(ids) for ids, _ in rows], model.pack))
    found = model.judged(net, company.questions())
    model.base = net.unload()
    return {"seed": seed, **asdict(setting), **found}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("output", type=Path)
    parser.add_argument("--seeds", type=int, default=2)
    given = parser.parse_args()
    model, rows = RealModel(given.model), []

    def keep(row: dict[str, Any]) -> None:
        rows.append(row)
        print(json.dumps(row), flush=True)
        given.output.write_text(json.dumps({"rows": rows}, indent=1))

    for seed in range(1, given.seeds + 1):
        told = model.read(company.rows(seed))
        keep(searched(model, seed, told, given.output.parent))
        for setting in search.settings(model.job(), RANGES):
            keep(answered(model, seed, told, setting))


if __name__ == "__main__":
    main()
