"""One night's training: a LoRA adapter from the night's examples, in the form that vLLM serves.

    python -m training.train /nights/<id>/job.json

Reads     job.json        what to train, on what, how, and until when (night_job.Job)
          pause           while it is renewed, no step begins (pause.py)
Writes    progress.jsonl  a line a step: {"time", "phase", "step", "steps", "loss"}; its age is the
          trainer's heartbeat
          scratch/        PEFT's form of the adapter; not needed after the run
          adapter/        adapter_config.json and adapter_model.safetensors, per-expert keys,
                          float32 or bfloat16
          result.json     last, by rename, so that it exists only if everything else does
Exits     0 with an adapter; 1 with `result.json` saying {"outcome": "failed", "reason": ...}

There are no checkpoints: a night that died is not resumed. Its examples are still new to the next
night, which builds a new data set.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import peft
import torch
import transformers
import trl
from peft import PeftModel
from transformers import AutoTokenizer

from training import (
    adapter_file,
    caches,
    engine,
    loop,
    models,
    night_rows,
    packed_weights,
    preferences,
    samples,
    search,
)
from training.loop import Schedule
from training.models import wrapped
from training.night_job import Job, Refused
from training.night_rows import Told
from training.progress import Progress

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

COMPARED_ROWS = (
    8  # this many answers are scored here, to compare with the scores of the served adapter
)
Wrap = Callable[[Job], PeftModel]


@dataclass
class Trained:
    """The end of a run. tokens: of prompts and answers that were learned from, without padding.
    more: of the result, what the search tried and what the second stage did."""

    model: PeftModel
    tokenizer: Any
    plan: Schedule
    losses: list[float]
    seconds: float
    tokens: int
    rows_left_out: int
    more: dict[str, Any]


# -----------------------------------------------------------------------------
# the run


def train(job: Job, progress: Progress, wrap: Wrap, pack: bool | None) -> Trained:
    progress.write("load")
    models.parameters_of(job)  # refuses before anything is loaded
    pack = models.can_pack(job.base_model) if pack is None else pack
    transformers.set_seed(job.seed)
    tokenizer = AutoTokenizer.from_pretrained(job.base_model)
    everything = night_rows.read(Path(job.train_file), tokenizer)
    told = night_rows.fitting(everything, job, pack)
    model, job, more = begun(job, told, progress, wrap, pack)
    models.require_trainable(model, models.parameters_of(job))
    model.register_forward_pre_hook(progress.give_way)
    rows = [sample for _, sample in told]
    plan = loop.schedule(job, [len(ids) for ids, _ in rows], pack)
    progress.begin(plan.steps)
    started = time.monotonic()
    losses = loop.learn(model, rows, plan, progress.step)
    more |= second_stage(job, model, tokenizer, progress, pack)
    seconds, tokens = time.monotonic() - started, loop.tokens(rows, plan, len(losses))
    left_out = len(everything) - len(told)
    return Trained(model, tokenizer, plan, losses, seconds, tokens, left_out, more)


def begun(
    job: Job, told: list[Told], progress: Progress, wrap: Wrap, pack: bool
) -> tuple[PeftModel, Job, dict[str, Any]]:
    """The model with a new adapter, the job with the setting that the search found, and what it
    tried."""
    if not job.search:
        return wrap(job), job, {}
    job, base, tried = search.search(job, told, models.load(job), pack, progress)
    return models.adapted(base, job), job, {"search": tried}


def second_stage(
    job: Job, model: PeftModel, tokenizer: Any, progress: Progress, pack: bool
) -> dict[str, Any]:
    """On pairs of answers, if the recipe asks for it and the deadline leaves time."""
    if job.preferences == "none" or progress.late():
        return {}
    pairs = preferences.read(Path(job.preference_file), tokenizer, job.longest_tokens)
    if len(pairs) < preferences.FEWEST_PAIRS:
        return {"preferences": {"pairs": len(pairs), "steps": 0}}
    rate = job.learning_rate * preferences.RATE_SHARE
    losses = preferences.train_preferences(
        model, pairs, rate, seed=job.seed, pack=pack, stop=progress.second_step
    )
    ends = {"loss_first": round(losses[0], 4), "loss_last": round(losses[-1], 4)}
    return {"preferences": {"pairs": len(pairs), "steps": len(losses), **ends}}


@torch.no_grad()
def likelihoods(model: torch.nn.Module, tokenizer: Any, rows: list[dict[str, Any]]) -> list[float]:
    """Mean log-probability a token of each row's completion, to compare with the served adapter.

    In training mode, which changes nothing here: Mamba's other path needs strides that a small
    model does not have.
    """
    model.train()
    device = next(model.parameters()).device
    scores = []
    for row in rows:
        ids, labels = (
            torch.tensor(part, device=device) for part in samples.tokenized(row, tokenizer)
        )
        logs = model(input_ids=ids[None], use_cache=False).logits[0].float().log_softmax(-1)
        answer = (labels >= 0).nonzero().squeeze(-1)
        scores.append(logs[answer - 1, ids[answer]].mean().item())
    return scores


def first_rows(job: Job) -> list[dict[str, Any]]:
    with Path(job.train_file).open(encoding="utf-8") as file:
        return [json.loads(line) for line in itertools.islice(file, COMPARED_ROWS)]


def report(job: Job, done: Trained, tensors: int, progress: Progress) -> dict[str, Any]:
    require_learned(done)
    versions = {
        module.__name__: module.__version__ for module in (torch, transformers, peft, trl)
    } | engine.kernel_versions()
    warm_up = caches.warm_up_seconds(progress.step_seconds)
    return {
        "outcome": "trained",
        "stopped_by_deadline": progress.stopped_by_deadline,
        "steps": len(done.losses),
        "rows_left_out": done.rows_left_out,
        "seconds": round(done.seconds, 1),
        "paused_seconds": round(progress.paused_seconds, 1),
        "tokens": done.tokens,
        "tokens_per_second": round(done.tokens / done.seconds, 1),
        "loss_first": round(done.losses[0], 4),
        "loss_last": round(done.losses[-1], 4),
        "likelihood_of_first_rows": likelihoods(done.model, done.tokenizer, first_rows(job)),
        "trainable_parameters": sum(p.numel() for p in done.model.parameters() if p.requires_grad),
        "nvfp4_parameters": sum(w.parameters for w in packed_weights.all_packed(done.model)),
        "adapter_tensors": tensors,
        "through_quantiser": job.merged and engine.adapts_packed(done.model),
        "peak_bytes": torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None,
        "packed": done.plan.pack,
        "checkpointed_layers": engine.checkpointed(done.model),
        "warm_up_seconds": warm_up,
        "seconds_saved_by_caches": caches.seconds_saved(
            Path(os.environ.get("HOME", "/cache")) / "warm-up", versions, warm_up
        ),
        "versions": versions,
        **done.more,
    }


def require_learned(done: Trained) -> None:
    """Raises Refused for an adapter that learned nothing, or in part."""
    if not all(math.isfinite(loss) for loss in done.losses):
        raise Refused(f"the loss is not finite: {done.losses[-5:]}")
    dead, steps = adapter_file.dead_tensors(done.model), len(done.losses)
    if dead and steps <= done.plan.warm_up:
        raise Refused(f"stopped at step {steps}, before it learned anything")
    if dead:
        raise Refused(f"{len(dead)} LoRA tensors did not learn; the first is {dead[0]}")


def publish(folder: Path, result: dict[str, Any]) -> None:
    unfinished = folder / "result.json.unfinished"
    with unfinished.open("w", encoding="utf-8") as file:
        json.dump(result, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    unfinished.rename(folder / "result.json")


def run(job: Job, wrap: Wrap = wrapped, pack: bool | None = None) -> dict[str, Any]:
    """Runs the night. wrap: returns the model with a new adapter. pack: several samples in a row;
    None where that is exact."""
    folder = Path(job.output_folder)
    progress = Progress(folder, job.deadline_time)
    signal.signal(signal.SIGTERM, lambda *_: progress.stop_soon())
    try:
        done = train(job, progress, wrap, pack)
        progress.write("convert")
        tensors = adapter_file.write(done.model, job.served_model, folder, job.merged)
        result = report(job, done, tensors, progress)
    except Exception as error:  # any error must be in the result, which the night reads
        result = {"outcome": "failed", "reason": f"{type(error).__name__}: {error}"}
    progress.write("done", outcome=result["outcome"])
    publish(folder, result)
    return result


def main(wrap: Wrap = wrapped, pack: bool | None = None) -> None:
    outcome = run(Job(**json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))), wrap, pack)
    print(json.dumps(outcome))
    sys.exit(0 if outcome["outcome"] == "trained" else 1)


if __name__ == "__main__":
    main()
