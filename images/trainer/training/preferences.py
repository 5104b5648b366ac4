"""A second stage on pairs of answers, one of them preferred: direct preference optimisation
(https://arxiv.org/abs/2305.18290).

The reference is the model as the first stage left it. Its log-probabilities are computed once,
before the first step, so no second model is in memory. The loss of a pair is

    -log sigmoid(beta * (margin - the reference's margin)) - anchor * chosen / its tokens

where margin is chosen - rejected, sums of log-probabilities over the answers. The anchor
(https://arxiv.org/abs/2404.19733) keeps the preferred answer itself likely, which the first term
alone does not.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import logsigmoid

from training import loop, samples
from training.loop import Schedule, Stop
from training.samples import Sample

Pair = tuple[Sample, Sample]  # the preferred answer, the other one; each with its prompt
BETA, ANCHOR = 0.1, 1.0
RATE_SHARE = 0.1  # of the first stage's learning rate
PASSES = 2
PAIRS_PER_STEP = 4
FEWEST_PAIRS = 8  # fewer are not trained


def pair_losses(
    chosen: torch.Tensor, rejected: torch.Tensor, margin_before: torch.Tensor, beta: float
) -> torch.Tensor:
    """Each [N]. margin_before: chosen - rejected of the reference."""
    return -logsigmoid(beta * (chosen - rejected - margin_before))


def read(file: Path, tokenizer: Any, longest: int) -> list[Pair]:
    """The pairs that have both answers and fit."""
    found = []
    for line in file.read_text(encoding="utf-8").split("\n") if file.exists() else []:
        row = json.loads(line) if line else {}
        if not row.get("chosen") or not row.get("rejected"):
            continue
        pair = tuple(
            samples.tokenized({"prompt": row["prompt"], "completion": row[side]}, tokenizer)
            for side in ("chosen", "rejected")
        )
        if max(len(ids) for ids, _ in pair) <= longest:
            found.append(pair)
    return found


def flat(pairs: Sequence[Pair]) -> list[Sample]:
    return [sample for pair in pairs for sample in pair]


@torch.no_grad()
def margins(model: torch.nn.Module, pairs: Sequence[Pair], pack: bool) -> list[float]:
    """By how many nats the model prefers the chosen answer of each pair."""
    found: list[float] = []
    for start in range(0, len(pairs), PAIRS_PER_STEP):
        step = flat(pairs[start : start + PAIRS_PER_STEP])
        logs = loop.answer_logs(model, step, pack)[0]
        found += (logs[::2] - logs[1::2]).tolist()
    return found


def train_preferences(
    model: torch.nn.Module,
    pairs: Sequence[Pair],
    learning_rate: float,
    passes: int = PASSES,
    beta: float = BETA,
    anchor: float = ANCHOR,
    seed: int = 3407,
    pack: bool = False,
    stop: Stop = lambda *_: False,
) -> list[float]:
    """Trains the adapter in place, of a model with TRL's fused head (models.load). Returns each
    step's loss."""
    model.train()
    before = margins(model, pairs, pack)
    steps = max(1, passes * -(-len(pairs) // PAIRS_PER_STEP))
    plan = Schedule(learning_rate, steps, PAIRS_PER_STEP, pack, seed)

    def losses() -> Iterator[torch.Tensor]:
        for chosen in loop.batches(range(len(pairs)), PAIRS_PER_STEP, pack=False, seed=seed):
            logs, counts = loop.answer_logs(model, flat([pairs[at] for at in chosen]), pack)
            margin = torch.tensor([before[at] for at in chosen], device=logs.device)
            preferred = pair_losses(logs[::2], logs[1::2], margin, beta)
            yield (preferred - anchor * logs[::2] / counts[::2]).mean()

    return loop.descend(model, losses(), plan, stop)
