"""Nights of many kinds on a real small language model, judged by right answers.

    PYTHONPATH=images/trainer python -m tests.training.in_image.learning_study.study play \
        MODEL ROWS.jsonl [--kinds "style;jargon"] [--seeds 1-5] [--workers 8] [--minutes 9]
    ... sweep MODEL ROWS.jsonl [--tries "as it is;reading 320"] [--seeds 1-2]
    ... table OUTPUT.json ROWS.jsonl...
    ... compare ROWS.jsonl...

MODEL: a folder that transformers loads, such as SmolLM2-135M-Instruct. play and sweep add a line
for each kind and seed to ROWS.jsonl and leave out those that it has, so they can be stopped and
begun again; several files make one table. docs/measurements/learning-answers.md says what came out.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from tests.training.in_image.learning_study import company, night, sweep, tables
from tests.training.in_image.learning_study.dataset import TEAM
from tests.training.in_image.learning_study.kinds import KINDS
from tests.training.in_image.learning_study.night import Plan, Side
from tests.training.in_image.learning_study.small_model import Model, Setting
from tests.training.in_image.learning_study.sweep import TRIES, Try

LONG = {"seven nights in a row": 0, "three nights in a row": 1}
BASE: list[Side] = []  # a worker's own
Play = tuple[str, str, str, int]  # the company, the kind, the try (empty: the recipe), the seed


def begin(path: str, devices: Any) -> None:
    torch.set_num_threads(1)
    model = Model(path, devices.get())
    BASE.append(Side(model, model.base))


def play(one: Play, deadline: float) -> dict[str, Any] | None:
    if time.time() > deadline:
        return None
    place, name, tried, seed = one
    kind, trial = KINDS[name], TRIES[tried] if tried else Try(setting=Setting())
    setting = trial.setting
    if kind.learning_rate:
        setting = replace(setting, learning_rate=kind.learning_rate)
    recipe = TEAM | dict(trial.recipe) | dict(kind.recipe)
    found = night.play(BASE[0], Plan(company.load(place), kind, setting, recipe), seed)
    return {"kind": name, "try": tried, "company": place} | found


def run(asked: argparse.Namespace, plays: list[Play]) -> None:
    had = {identity(row) for row in tables.read([asked.rows])}
    wanted = [one for one in plays if one not in had]
    deadline, cards = time.time() + asked.minutes * 60, torch.cuda.device_count()
    spawn = torch.multiprocessing.get_context("spawn")
    devices = spawn.Queue()
    for number in range(asked.workers):
        devices.put(f"cuda:{number % cards}" if cards else "cpu")
    with ProcessPoolExecutor(asked.workers, spawn, begin, (asked.model, devices)) as pool:
        for done in as_completed([pool.submit(play, one, deadline) for one in wanted]):
            if done.exception():
                print(f"a night failed: {done.exception()!r}", flush=True)
            elif row := done.result():
                add(asked.rows, row | machine())
                print(tables.line(row), flush=True)


def identity(row: dict[str, Any]) -> Play:
    return row["company"], row["kind"], row["try"], row["seed"]


def add(path: Path, row: dict[str, Any]) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


def machine() -> dict[str, Any]:
    return {
        "date": time.strftime("%Y-%m-%d"),
        "machine": torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU",
        "versions": {name: version(name) for name in ("torch", "transformers")},
    }


def numbers(text: str) -> list[int]:
    first, _, last = text.partition("-")
    return list(range(int(first), int(last or first) + 1))


def chosen(text: str, names: Iterable[str]) -> list[str]:
    return [name.strip() for name in text.split(";")] if text else list(names)


def arguments() -> argparse.Namespace:
    known = argparse.ArgumentParser(description=__doc__)
    parts = known.add_subparsers(dest="what", required=True)
    for name in ("play", "sweep"):
        part = parts.add_parser(name)
        part.add_argument("model")
        part.add_argument("rows", type=Path)
        part.add_argument("--kinds", default="", help="separated by ;")
        part.add_argument("--tries", default="", help="separated by ;")
        part.add_argument("--company", default="")
        part.add_argument("--seeds", type=numbers, default=[1, 2, 3, 4, 5], help="as in 1-5")
        part.add_argument("--workers", type=int, default=1)
        part.add_argument("--minutes", type=float, default=24 * 60, help="none begins later")
    part = parts.add_parser("table")
    part.add_argument("output", type=Path)
    part.add_argument("rows", type=Path, nargs="+")
    parts.add_parser("compare").add_argument("rows", type=Path, nargs="+")
    return known.parse_args()


def main() -> None:
    asked = arguments()
    if asked.what == "table":
        found = tables.table(tables.read(asked.rows))
        asked.output.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    elif asked.what == "compare":
        print("\n".join(tables.tries(tables.read(asked.rows))))
    elif asked.what == "sweep":
        names, kinds = chosen(asked.tries, TRIES), chosen(asked.kinds, sweep.ON)
        place = asked.company or company.CHOSEN_ON
        run(asked, [(place, k, n, s) for s in asked.seeds for n in names for k in kinds])
    else:
        # the longest first, which decide when all are done; then every kind once, twice ...
        names, place = chosen(asked.kinds, KINDS), asked.company or company.REPORTED
        plays = [(place, name, "", seed) for seed in asked.seeds for name in names]
        run(asked, sorted(plays, key=lambda one: LONG.get(one[1], len(LONG))))


if __name__ == "__main__":
    sys.exit(main())
