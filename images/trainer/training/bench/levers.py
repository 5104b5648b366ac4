"""Times training steps on packed NVFP4 weights of random numbers, with and without each way to make
them faster, beside the same weights in BF16 and the published loop.

    python3 -m training.bench.levers PLAN.json RESULT.json [SECONDS]

PLAN.json    {"file": a file of env/models, "layers": how many, "recipes": {name: as in bench.run},
             "settings": [{"recipe", "engine", "base": "packed" or "bf16", "checkpointing",
             "packing", "tokens_per_step", "rows", "steps", "warm_up", "budget_bytes",
             "levers": [...]}]}.
             After the first "bf16" all weights are dense: those settings come last
RESULT.json  written after each row. A setting that would begin later than SECONDS is not run
levers       "buffers": dense forms of stacks and of other weights have buffers of their own
             "rows": one kernel for each step between the products of experts
             "graph": the layers as CUDA graphs
"""

from __future__ import annotations

import json
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from trl.trainer.utils import add_fused_lm_head

from training import (
    engine,
    expert_lora,
    graphs,
    memory_plan,
    packed_checkpoint,
    packed_weights,
    samples,
)
from training.bench import loop_engine, packed, random_checkpoint, run
from training.packed_weights import Scratch

Row = dict[str, Any]
BEGAN = time.monotonic()


def device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def dtype() -> torch.dtype:
    return torch.bfloat16 if device() == "cuda" else torch.float32


# -----------------------------------------------------------------------------
# levers


def share_buffers(model: torch.nn.Module, apart: bool) -> None:
    """One pair of buffers for every weight, or one for stacks and one for the others."""
    for scratch in packed_weights.scratches(model):
        scratch.settle()
        scratch.forget()
    stacks, others = Scratch(dtype(), device()), Scratch(dtype(), device())
    for module in model.modules():
        own = stacks if packed_checkpoint.is_experts(module) or not apart else others
        for name, (weight, _) in packed_weights.held(module).items():
            module.__dict__["packed"][name] = (weight, own)
    run.release(device())
    if device() == "cuda":
        packed_checkpoint.reserve(model)


def use(model: PeftModel, setting: Row, products: expert_lora.Products) -> None:
    engine.disable(model)
    if setting["engine"] == "published":
        loop_engine.enable(model)
        return
    levers = setting["levers"]
    share_buffers(model, "buffers" in levers)
    engine.enable(model, expert_lora.fused(products) if "rows" in levers else products)


def recorded(model: PeftModel, setting: Row) -> graphs.Recorded | None:
    if "graph" not in setting["levers"]:
        return None
    engine.checkpoint(model, 0)
    model.train()
    one = samples.random_samples(setting["rows"], setting["tokens_per_step"], 0)
    return graphs.record(model, samples.packed(one, device()))


# -----------------------------------------------------------------------------
# rows


def measure(model: PeftModel, setting: Row, plan: Row, products: expert_lora.Products) -> Row:
    recording = None
    try:
        use(model, setting, products)
        recording = recorded(model, setting)
        limits = plan | {key: setting[key] for key in ("warm_up", "budget_bytes")}
        row = run.time_setting(model, setting, limits, [], lambda **_: None)
        if setting["engine"] != "published":
            shape = engine.shape(model, plan["recipes"][setting["recipe"]]["rank"])
            row["predicted_peak_bytes"] = memory_plan.peak_bytes(
                shape, setting["tokens_per_step"], row["checkpointed_layers"]
            )
    except (RuntimeError, memory_plan.TooSmall, AttributeError, TypeError, ValueError) as error:
        # one that fails must not cost the others
        traceback.print_exc()
        row = {"error": f"{type(error).__name__}: {error}"[:500]}
    if recording is not None:
        graphs.stop(recording)
    del recording
    model.zero_grad(set_to_none=True)
    run.release(device())
    return setting | row


class Bench:
    def __init__(self, plan: Row, file: Path, seconds: float) -> None:
        self.plan, self.file, self.seconds = plan, file, seconds
        common = ("file", "layers", "recipes")
        self.result = run.facts(device()) | {key: plan[key] for key in common}
        self.result["command"] = "python3 -m training.bench.levers " + " ".join(sys.argv[1:])
        self.result["rows"] = []

    def keep(self, **more: Any) -> None:
        self.result.update(more)
        self.file.write_text(json.dumps(self.result, indent=1), encoding="utf-8")

    def row(self, row: Row) -> None:
        shown = {key: value for key, value in row.items() if not isinstance(value, list | dict)}
        print(round(time.monotonic() - BEGAN), json.dumps(shown | {"levers": row["levers"]}))
        self.keep(rows=[*self.result["rows"], row])

    def base(self) -> torch.nn.Module:
        file = Path(self.plan["file"])
        base = random_checkpoint.model(self.plan["layers"], file, device(), dtype())
        engine.wait_for(device())
        weights = packed_weights.all_packed(base)
        self.keep(
            load={
                "allocated_bytes": torch.cuda.memory_allocated() if device() == "cuda" else 0,
                "packed_parameters": sum(weight.parameters for weight in weights),
                "packed_bytes": sum(weight.size_bytes for weight in weights),
                "parameters": sum(parameter.numel() for parameter in base.parameters()),
            }
        )
        add_fused_lm_head(base)
        return base

    def run(self) -> None:
        base = self.base()
        products, milliseconds = engine.choose_products(base)
        self.keep(probe_milliseconds=milliseconds, products=products.name)
        for name in dict.fromkeys(setting["recipe"] for setting in self.plan["settings"]):
            model = run.adapted(base, self.plan["recipes"][name])
            settings = [one for one in self.plan["settings"] if one["recipe"] == name]
            for setting in settings:
                if time.monotonic() - BEGAN > self.seconds:
                    self.row(setting | {"error": "not run: no time was left"})
                    continue
                if setting["base"] == "bf16" and packed_weights.all_packed(model):
                    packed.make_dense(model)
                self.row(measure(model, setting, self.plan, products))
            engine.disable(model)
            base = model.unload()


if __name__ == "__main__":
    seconds = float(sys.argv[3]) if len(sys.argv) > 3 else float("inf")
    Bench(json.loads(Path(sys.argv[1]).read_text("utf-8")), Path(sys.argv[2]), seconds).run()
