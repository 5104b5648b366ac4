"""One night's training: a LoRA adapter from the night's examples, in the form that vLLM serves.

    python -m training.night /nights/<id>/job.json

Reads     job.json        what to train, on what, how, and until when (see Job)
Writes    progress.jsonl  a line a step: {"time", "phase", "step", "steps", "loss"}; its age is the
          trainer's heartbeat
          scratch/        rows as tokens, and PEFT's form of the adapter; not needed after the run
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
from datasets import load_dataset
from peft import LoraConfig, PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl import SFTConfig, SFTTrainer

from training import (
    caches,
    count_parameters,
    engine,
    lean_layers,
    memory_plan,
    merge_checkpoint,
    packed_checkpoint,
    samples,
    vllm_format,
)

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

COMPARED_ROWS = (
    8  # this many answers are scored here, to compare with the scores of the served adapter
)
# one step of this many is warm-up; its learning rate starts at zero, so short runs have none
WARM_UP_SHARE = 20

# -----------------------------------------------------------------------------
# the job


@dataclass(frozen=True)
class Job:
    """job.json. Paths are as this container sees them; deadline_time is a Unix time in seconds.

    begin_from: a release's folder, whose adapter is trained on; empty begins a new one.
    tokens_per_step holds where samples can be packed (a GPU with the kernels), rows_per_step where
    they cannot.
    A row of more than longest_tokens is left out; none is cut short.
    """

    base_model: str
    served_model: str
    train_file: str
    output_folder: str
    deadline_time: float
    steps: int
    rows_per_step: int
    tokens_per_step: int
    memory_bytes: int
    learning_rate: float
    rank: int
    alpha: int
    longest_tokens: int
    target_modules: list[str]
    target_parameters: list[str]
    layers: list[int]
    begin_from: str = ""
    seed: int = 3407
    most_passes: int = 10_000


class Refused(Exception):
    """The run must stop, or its result must not be used. The message says why."""


Wrap = Callable[[Job], PeftModel]

# -----------------------------------------------------------------------------
# the model and its adapter


def load_model(job: Job) -> torch.nn.Module:
    gpu = torch.cuda.is_available()
    dtype = torch.bfloat16 if gpu else torch.float32
    folder = merge_checkpoint.folder_of(job.base_model)
    if packed_checkpoint.quantisation(folder):
        model = packed_checkpoint.load(folder, dtype, "cuda" if gpu else "cpu")
    else:
        model = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=dtype,
            attn_implementation=lean_layers.ATTENTION,
            device_map={"": 0} if gpu else None,
            trust_remote_code=False,
        )
    if not type(model).__module__.startswith("transformers.models.nemotron_h"):
        raise Refused(
            f"{type(model)} is not transformers' own Nemotron-H, and would loop over experts in"
            " Python"
        )
    for module in model.modules():
        # vLLM has no lower limit for dt; transformers 5.15 and later have 0.001 in training
        if hasattr(module, "time_step_limit"):
            module.time_step_limit = (0.0, math.inf)
    return model


def wrapped(job: Job) -> PeftModel:
    """The base model with a new adapter on it, on the night's own engine."""
    base = load_model(job)
    products, _ = engine.choose_products(base)
    model = engine.adapted(base, adapter_configuration(job))
    if job.begin_from:
        engine.begin_from(model, load_file(Path(job.begin_from) / "adapter_model.safetensors"))
    engine.enable(model, products)
    if torch.cuda.is_available():
        shape = engine.shape(model, job.rank)
        engine.checkpoint(
            model, memory_plan.checkpointed_layers(shape, job.tokens_per_step, job.memory_bytes)
        )
    return model


def adapter_configuration(job: Job) -> LoraConfig:
    return LoraConfig(
        r=job.rank,
        lora_alpha=job.alpha,
        lora_dropout=0.0,
        target_modules=job.target_modules,
        target_parameters=job.target_parameters,
        layers_to_transform=job.layers or None,
        task_type="CAUSAL_LM",
    )


def require_trainable(job: Job, model: torch.nn.Module) -> None:
    """Raises Refused unless exactly as many parameters are trainable as the recipe names."""
    with torch.device("meta"):
        plain = AutoModelForCausalLM.from_config(
            AutoConfig.from_pretrained(job.base_model), trust_remote_code=False
        )
    named = {key: getattr(job, key) for key in ("target_modules", "target_parameters", "layers")}
    wanted = count_parameters.trainable_parameters(count_parameters.targets(plain, named), job.rank)
    found = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    if found != wanted:
        raise Refused(f"{found:,} parameters would be trained; the recipe has {wanted:,}")


def dead_tensors(model: torch.nn.Module) -> list[str]:
    """Names of LoRA B matrices that are still all zeros, as at the start, although they could
    have learned."""
    return [
        name
        for name, parameter in model.named_parameters()
        if "lora_B" in name
        and parameter.requires_grad
        and engine.CANNOT_LEARN not in name
        and not parameter.any()
    ]


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


# -----------------------------------------------------------------------------
# progress


class Progress(TrainerCallback):
    """Writes one line a step, and ends the run at the deadline with what it has learned so far."""

    def __init__(self, folder: Path, deadline_time: float) -> None:
        self.file = (folder / "progress.jsonl").open("a", encoding="utf-8")
        self.deadline_time = deadline_time
        self.stopped_by_deadline = False
        self.rows_left_out = 0
        self.began_step = 0.0
        self.step_seconds: list[float] = []

    def write(self, phase: str, **values: object) -> None:
        print(
            json.dumps({"time": round(time.time(), 1), "phase": phase, **values}),
            file=self.file,
            flush=True,
        )

    def stop_soon(self) -> None:
        """Sets the deadline to now: the current step ends, and what was learned is saved."""
        self.deadline_time = 0.0

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.began_step = time.monotonic()
        if state.global_step == 0:
            self.write("train", step=0, steps=state.max_steps)

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any
    ) -> None:
        if logs and "loss" in logs:
            self.write(
                "train",
                step=state.global_step,
                steps=state.max_steps,
                loss=round(float(logs["loss"]), 4),
            )

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.step_seconds.append(time.monotonic() - self.began_step)
        if time.time() > self.deadline_time:
            self.stopped_by_deadline = control.should_training_stop = True


# -----------------------------------------------------------------------------
# the run


def steps_to_take(job: Job, lengths: list[int], pack: bool) -> int:
    """At most job.steps, and at most most_passes over the rows. lengths: tokens of each row."""
    steps_a_pass = sum(lengths) / job.tokens_per_step if pack else len(lengths) / job.rows_per_step
    return max(1, min(job.steps, math.ceil(job.most_passes * steps_a_pass)))


def trainer_arguments(job: Job, scratch: Path, pack: bool, steps: int) -> SFTConfig:
    gpu = torch.cuda.is_available()
    return SFTConfig(
        output_dir=str(scratch),
        packing=pack,
        max_length=job.tokens_per_step if pack else job.longest_tokens,
        per_device_train_batch_size=1 if pack else job.rows_per_step,
        gradient_accumulation_steps=1,
        max_steps=steps,
        learning_rate=job.learning_rate,
        warmup_steps=steps // WARM_UP_SHARE,
        lr_scheduler_type="linear",
        weight_decay=0.0,
        # the model is bfloat16 and the adapter float32; autocast would copy both in every step
        bf16=False,
        use_cpu=not gpu,
        gradient_checkpointing=False,  # layer by layer, in wrapped()
        optim="adamw_torch_fused" if gpu else "adamw_torch",
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        seed=job.seed,
        disable_tqdm=True,
        dataset_num_proc=None,
        include_num_input_tokens_seen="non_padding",
    )


def tokenized(job: Job, tokenizer: Any, scratch: Path) -> Any:
    """Each row's "input_ids" and "labels". Raises Refused with the row's number if the labels
    would not be the answer."""

    def tokens(row: dict[str, Any], number: int) -> dict[str, list[int]]:
        try:
            return dict(
                zip(("input_ids", "labels"), samples.tokenized(row, tokenizer), strict=True)
            )
        except ValueError as error:
            raise Refused(f"row {number + 1} of {Path(job.train_file).name}: {error}") from error

    rows = load_dataset("json", data_files=job.train_file, split="train", cache_dir=str(scratch))
    return rows.map(tokens, with_indices=True, remove_columns=rows.column_names)


def fitting(rows: Any, job: Job, pack: bool) -> Any:
    """The rows of at most `longest` tokens. TRL would truncate the others and teach answers that
    stop in the middle.

    Packs of its "bfd" hold complete rows, but cut those that are longer than a pack
    (https://github.com/huggingface/trl/pull/5076).
    """
    longest = min(job.longest_tokens, job.tokens_per_step) if pack else job.longest_tokens
    kept = rows.filter(lambda row: len(row["input_ids"]) <= longest)
    if not len(kept):
        raise Refused(f"all {len(rows)} rows are longer than longest_tokens = {longest}")
    return kept


def train(
    job: Job, progress: Progress, folder: Path, wrap: Wrap, pack: bool
) -> tuple[SFTTrainer, float]:
    progress.write("load")
    transformers.set_seed(job.seed)
    tokenizer = AutoTokenizer.from_pretrained(job.base_model)
    scratch = folder / "scratch"
    everything = tokenized(job, tokenizer, scratch)
    rows = fitting(everything, job, pack)
    progress.rows_left_out = len(everything) - len(rows)
    steps = steps_to_take(job, [len(row["input_ids"]) for row in rows], pack)
    model = wrap(job)
    require_trainable(job, model)
    trainer = SFTTrainer(
        model=model,
        args=trainer_arguments(job, scratch, pack, steps),
        train_dataset=rows,
        processing_class=tokenizer,
        callbacks=[progress],
    )
    started = time.monotonic()
    trainer.train()
    return trainer, time.monotonic() - started


def write_adapter(job: Job, trainer: SFTTrainer, folder: Path) -> int:
    """Saves PEFT's adapter, writes vLLM's form of it beside it, and returns the number of tensors.

    In the base model's precision, as it is served; without pairs that cannot learn and are still
    zero.
    """
    model: PeftModel = trainer.model
    model.save_pretrained(folder / "scratch" / "peft")
    configuration = json.loads((folder / "scratch" / "peft" / "adapter_config.json").read_text())
    base = model.config
    tensors = vllm_format.per_expert(
        load_file(folder / "scratch" / "peft" / "adapter_model.safetensors"),
        expert_count=base.n_routed_experts,
        hidden_size=base.hidden_size,
        inner_size=base.moe_intermediate_size,
    )
    dead = (name for name in tensors if engine.CANNOT_LEARN in name and "lora_B" in name)
    nothing = {name for name in dead if not tensors[name].any()}
    nothing |= {name.replace("lora_B", "lora_A") for name in nothing}
    tensors = {
        name: tensor.to(model.dtype) for name, tensor in tensors.items() if name not in nothing
    }
    target = folder / "adapter"
    target.mkdir(exist_ok=True)
    save_file(tensors, target / "adapter_model.safetensors", metadata={"format": "pt"})
    configuration |= {
        "base_model_name_or_path": job.served_model,
        "target_parameters": None,
        "target_modules": sorted({name.split(".lora_")[0].rsplit(".", 1)[1] for name in tensors}),
    }
    (target / "adapter_config.json").write_text(json.dumps(configuration, indent=1))
    return len(tensors)


def first_rows(job: Job) -> list[dict[str, Any]]:
    with Path(job.train_file).open(encoding="utf-8") as file:
        return [json.loads(line) for line in itertools.islice(file, COMPARED_ROWS)]


def report(
    job: Job, trainer: SFTTrainer, seconds: float, tensors: int, progress: Progress
) -> dict[str, Any]:
    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    if not losses or not all(math.isfinite(loss) for loss in losses):
        raise Refused(f"the loss is not finite: {losses[-5:]}")
    dead = dead_tensors(trainer.model)
    if dead and trainer.state.global_step <= trainer.args.warmup_steps:
        raise Refused(f"stopped at step {trainer.state.global_step}, before it learned anything")
    if dead:
        raise Refused(f"{len(dead)} LoRA tensors did not learn; the first is {dead[0]}")
    tokens = int(trainer.state.num_input_tokens_seen)
    versions = {
        module.__name__: module.__version__ for module in (torch, transformers, peft, trl)
    } | engine.kernel_versions()
    warm_up = caches.warm_up_seconds(progress.step_seconds)
    return {
        "outcome": "trained",
        "stopped_by_deadline": progress.stopped_by_deadline,
        "steps": trainer.state.global_step,
        "rows_left_out": progress.rows_left_out,
        "seconds": round(seconds, 1),
        "tokens": tokens,
        "tokens_per_second": round(tokens / seconds, 1),
        "loss_first": round(losses[0], 4),
        "loss_last": round(losses[-1], 4),
        "likelihood_of_first_rows": likelihoods(
            trainer.model, trainer.processing_class, first_rows(job)
        ),
        "trainable_parameters": sum(
            p.numel() for p in trainer.model.parameters() if p.requires_grad
        ),
        "adapter_tensors": tensors,
        "peak_bytes": torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None,
        "packed": trainer.args.packing,
        "checkpointed_layers": engine.checkpointed(trainer.model),
        "warm_up_seconds": warm_up,
        "seconds_saved_by_caches": caches.seconds_saved(
            Path(os.environ.get("HOME", "/cache")) / "warm-up", versions, warm_up
        ),
        "versions": versions,
    }


def publish(folder: Path, result: dict[str, Any]) -> None:
    unfinished = folder / "result.json.unfinished"
    with unfinished.open("w", encoding="utf-8") as file:
        json.dump(result, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    unfinished.rename(folder / "result.json")


def run(job: Job, wrap: Wrap, pack: bool) -> dict[str, Any]:
    """Runs the night. wrap: returns the model with a new adapter. pack: several samples in a
    row."""
    folder = Path(job.output_folder)
    progress = Progress(folder, job.deadline_time)
    signal.signal(signal.SIGTERM, lambda *_: progress.stop_soon())
    try:
        trainer, seconds = train(job, progress, folder, wrap, pack)
        progress.write("convert")
        tensors = write_adapter(job, trainer, folder)
        result = report(job, trainer, seconds, tensors, progress)
    except Exception as error:  # any error must be in the result, which the night reads
        result = {"outcome": "failed", "reason": f"{type(error).__name__}: {error}"}
    progress.write("done", outcome=result["outcome"])
    publish(folder, result)
    return result


def main(wrap: Wrap, pack: bool) -> None:
    outcome = run(Job(**json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))), wrap, pack)
    print(json.dumps(outcome))
    sys.exit(0 if outcome["outcome"] == "trained" else 1)


if __name__ == "__main__":
    main(wrapped, engine.can_pack())
