"""Does a second stage on pairs of answers pay, on a real small model?

    PYTHONPATH=images/trainer python -m tests.training.in_image.night_study.preference_study \
        MODEL OUTPUT.json [--seeds 2] [--pairs 60]

A night trains the company's corrections (recipe plain). Pairs: the right answer, and what the base
model said to the same prompt, where that was wrong. From the same adapter each second stage then
trains them: "more of the same" only makes the preferred answers likelier, at the same rate and for
as many steps, so that what the rejected ones add can be seen. Needs torch, transformers and peft;
a minute or two a seed on an H100.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel

from learning.dataset import split
from learning.evaluation import answers
from tests.training.in_image.night_study import company
from tests.training.in_image.night_study.real_model import RealModel
from training import loop, models, preferences, samples
from training.preferences import Pair

# beta, anchor, share of the first stage's learning rate
STAGES = {
    "more of the same": (0.0, 1.0, 0.1),
    "dpo, 0.03 of the rate": (0.1, 1.0, 0.03),
    "dpo, 0.1 of the rate": (0.1, 1.0, 0.1),
    "dpo, 0.3 of the rate": (0.1, 1.0, 0.3),
    "dpo, no anchor": (0.1, 0.0, 0.1),
}


def pairs(model: RealModel, net: torch.nn.Module, seed: int, most: int) -> list[Pair]:
    """What people would have rated down and corrected."""
    lessons = random.Random(seed).sample(company.lessons(seed), 3 * most)
    said = model.answers(net, [one.example.prompt for one in lessons])
    found = []
    for lesson, text in zip(lessons, said, strict=True):
        if text and not answers.grade(answers.question(lesson), text, company.WORDS).right:
            row = split.as_row(lesson.example)
            wrong = row | {"completion": [{"role": "assistant", "content": text}]}
            found.append(tuple(samples.tokenized(one, model.tokens) for one in (row, wrong)))
    return found[:most]


def state(net: PeftModel) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in net.named_parameters() if p.requires_grad}


def play(model: RealModel, seed: int, most: int) -> Iterator[dict[str, Any]]:
    asked, job = company.questions(), model.job(seed=seed)
    net = models.adapted(model.base, job)
    chosen = pairs(model, net, seed, most)
    yield {"stage": "base", **model.judged(net, asked)}
    rows = [sample for _, sample in model.read(company.rows(seed))]
    loop.learn(net, rows, loop.schedule(job, [len(ids) for ids, _ in rows], model.pack))
    yield {"stage": "examples", **model.judged(net, asked), **margin(net, chosen, model)}
    first = state(net)
    for name, (beta, anchor, share) in STAGES.items():
        with torch.no_grad():
            for key, parameter in net.named_parameters():
                if key in first:
                    parameter.copy_(first[key])
        losses = preferences.train_preferences(
            net, chosen, job.learning_rate * share, beta=beta, anchor=anchor, seed=seed,
            pack=model.pack,
        )  # fmt: skip
        figures = {"pairs": len(chosen), "steps": len(losses), **margin(net, chosen, model)}
        yield {"stage": name, **model.judged(net, asked), **figures}
    model.base = net.unload()


def margin(net: PeftModel, chosen: list[Pair], model: RealModel) -> dict[str, float]:
    """Mean nats by which the preferred answers are likelier."""
    found = preferences.margins(net, chosen, model.pack)
    return {"margin": round(sum(found) / max(1, len(found)), 2)}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("output", type=Path)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--pairs", type=int, default=60)
    given = parser.parse_args()
    model, rows = RealModel(given.model), []
    for seed in range(1, given.seeds + 1):
        started = time.monotonic()
        for row in play(model, seed, given.pairs):
            rows.append({"seed": seed, **row, "seconds": round(time.monotonic() - started, 1)})
            print(json.dumps(rows[-1]), flush=True)
            given.output.write_text(json.dumps({"rows": rows}, indent=1))


if __name__ == "__main__":
    main()
