"""Times training steps of several settings, with random weights of the real architecture or a
model's own.

    python -m training.bench PLAN.json RESULT.json

Reads   PLAN.json      {"layers": 52, "steps": 100, "warm_up": 5, "budget_bytes": 100e9,
        "base_model": "", "train_file": "",
                       "recipes": {name: {rank, alpha, target_modules, target_parameters, layers}},
                       "settings": [{"recipe",
                       "engine", "checkpointing", "packing", "tokens_per_step", "rows"}]}; a setting
                       may have its own "steps"
        RESULT.json    of an interrupted run: results of the same plan on this machine are kept
Writes  RESULT.json    after every setting; PROGRESS.jsonl beside it, a line a step
engine         "published" loops over experts, "grouped" is the night's own, "grouped-triton" the
               same by our Triton kernels,
               "unsloth" runs in a process of its own (training.unsloth_bench), because it changes
               what it imports
checkpointing  "off", "on" (every layer), "selective" (as few as the memory model allows for
               budget_bytes)
base_model     empty for random weights: the loss then shows only that it is finite and falls
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import peft
import torch
import transformers
import trl
from peft import LoraConfig, PeftModel
from peft.tuners.lora.layer import LoraLayer
from trl.trainer.utils import add_fused_lm_head

from training import (
    architecture,
    engine,
    expert_lora,
    memory_plan,
    merge_checkpoint,
    packed_checkpoint,
    packed_weights,
    samples,
)
from training.bench import floor, loop_engine
from training.bench.timing import timing
from training.samples import Batch, Sample

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

Row = dict[str, Any]
ENGINES = ("published", "grouped", "grouped-triton")
SEED = 3407
KEYS = ("recipe", "engine", "checkpointing", "packing", "tokens_per_step", "rows", "steps")

# -----------------------------------------------------------------------------
# what is trained


def adapted(model: torch.nn.Module, recipe: dict[str, Any]) -> PeftModel:
    configuration = LoraConfig(
        r=recipe["rank"],
        lora_alpha=recipe["alpha"],
        lora_dropout=0.0,
        target_modules=recipe["target_modules"],
        target_parameters=recipe["target_parameters"],
        layers_to_transform=recipe["layers"] or None,
        task_type="CAUSAL_LM",
    )
    return engine.adapted(model, configuration)


def begin_anew(model: PeftModel) -> None:
    """Gives each setting the same new adapter, which changes nothing yet."""
    torch.manual_seed(SEED)
    for module in model.modules():
        if isinstance(module, LoraLayer):
            module.reset_lora_parameters(module.active_adapters[0], True)


def base_model(plan: dict[str, Any], device: str) -> torch.nn.Module:
    if not plan["base_model"]:
        return architecture.random_model(device, plan["layers"])
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    folder = merge_checkpoint.folder_of(plan["base_model"])
    if packed_checkpoint.quantisation(folder):
        return packed_checkpoint.load(folder, dtype, device)
    return transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=dtype, device_map={"": device}
    )


def read_samples(plan: dict[str, Any]) -> list[Sample]:
    if not plan["train_file"]:
        return []
    return samples.read_samples(
        Path(plan["train_file"]), transformers.AutoTokenizer.from_pretrained(plan["base_model"])
    )


def use(model: PeftModel, name: str, products: expert_lora.Products) -> None:
    """Switches a PEFT model from any engine to this one."""
    engine.disable(model)
    if name == "published":
        if packed_weights.all_packed(model):
            raise RuntimeError("the published loop cannot train on packed weights")
        loop_engine.enable(model)
    else:
        engine.enable(
            model, expert_lora.triton_products() if name == "grouped-triton" else products
        )


def checkpointed_layers(model: PeftModel, setting: Row, plan: dict[str, Any]) -> int:
    shape = engine.shape(model, plan["recipes"][setting["recipe"]]["rank"])
    if setting["checkpointing"] == "selective":
        return memory_plan.checkpointed_layers(
            shape, setting["tokens_per_step"], int(plan["budget_bytes"])
        )
    return len(shape.kinds) if setting["checkpointing"] == "on" else 0


# -----------------------------------------------------------------------------
# one setting


def step(model: PeftModel, optimizer: torch.optim.Optimizer, batch: Batch) -> float:
    out = model(**batch, use_cache=False, fused_lm_head=True)
    loss = -out.log_probs.sum() / out.label_mask.sum()
    loss.backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return float(loss.detach())


def time_setting(
    model: PeftModel, setting: Row, plan: dict[str, Any], read: list[Sample], tell: Any
) -> Row:
    """Seconds, loss and tokens without padding of each step, and the peak. Raises RuntimeError
    if packing is impossible."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if setting["packing"] and not engine.can_pack():
        raise RuntimeError(
            "packing needs a GPU with causal-conv1d and mamba-ssm; without them samples would leak"
        )
    layers = checkpointed_layers(model, setting, plan)
    engine.checkpoint(model, layers)
    model.train()  # a loaded model is not: it would compute Mamba by parts and checkpoint nothing
    begin_anew(model)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4, fused=device == "cuda")
    source, batched = (
        samples.steps(setting, read),
        samples.packed if setting["packing"] else samples.padded,
    )
    seconds: list[float] = []
    losses: list[float] = []
    tokens: list[int] = []
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    for number in range(plan["warm_up"] + setting["steps"]):
        chosen = next(source)
        batch = batched(chosen, device)
        engine.wait_for(device)
        started = time.perf_counter()
        losses.append(round(step(model, optimizer, batch), 4))
        engine.wait_for(device)
        seconds.append(round(time.perf_counter() - started, 4))
        tokens.append(sum(len(ids) for ids, _ in chosen))
        tell(step=number + 1, steps=plan["warm_up"] + setting["steps"], seconds=seconds[-1])
    peak = torch.cuda.max_memory_allocated() if device == "cuda" else None
    return {
        "checkpointed_layers": layers,
        "peak_bytes": peak,
        **timing(seconds, tokens, plan["warm_up"]),
    } | {
        "trainable_parameters": sum(parameter.numel() for parameter in trained),
        "loss_of_each_step": losses,
    }


def against_floor(shape: memory_plan.Shape, row: Row, ceilings: dict[str, float]) -> Row:
    """The row compared with the device's floor and with the memory model's prediction."""
    if not ceilings:
        return {}
    least = floor.floor(shape, row["tokens_per_step"], **ceilings)
    needed = floor.operations(shape, row["tokens_per_step"]) / ceilings["operations_per_second"]
    return {
        "floor_fraction": round(least.seconds / row["step_seconds"], 4),
        "bandwidth_floor_fraction": round(least.moving / row["step_seconds"], 4),
        "model_flop_utilisation": round(needed / row["step_seconds"], 4),
    }


def release(device: str) -> None:
    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()


# -----------------------------------------------------------------------------
# the machine


def ceilings(device: str) -> dict[str, float]:
    """The device's measured maximum: bytes a second of a copy (read and written), and bf16
    operations a second."""
    if device != "cuda":
        return {}
    source = torch.empty(4 << 30, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    a, b = (torch.randn(8192, 8192, device=device, dtype=torch.bfloat16) for _ in range(2))
    copy, product = (best_seconds(act) for act in (lambda: target.copy_(source), lambda: a @ b))
    return {
        "copy_bytes_per_second": 2 * source.numel() / copy,
        "operations_per_second": 2 * 8192**3 / product,
    }


def best_seconds(act: Any, repeats: int = 10) -> float:
    found = []
    for _ in range(repeats):
        torch.cuda.synchronize()
        started = time.perf_counter()
        act()
        torch.cuda.synchronize()
        found.append(time.perf_counter() - started)
    return min(found)


def facts(device: str) -> dict[str, Any]:
    versions = {module.__name__: module.__version__ for module in (torch, transformers, peft, trl)}
    name = torch.cuda.get_device_name() if device == "cuda" else "cpu"
    return {
        "date": time.strftime("%Y-%m-%d"),
        "machine": name,
        "versions": versions | engine.kernel_versions(),
    }


# -----------------------------------------------------------------------------
# the run


class Bench:
    """One run over a plan. The results so far are saved after each setting."""

    def __init__(self, plan: dict[str, Any], result_file: Path) -> None:
        self.plan, self.file = plan, result_file
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.settings = [{"steps": plan["steps"]} | setting for setting in plan["settings"]]
        self.result = facts(self.device) | {
            key: plan[key] for key in ("layers", "base_model", "warm_up", "recipes")
        }
        self.result["command"] = "python3 -m training.bench " + " ".join(sys.argv[1:])
        self.result["rows"] = self.rows_of_an_earlier_run()

    def rows_of_an_earlier_run(self) -> list[Row]:
        if not self.file.exists():
            return []
        before = json.loads(self.file.read_text(encoding="utf-8"))
        same = all(
            before.get(key) == value
            for key, value in self.result.items()
            if key not in ("date", "command")
        )
        return [row for row in before["rows"] if "error" not in row] if same else []

    def left(self, *engines: str) -> list[Row]:
        done = [{key: row.get(key) for key in KEYS} for row in self.result["rows"]]
        return [
            setting
            for setting in self.settings
            if setting["engine"] in engines and setting not in done
        ]

    def tell(self, setting: Row, **values: object) -> None:
        number = self.settings.index(setting) + 1
        line = {
            "time": round(time.time(), 1),
            "setting": number,
            "settings": len(self.settings),
            **values,
        }
        with self.file.with_name("PROGRESS.jsonl").open("a", encoding="utf-8") as progress:
            print(json.dumps(line), file=progress)

    def keep(self, row: Row) -> None:
        self.result["rows"].append(row)
        shown = {key: value for key, value in row.items() if not isinstance(value, list)}
        print(json.dumps(shown), flush=True)
        self.save()

    def save(self) -> None:
        loops = [
            row
            for row in self.result["rows"]
            if row["engine"] == "published" and "tokens_per_second" in row
        ]
        for row in self.result["rows"]:
            if loops and "tokens_per_second" in row:
                row["ratio_to_loop"] = round(
                    row["tokens_per_second"] / loops[0]["tokens_per_second"], 2
                )
        unfinished = self.file.with_suffix(".unfinished")
        unfinished.write_text(json.dumps(self.result, indent=1), encoding="utf-8")
        unfinished.replace(self.file)

    def unsloth(self) -> None:
        """Runs it in its own process and first, because it takes the whole device."""
        if not self.left("unsloth"):
            return
        plan, rows = self.file.with_name("UNSLOTH-PLAN.json"), self.file.with_name("UNSLOTH.jsonl")
        plan.write_text(
            json.dumps(self.plan | {"settings": self.left("unsloth")}), encoding="utf-8"
        )
        rows.unlink(missing_ok=True)
        ended = subprocess.run(
            [sys.executable, "-m", "training.bench.unsloth", str(plan), str(rows)], check=False
        )
        lines = rows.read_text(encoding="utf-8").splitlines() if rows.exists() else []
        for line in lines:
            self.keep(json.loads(line))
        for setting in self.left("unsloth"):
            self.keep(setting | {"error": f"Unsloth's process ended with {ended.returncode}"})

    def ours(self) -> None:
        if not self.left(*ENGINES):
            return
        machine = ceilings(self.device)
        started = time.perf_counter()
        base = base_model(self.plan, self.device)
        read = read_samples(self.plan)
        self.result["total_parameters"] = sum(parameter.numel() for parameter in base.parameters())
        engine.wait_for(self.device)
        self.result |= machine | {"build_seconds": round(time.perf_counter() - started, 1)}
        add_fused_lm_head(base)
        products, self.result["probe_milliseconds"] = engine.choose_products(base)
        for name in self.plan["recipes"]:
            settings = [setting for setting in self.left(*ENGINES) if setting["recipe"] == name]
            model = adapted(base, self.plan["recipes"][name])
            for setting in settings:
                self.keep(self.measure(model, setting, products, read, machine))
            base = model.unload()

    def measure(
        self,
        model: PeftModel,
        setting: Row,
        products: expert_lora.Products,
        read: list[Sample],
        machine: Row,
    ) -> Row:
        shape = engine.shape(model, self.plan["recipes"][setting["recipe"]]["rank"])
        try:
            use(model, setting["engine"], products)
            row = time_setting(
                model, setting, self.plan, read, lambda **values: self.tell(setting, **values)
            )
        except (torch.OutOfMemoryError, RuntimeError, memory_plan.TooSmall) as error:
            return setting | {"error": f"{type(error).__name__}: {error}"[:500]}
        finally:
            release(self.device)
        foretold = memory_plan.peak_bytes(
            shape, setting["tokens_per_step"], row["checkpointed_layers"]
        )
        more = (
            {"predicted_peak_bytes": foretold}
            if setting["engine"] != "published" and self.device == "cuda"
            else {}
        )
        return setting | row | more | against_floor(shape, setting | row, machine)


def run(plan: dict[str, Any], result_file: Path) -> dict[str, Any]:
    bench = Bench(plan, result_file)
    bench.unsloth()
    bench.ours()
    bench.save()
    return bench.result


if __name__ == "__main__":
    run(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")), Path(sys.argv[2]))
