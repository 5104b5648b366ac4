"""Times training steps of several settings in one process, on random weights of the real architecture.

    python -m training.bench PLAN.json RESULT.json

Reads   PLAN.json    {"layers": 52, "steps": 6, "warm_up": 3, "recipes": {name: {rank, alpha, target_modules,
                     target_parameters, layers}}, "settings": [{"recipe", "engine", "checkpointed_layers", "tokens", "rows"}]}
Writes  RESULT.json  after every setting: {"machine", "versions", "rows": [...]}; a line a setting on standard output
engine: "published" loops over the experts, as the hub's own model class does and the case study very likely ran;
"grouped" is the night's own. Random weights know nothing, so the loss says only that it is finite.
"""

from __future__ import annotations

import gc
import json
import os
import random
import statistics
import sys
import time
from pathlib import Path
from types import MethodType
from typing import Any

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
import peft
import torch
import transformers
import trl
from peft import LoraConfig, PeftModel
from peft.tuners.lora.layer import ParamWrapper
from training import architecture, engine, grouped
from trl.trainer.utils import add_fused_lm_head

Batch = dict[str, Any]
Row = dict[str, Any]

# -----------------------------------------------------------------------------
# what is trained


def pack(rows: int, tokens: int, seed: int, device: str) -> Batch:
    """One pack as TRL's collator makes it: rows samples of uneven length, tokens in all, every token learned."""
    choose = random.Random(seed)
    shares = [choose.lognormvariate(0, 0.5) for _ in range(rows)]
    lengths = [max(4, int(tokens * 0.97 * share / sum(shares))) for share in shares]
    lengths[-1] += tokens - sum(lengths)
    ends = torch.tensor([0, *lengths]).cumsum(0).to(torch.int32)
    ids = torch.randint(5, 700, (1, tokens), generator=torch.Generator().manual_seed(seed))
    positions = torch.cat([torch.arange(length) for length in lengths])[None]
    batch = {
        "input_ids": ids,
        "labels": torch.where(positions == 0, -100, ids),
        "position_ids": positions,
        "seq_idx": torch.repeat_interleave(torch.arange(rows, dtype=torch.int32), torch.tensor(lengths))[None],
    }
    starts = {"cu_seq_lens_q": ends, "cu_seq_lens_k": ends, "max_length_q": max(lengths), "max_length_k": max(lengths)}
    return {name: tensor.to(device) for name, tensor in batch.items()} | starts


def adapted(model: torch.nn.Module, recipe: dict[str, Any]) -> PeftModel:
    configuration = LoraConfig(
        r=recipe["rank"], lora_alpha=recipe["alpha"], lora_dropout=0.0, target_modules=recipe["target_modules"],
        target_parameters=recipe["target_parameters"], layers_to_transform=recipe["layers"] or None, task_type="CAUSAL_LM",
    )  # fmt: skip
    return engine.adapted(model, configuration)


# -----------------------------------------------------------------------------
# the published way


def published_experts(
    self: ParamWrapper, hidden: torch.Tensor, chosen: torch.Tensor, weights: torch.Tensor, up: ParamWrapper, down: ParamWrapper
) -> torch.Tensor:
    """Expert by expert, each with its own LoRA pair: what a list of expert modules under PEFT does."""
    base = self.get_base_layer()
    (adapter,) = self.active_adapters
    up_a, up_b = grouped.factors(up, adapter, hidden.dtype)
    down_a, down_b = grouped.factors(down, adapter, hidden.dtype)
    scale = up.scaling[adapter]
    out = torch.zeros_like(hidden, dtype=weights.dtype)
    with torch.no_grad():
        mask = torch.nn.functional.one_hot(chosen, base.num_experts).permute(2, 1, 0)
        hit = torch.greater(mask.sum(dim=(-1, -2)), 0).nonzero().squeeze(-1)
    linear = torch.nn.functional.linear
    for expert in hit.tolist():
        position, token = torch.where(mask[expert])
        x = hidden[token]
        h = linear(x, base.up_proj[expert]) + linear(linear(x, up_a[expert]), up_b[expert]) * scale
        h = base.act_fn(h)
        y = linear(h, base.down_proj[expert]) + linear(linear(h, down_a[expert]), down_b[expert]) * scale
        out.index_add_(0, token, (y * weights[token, position, None]).to(out.dtype))
    return out.to(hidden.dtype)


def use(model: PeftModel, name: str, products: grouped.Products) -> None:
    """Switches a PEFT model to one engine, from either."""
    engine.disable(model)
    if name.startswith("grouped"):
        engine.enable(model, products)
        return
    model.get_base_model().set_attn_implementation("sdpa")
    for outer, inner in grouped.wrapped_experts(model):
        by_name = {wrapper.parameter_name: wrapper for wrapper in (outer, inner)}

        def forward(
            self: ParamWrapper, hidden: torch.Tensor, chosen: torch.Tensor, weights: torch.Tensor,
            up: ParamWrapper = by_name["up_proj"], down: ParamWrapper = by_name["down_proj"],
        ) -> torch.Tensor:  # fmt: skip
            return published_experts(self, hidden, chosen, weights, up, down)

        outer.forward = MethodType(forward, outer)


# -----------------------------------------------------------------------------
# one setting


def step(model: PeftModel, optimizer: torch.optim.Optimizer, batch: Batch) -> float:
    out = model(**batch, fused_lm_head=True)
    loss = -out.log_probs.sum() / out.label_mask.sum()
    loss.backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return float(loss.detach())


def time_setting(model: PeftModel, setting: dict[str, Any], plan: dict[str, Any], device: str) -> Row:
    """Median seconds a step after the warm-up, peak bytes, and the seconds of every step."""
    engine.checkpoint(model, setting["checkpointed_layers"])
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4, fused=device == "cuda")
    seconds: list[float] = []
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    for number in range(plan["warm_up"] + plan["steps"]):
        batch = pack(setting["rows"], setting["tokens"], number, device)
        engine.wait_for(device)
        started = time.perf_counter()
        loss = step(model, optimizer, batch)
        engine.wait_for(device)
        seconds.append(time.perf_counter() - started)
    median = statistics.median(seconds[plan["warm_up"] :])
    return {
        "trainable_parameters": sum(parameter.numel() for parameter in trained),
        "step_seconds": round(median, 4),
        "tokens_per_second": round(setting["tokens"] / median, 1),
        "peak_bytes": torch.cuda.max_memory_allocated() if device == "cuda" else None,
        "loss": round(loss, 4),
        "seconds_of_each_step": [round(value, 3) for value in seconds],
    }


def release(device: str) -> None:
    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()


# -----------------------------------------------------------------------------
# the machine


def ceilings(device: str) -> dict[str, float]:
    """What this device does at best, measured: bytes a second of a copy (read and written), bf16 operations a second."""
    if device != "cuda":
        return {}
    source = torch.empty(4 << 30, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    a, b = (torch.randn(8192, 8192, device=device, dtype=torch.bfloat16) for _ in range(2))
    copy, product = (best_seconds(act) for act in (lambda: target.copy_(source), lambda: a @ b))
    return {"copy_bytes_per_second": 2 * source.numel() / copy, "operations_per_second": 2 * 8192**3 / product}


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
        **ceilings(device),
    }


def run(plan: dict[str, Any], result_file: Path) -> dict[str, Any]:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    result = facts(device) | {"layers": plan["layers"], "rows": []}
    started = time.perf_counter()
    base = architecture.random_model(device, plan["layers"])
    result["total_parameters"] = sum(parameter.numel() for parameter in base.parameters())
    engine.wait_for(device)
    result["build_seconds"] = round(time.perf_counter() - started, 1)
    add_fused_lm_head(base)
    products, result["probe"] = engine.choose_products(base)
    model, recipe = None, ""
    for setting in [setting for setting in plan["settings"] if setting["engine"] != "unsloth"]:
        if setting["recipe"] != recipe:
            base = model.unload() if model is not None else base
            recipe = setting["recipe"]
            model = adapted(base, plan["recipes"][recipe])
        use(model, setting["engine"], products if setting["engine"] != "grouped-triton" else grouped.triton_products())
        try:
            row = setting | time_setting(model, setting, plan, device)
        except torch.OutOfMemoryError as error:
            row = setting | {"error": str(error)[:300]}
        release(device)
        result["rows"].append(row)
        print(json.dumps(row), flush=True)
        result_file.write_text(json.dumps(result, indent=1))
    return result


if __name__ == "__main__":
    run(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")), Path(sys.argv[2]))
