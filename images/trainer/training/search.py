"""The night's search: a few settings tried on four fifths of what was taught and compared on the
rest, so that the better one trains on everything.

Successive halving (https://arxiv.org/abs/1502.07943): each setting trains for a share of its steps,
the better half for twice as many, until one is left. That one replaces the recipe's own setting
only if it is better beyond noise. Each trial begins a new adapter, from the same seed, with a whole
schedule of its own, on the one loaded model. Nothing of it is kept: a night that is started again
tries the same.

Compared is the loss on whole conversations of the train file, by which the gate does not judge.
What a setting loses against the base model on general rows counts as loss.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import random
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import fmean, stdev
from typing import Any

import torch

from training import loop, models
from training.night_job import Job, Search
from training.night_rows import Told
from training.progress import Progress

ONE_IN = 5  # conversations that a setting is compared on
FEWEST_CONVERSATIONS = 5  # of them; fewer compare nothing
MOST_ROWS = 64  # compared, of what was taught and of what is general each
SURE = 2.0  # standard errors by which the recipe's own setting must be beaten
GENERAL = "general"


@dataclass(frozen=True)
class Setting:
    learning_rate: float
    passes: int
    rank: int

    def of(self, job: Job) -> Job:
        """alpha keeps its ratio to the rank, as the update's size does then."""
        alpha = max(1, round(job.alpha * self.rank / job.rank))
        rate, passes = self.learning_rate, self.passes
        return replace(job, learning_rate=rate, most_passes=passes, rank=self.rank, alpha=alpha)


@dataclass(frozen=True)
class Trial:
    """losses: nats a token of each conversation. lost: what general rows lost against the base
    model, at least 0. share: of the setting's steps."""

    setting: Setting
    share: float
    losses: tuple[float, ...]
    lost: float

    @property
    def loss(self) -> float:
        return fmean(self.losses) + self.lost

    @property
    def row(self) -> dict[str, Any]:
        return asdict(self.setting) | {"share": self.share, "held_out_loss": round(self.loss, 4)}


def told(job: Job) -> dict[str, Any]:
    """The recipe's keys that a search may set."""
    keys = ("learning_rate", "most_passes", "rank", "alpha")
    return {key: getattr(job, key) for key in keys}


class OutOfTime(Exception):
    """The search's share of the night is over."""


# -----------------------------------------------------------------------------
# decisions, without a model


def settings(job: Job, ranges: Search) -> list[Setting]:
    """The recipe's own first, then the others of its ranges, a fixed choice of them if there are
    more than most_candidates."""
    own = Setting(job.learning_rate, job.most_passes, job.rank)
    every = itertools.product(
        ranges.learning_rate or [own.learning_rate],
        ranges.passes or [own.passes],
        ranges.rank or [own.rank],
    )
    others = [one for one in itertools.starmap(Setting, every) if one != own]
    room = min(ranges.most_candidates - 1, len(others))
    return [own, *random.Random(job.seed).sample(others, room)]


def split(rows: Sequence[Told]) -> tuple[list[Told], list[Told]]:
    """(what trials train on, what they are compared on), by whole conversations, the same ones
    whatever their order."""
    names = sorted({conversation(one) for one in rows}, key=hashed)
    known = {conversation(one) for one in rows if general(one)}
    kept: set[str] = set()
    for part in ([name for name in names if name in known], [n for n in names if n not in known]):
        kept |= set(part[: len(part) // ONE_IN])
    return (
        [one for one in rows if conversation(one) not in kept],
        [one for one in rows if conversation(one) in kept],
    )


def conversation(row: Told) -> str:
    return str(row[0].get("conversation") or row[0]["prompt"])


def hashed(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


def general(row: Told) -> bool:
    return (row[0].get("origin") or {}).get("kind") == GENERAL


def halving(
    own: Setting, others: Sequence[Setting], attempt: Callable[[Setting, float], Trial]
) -> list[Trial]:
    """Every trial in order; the last two are whole ones: the best of the others, and the recipe's
    own."""
    done: list[Trial] = []
    left, share = list(others), 0.5 ** math.ceil(math.log2(len(others)))
    while share < 1:
        tried = [attempt(one, share) for one in left]
        done += tried
        better = sorted(tried, key=lambda trial: trial.loss)[: math.ceil(len(tried) / 2)]
        left, share = [trial.setting for trial in better], share * 2
    return [*done, attempt(left[0], 1.0), attempt(own, 1.0)]


def better(new: Trial, own: Trial) -> bool:
    """Beyond noise, conversation by conversation."""
    gains = [before - after for before, after in zip(own.losses, new.losses, strict=True)]
    error = stdev(gains) / math.sqrt(len(gains))
    return own.loss - new.loss > SURE * error and own.loss > new.loss


# -----------------------------------------------------------------------------
# trials


@torch.no_grad()
def losses(model: torch.nn.Module, rows: Iterable[Told], job: Job, pack: bool) -> dict[str, float]:
    """Nats a token of the answers of each conversation."""
    found: dict[str, list[float]] = {}
    ordered = sorted(rows, key=lambda one: len(one[1][0]))
    for step in loop.chunks(ordered, max(1, job.tokens_per_step // job.longest_tokens)):
        logs, counts = loop.answer_logs(model, [sample for _, sample in step], pack)
        for one, loss in zip(step, (-logs / counts).tolist(), strict=True):
            found.setdefault(conversation(one), []).append(loss)
    return {name: fmean(found[name]) for name in sorted(found)}


class Bench:
    """One loaded model, on which settings are tried one after another. ends: a Unix time."""

    def __init__(
        self, job: Job, rows: Sequence[Told], base: torch.nn.Module, pack: bool, tell: Progress
    ) -> None:
        self.job, self.base, self.pack, self.tell = job, base, pack, tell
        self.ranges = Search(**job.search or {})  # type: ignore[arg-type]
        self.train, kept = split(rows)
        self.taught = [one for one in kept if not general(one)][:MOST_ROWS]
        self.known = [one for one in kept if general(one)][:MOST_ROWS]
        now = time.time()
        self.ends = now + self.ranges.share_of_minutes * (job.deadline_time - now)
        self.trials = 0
        self.known_before: dict[str, float] = {}

    def attempt(self, setting: Setting, share: float) -> Trial:
        self.trials += 1
        job = setting.of(self.job)
        rows = [sample for _, sample in self.train]
        plan = loop.schedule(job, [len(ids) for ids, _ in rows], self.pack)
        plan = replace(plan, steps=max(1, math.ceil(plan.steps * share)))
        model = models.adapted(self.base, job)
        model.register_forward_pre_hook(self.tell.give_way)
        try:
            # a new adapter changes nothing yet: this is the base model
            self.known_before = self.known_before or losses(model, self.known, job, self.pack)
            loop.learn(model, rows, plan, self.heard)
            after = losses(model, self.known, job, self.pack)
            taught = losses(model, self.taught, job, self.pack)
        finally:
            self.base = model.unload()
        changes = [after[name] - before for name, before in self.known_before.items()]
        lost = max(0.0, fmean(changes)) if changes else 0.0
        return Trial(setting, share, tuple(taught.values()), lost)

    def heard(self, step: int, steps: int, loss: float) -> bool:
        self.tell.write("search", trial=self.trials, step=step, steps=steps, loss=round(loss, 4))
        if time.time() > self.ends or self.tell.late():
            raise OutOfTime
        return False


def search(
    job: Job, rows: Sequence[Told], base: torch.nn.Module, pack: bool, tell: Progress
) -> tuple[Job, torch.nn.Module, dict[str, Any]]:
    """The job with the setting to train, the model without an adapter, and what was tried."""
    bench = Bench(job, rows, base, pack, tell)
    own, *others = settings(job, bench.ranges)
    conversations = len({conversation(one) for one in bench.taught})
    trials: list[Trial] = []
    if not others:
        note = "it has no other"
    elif conversations < FEWEST_CONVERSATIONS:
        note = f"{conversations} conversations can be set aside, {FEWEST_CONVERSATIONS} compare"
    else:
        try:
            trials = halving(own, others, bench.attempt)
            note = "none was better beyond noise"
        except OutOfTime:
            note = f"there was time for {bench.trials - 1} trials only"
    note = f"the recipe's own setting, since {note}"
    if trials and better(trials[-2], trials[-1]):
        job = trials[-2].setting.of(job)
        note = (
            f"held-out loss {trials[-2].loss:.3f}, the recipe's own setting {trials[-1].loss:.3f}"
        )
    found = {"settings": 1 + len(others), "tried": [trial.row for trial in trials]}
    return job, bench.base, found | {"setting": told(job), "note": note}
