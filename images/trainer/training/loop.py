"""The training loop: AdamW over the adapter, on packs of whole samples or on padded rows.

Tokenized rows are samples.Sample: token IDs, and labels that are -100 where nothing is learned.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import cross_entropy
from transformers import get_linear_schedule_with_warmup

from training import samples
from training.night_job import Job
from training.samples import Sample

FEWEST_STEPS = 20  # a small night has smaller steps, not fewer: with seven nothing is learned
# one step of this many is warm-up; its learning rate starts at zero, so short runs have none
WARM_UP_SHARE = 20
LONGEST_GRADIENT = 1.0
Stop = Callable[[int, int, float], bool]  # step, steps, loss -> whether to end here


@dataclass(frozen=True)
class Schedule:
    """size: tokens a step if packed, else rows a step."""

    learning_rate: float
    steps: int
    size: int
    pack: bool
    seed: int

    @property
    def warm_up(self) -> int:
        return self.steps // WARM_UP_SHARE


def schedule(job: Job, lengths: Sequence[int], pack: bool, passes: float = 0) -> Schedule:
    """lengths: tokens of each row. passes: over the rows, the job's if 0. At most job.steps, and
    FEWEST_STEPS as far as there are rows for them."""
    passes = passes or job.most_passes
    everything = sum(lengths) if pack else len(lengths)
    ceiling, floor = (
        (job.tokens_per_step, max(lengths, default=1)) if pack else (job.rows_per_step, 1)
    )
    size = max(floor, min(ceiling, int(everything * passes / FEWEST_STEPS)))
    steps = max(1, min(job.steps, math.ceil(passes * everything / size)))
    return Schedule(job.learning_rate, steps, size, pack, job.seed)


# -----------------------------------------------------------------------------
# batches


def batches(rows: Sequence[Any], size: int, pack: bool, seed: int) -> Iterator[list[Any]]:
    """The rows of each step, without end: every pass has all rows once, in another order. pack: the
    rows are samples, and size is in tokens."""
    order = random.Random(seed)
    while True:
        mixed = order.sample(rows, len(rows))
        steps = packs(mixed, size) if pack else chunks(mixed, size)
        order.shuffle(steps)
        yield from steps


def chunks(rows: list[Any], size: int) -> list[list[Any]]:
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def tokens(rows: Sequence[Sample], plan: Schedule, steps: int) -> int:
    """Of the samples of so many steps, without padding."""
    taken = itertools.islice(batches(rows, plan.size, plan.pack, plan.seed), steps)
    return sum(len(ids) for step in taken for ids, _ in step)


def packs(rows: Sequence[Sample], tokens: int) -> list[list[Sample]]:
    """Best fit, longest first: each row into the fullest pack that has room for it."""
    found: list[list[Sample]] = []
    room: list[int] = []
    for row in sorted(rows, key=lambda one: -len(one[0])):
        fitting = [at for at, left in enumerate(room) if left >= len(row[0])]
        if fitting:
            at = min(fitting, key=room.__getitem__)
            found[at].append(row)
            room[at] -= len(row[0])
        else:
            found.append([row])
            room.append(tokens - len(row[0]))
    return found


# -----------------------------------------------------------------------------
# likelihoods and steps


def answer_logs(
    model: torch.nn.Module, rows: Sequence[Sample], pack: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """For each sample the log-probability of its answer, in nats, and the answer's tokens: both
    [N]."""
    device = next(model.parameters()).device
    batch = (samples.packed if pack else samples.padded)(list(rows), str(device))
    logs, mask = token_logs(model, batch)
    if not pack:
        return logs.sum(1), mask.sum(1)
    # position i has the log-probability of token i + 1, and the first token of a sample none
    lengths = [len(ids) for ids, _ in rows]
    lengths[-1] -= 1
    summed, counts = (
        torch.stack([part.sum() for part in whole[0].split(lengths)]) for whole in (logs, mask)
    )
    return summed, counts


def token_logs(model: torch.nn.Module, batch: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
    """The log-probability of each next token, 0 where none is learned, and where one is: both
    [N, T - 1]. Where the model has it, by TRL's head (models.load), which never holds all
    logits."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    if "forward" in vars(base):
        out = model(**batch, use_cache=False, fused_lm_head=True)
        return out.log_probs, out.label_mask
    labels = batch.pop("labels")[:, 1:]
    logits = model(**batch, use_cache=False).logits[:, :-1].float()
    return -cross_entropy(logits.mT, labels, reduction="none"), labels != -100


def learn(
    model: torch.nn.Module, rows: Sequence[Sample], plan: Schedule, stop: Stop = lambda *_: False
) -> list[float]:
    """Trains in place. Returns each step's loss, in nats a token of its answers."""

    def loss(step: list[Sample]) -> torch.Tensor:
        logs, counts = answer_logs(model, step, plan.pack)
        return -logs.sum() / counts.sum().clamp(min=1)

    steps = batches(rows, plan.size, plan.pack, plan.seed)
    return descend(model, map(loss, steps), plan, stop)


def descend(
    model: torch.nn.Module, losses: Iterator[torch.Tensor], plan: Schedule, stop: Stop
) -> list[float]:
    """AdamW down the losses, each of which is computed when its step comes."""
    weights = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(
        weights, lr=plan.learning_rate, weight_decay=0.0, fused=weights[0].is_cuda
    )
    rate = get_linear_schedule_with_warmup(optimizer, plan.warm_up, plan.steps)
    model.train()
    seen: list[float] = []
    for step, loss in enumerate(itertools.islice(losses, plan.steps), 1):
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, LONGEST_GRADIENT)
        optimizer.step()
        rate.step()
        optimizer.zero_grad(set_to_none=True)
        seen.append(loss.item())
        if stop(step, plan.steps, seen[-1]):
            break
    return seen
