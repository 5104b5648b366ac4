"""Times training on packed NVFP4 weights against the same weights made dense first, on the full
architecture with random numbers.

    python -m training.bench.packed FOLDER RESULT.json [LAYERS]

FOLDER       gets an NVFP4 checkpoint in the hub's layout, 19 GB for all 52 layers
RESULT.json  written after each row; also the seconds and bytes of loading, and how far the
             gradients of one step are apart: packed against dense, and each against itself, which
             is what the kernels' own order of sums does
"""

from __future__ import annotations

import gc
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from trl.trainer.utils import add_fused_lm_head

from training import (
    architecture,
    engine,
    expert_lora,
    expert_rows,
    memory_plan,
    packed_checkpoint,
    packed_weights,
    samples,
)
from training.bench import random_checkpoint, run
from training.packed_weights import Order, Packed

Tensor = torch.Tensor
Row = dict[str, Any]
SPARE_BYTES = 5_000_000_000  # of the GPU: what torch's allocator and the driver take besides
TEAM = {
    "rank": 16,
    "alpha": 32,
    "layers": [],
    "target_parameters": ["mixer.experts.up_proj", "mixer.experts.down_proj"],
    "target_modules": ["q_proj", "k_proj", "v_proj", "o_proj", "in_proj", "up_proj", "down_proj"],
}
ROWS = [(1600, "off"), (10_240, "selective"), (10_240, "on")]
MORE_PACKED_ROWS = [(20_480, "selective"), (26_624, "selective")]

# -----------------------------------------------------------------------------
# loading


def load(folder: Path, result: Row) -> torch.nn.Module:
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    started = time.perf_counter()
    model = packed_checkpoint.load(folder, torch.bfloat16, "cuda")
    torch.cuda.synchronize()
    weights = packed_weights.all_packed(model)
    result["load"] = {
        "seconds": round(time.perf_counter() - started, 1),
        "checkpoint_bytes": sum(path.stat().st_size for path in folder.iterdir()),
        "allocated_bytes": torch.cuda.memory_allocated(),
        "peak_bytes": torch.cuda.max_memory_allocated(),
        "packed_parameters": sum(weight.parameters for weight in weights),
        "packed_bytes": sum(weight.size_bytes for weight in weights),
    }
    return model


# -----------------------------------------------------------------------------
# exactness


def kernel(model: torch.nn.Module) -> Row:
    """The kernel's numbers against the plain reference's, and its speed on the largest stack."""
    weight = max(packed_weights.all_packed(model), key=lambda one: one.parameters)
    few = Packed(weight.values[:8], weight.scales[:8], weight.factors[:8])
    out = torch.full(few.shape, float("nan"), dtype=torch.bfloat16, device="cuda")
    few.write_dense(out)
    target = torch.empty(weight.shape, dtype=torch.bfloat16, device="cuda")
    seconds = run.best_seconds(lambda: weight.write_dense(target))
    return {
        "equals_the_reference": torch.equal(out, few.dense(torch.bfloat16)),
        "milliseconds": round(seconds * 1000, 3),
        "bytes_per_second": round((weight.size_bytes + target.nbytes) / seconds),
    }


def one_layer(model: torch.nn.Module, products: expert_lora.Products) -> bool:
    """True if output and gradients of a layer's experts are bit for bit those of dense stacks."""
    experts = next(m for m in model.modules() if type(m).__name__ == "NemotronHExperts")
    weights = [weight for weight, _ in packed_weights.held(experts).values()]
    count, inner, hidden = weights[0].shape
    dense = []
    for weight in weights:
        out = torch.empty(weight.shape, dtype=torch.bfloat16, device="cuda")
        weight.write_dense(out)
        dense.append(out)
    torch.manual_seed(0)
    options: dict[str, Any] = {"device": "cuda", "dtype": torch.bfloat16}
    shapes = [(count, 16, hidden), (count, inner, 16), (count, 16, inner), (count, hidden, 16)]
    factors = [torch.randn(shape, **options) * 0.02 for shape in shapes]
    x, routed = torch.randn(1600, hidden, **options), torch.rand(1600, 6, device="cuda")
    chosen = torch.rand(1600, count, device="cuda").topk(6, -1).indices
    routing = expert_rows.Routing.of(chosen, count)

    def results(up: Callable[[], Tensor], down: Callable[[], Tensor]) -> list[Tensor]:
        inputs = [tensor.clone().requires_grad_() for tensor in (x, routed, *factors)]
        out = expert_lora.Experts.apply(*inputs[:2], up, down, *inputs[2:], 2.0, routing, products)
        out.float().pow(2).mean().backward()
        return [out.detach(), *(tensor.grad for tensor in inputs if tensor.grad is not None)]

    found = results(
        *(packed_weights.dense_form(experts, side) for side in ("up_proj", "down_proj"))
    )
    wanted = results(lambda: dense[0], lambda: dense[1])
    return all(torch.equal(one, other) for one, other in zip(found, wanted, strict=True))


def gradients(model: PeftModel) -> tuple[float, dict[str, Tensor]]:
    """Loss and gradients of a packed step of 1,600 tokens, with an adapter of non-zero numbers."""
    torch.manual_seed(3)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data.normal_(0, 0.02)
    model.train()
    model.zero_grad()
    batch = samples.packed(samples.random_samples(8, 1600, 1), "cuda")
    out = model(**batch, use_cache=False, fused_lm_head=True)
    loss = -out.log_probs.sum() / out.label_mask.sum()
    loss.backward()
    found = {n: p.grad.cpu() for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad(set_to_none=True)
    return float(loss.detach()), found


def apart(one: tuple[float, dict[str, Tensor]], other: tuple[float, dict[str, Tensor]]) -> Row:
    differences = {name: (one[1][name] - other[1][name]).abs() for name in other[1]}
    relative = {
        name: float(difference.norm() / other[1][name].norm().clamp_min(1e-30))
        for name, difference in differences.items()
    }
    return {
        "tensors": len(differences),
        "equal_bit_for_bit": sum(not difference.any() for difference in differences.values()),
        "largest_difference": max(float(difference.max()) for difference in differences.values()),
        "largest_gradient": max(float(gradient.abs().max()) for gradient in other[1].values()),
        "largest_relative_difference": max(relative.values()),
        "losses": [one[0], other[0]],
    }


# -----------------------------------------------------------------------------
# rows


@torch.no_grad()
def make_dense(model: torch.nn.Module) -> None:
    """The same weights in bfloat16, in place: what a BF16 checkpoint would hold."""
    for module in model.modules():
        for name, (weight, scratch) in packed_weights.held(module).items():
            dense = packed_checkpoint.dense_copy(weight, scratch)
            setattr(module, name, packed_checkpoint.frozen(dense))
            # they hold packed weights and room for dense ones
            scratch.forget()
        if module.__dict__.pop("packed", None):
            module.__dict__.pop("forward", None)
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


class NoGuess(Order):
    def after(self, weight: Packed) -> None:
        return None


def measure(model: PeftModel, base: str, tokens: int, checkpointing: str, more: Row) -> Row:
    budget = torch.cuda.get_device_properties(0).total_memory - SPARE_BYTES
    setting = {
        "recipe": "team",
        "engine": "grouped",
        "base": base,
        "checkpointing": checkpointing,
        "packing": True,
        "tokens_per_step": tokens,
        "rows": tokens // 200,
        "steps": 10,
    } | more
    plan = {"recipes": {"team": TEAM}, "budget_bytes": budget, "warm_up": 3}
    try:
        row = run.time_setting(model, setting, plan, [], lambda **_: None)
        shape = engine.shape(model, TEAM["rank"])
        row["predicted_peak_bytes"] = memory_plan.peak_bytes(
            shape, tokens, row["checkpointed_layers"]
        )
    except (RuntimeError, memory_plan.TooSmall) as error:  # too large for this GPU is a result
        row = {"error": f"{type(error).__name__}: {error}"[:300]}
    model.zero_grad(set_to_none=True)
    run.release("cuda")
    print(json.dumps(setting | row), flush=True)
    return setting | row


class Bench:
    """One run. The result is saved after each part."""

    def __init__(self, folder: Path, result_file: Path, layers: int) -> None:
        self.folder, self.file, self.layers = folder, result_file, layers
        self.result: Row = run.facts("cuda") | {"layers": layers, "recipes": {"team": TEAM}}
        self.result["command"] = "python3 -m training.bench.packed " + " ".join(sys.argv[1:])
        self.result["rows"] = []

    def keep(self, **more: Any) -> None:
        self.result.update(more)
        self.file.write_text(json.dumps(self.result, indent=1), encoding="utf-8")

    def rows(self, model: PeftModel, base: str, rows: list[tuple[int, str]], **more: Any) -> None:
        for tokens, checkpointing in rows:
            row = measure(model, base, tokens, checkpointing, more)
            self.keep(rows=[*self.result["rows"], row])

    def model(self) -> PeftModel:
        """On packed weights, checked layer by layer."""
        if not self.folder.exists():
            random_checkpoint.write(self.folder, self.layers, "cuda")
        base = load(self.folder, self.result)
        self.keep(kernel=kernel(base), **run.ceilings("cuda"))
        run.release("cuda")
        add_fused_lm_head(base)
        products, milliseconds = engine.choose_products(base)
        self.keep(probe_milliseconds=milliseconds, products=products.name)
        self.keep(experts_equal_bit_for_bit=one_layer(base, products))
        model = run.adapted(base, TEAM)
        engine.enable(model, products)
        run.release("cuda")
        return model

    def without_prefetch(self, model: PeftModel) -> None:
        for scratch in packed_weights.scratches(model):
            scratch.order = NoGuess()
        self.rows(model, "packed", ROWS[:2], prefetch=False)
        for scratch in packed_weights.scratches(model):
            scratch.order = Order()

    def compare(self, model: PeftModel) -> None:
        """Gradients on packed weights and on dense ones, twice each. It leaves the model dense."""
        engine.checkpoint(model, 0)
        try:
            torch.use_deterministic_algorithms(True)
            packed = [gradients(model) for _ in range(2)]
        except RuntimeError as error:  # then the comparisons with themselves say what it costs
            self.keep(not_deterministic=f"{error}"[:300])
            torch.use_deterministic_algorithms(False)
            packed = [gradients(model) for _ in range(2)]
        make_dense(model)
        dense = [gradients(model) for _ in range(2)]
        torch.use_deterministic_algorithms(False)
        pairs = {
            "packed_against_dense": (packed[1], dense[1]),
            "packed_against_itself": (packed[1], packed[0]),
            "dense_against_itself": (dense[1], dense[0]),
        }
        self.keep(gradients={name: apart(*pair) for name, pair in pairs.items()})


def bench(folder: Path, result_file: Path, layers: int) -> None:
    one = Bench(folder, result_file, layers)
    model = one.model()
    one.rows(model, "packed", [*ROWS, *MORE_PACKED_ROWS])
    one.without_prefetch(model)
    one.compare(model)
    one.rows(model, "bf16", ROWS)


if __name__ == "__main__":
    bench(
        Path(sys.argv[1]),
        Path(sys.argv[2]),
        int(sys.argv[3]) if len(sys.argv) > 3 else len(architecture.PATTERN),
    )
