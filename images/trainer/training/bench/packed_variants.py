"""Ways to make steps on packed weights faster, at a small and a full step, and BF16 beside them.

    python -m training.bench.packed_variants FOLDER RESULT.json [LAYERS]

FOLDER and RESULT.json as for training.bench.packed. The ways, joined by "+":

as is   one weight ahead is made dense, on a stream of its own
bits    e2m1 is decoded by its bits, without a conversion of integers
ahead   two weights ahead, in a third buffer, and their kernels get only what the step's leave free
fused   products by experts read packed weights themselves
"""

from __future__ import annotations

import functools
import itertools
import sys
from dataclasses import replace
from pathlib import Path

import torch
from peft import PeftModel

from training import (
    architecture,
    expert_lora,
    packed_rows_triton,
    packed_weights,
    packed_weights_triton,
)
from training.bench import packed, run
from training.bench.packed import ROWS, Row

VARIANTS = ("as is", "bits", "ahead", "bits+ahead", "bits+fused")


@torch.no_grad()
def stack_products(model: torch.nn.Module, products: expert_lora.Products) -> Row:
    """By rows of a small and a full step: milliseconds of a product by a packed stack, its dense
    form included, and how far it is from torch's on the dense form, both ways."""
    experts = next(m for m in model.modules() if type(m).__name__ == "NemotronHExperts")
    weight = packed_weights.dense_form(experts, "up_proj")
    dense = weight().clone()
    count, inner, hidden = dense.shape
    found: Row = {}
    for tokens, flip in itertools.product((1600, 10_240), (True, False)):
        size = 6 * tokens
        ends = torch.linspace(0, size, count + 1, device="cuda")[1:].to(torch.int32)
        x = torch.randn(size, hidden if flip else inner, device="cuda", dtype=dense.dtype)
        wanted = expert_lora.torch_rows(x, dense.mT if flip else dense, ends)
        apart = (products.stack(x, weight, ends, flip) - wanted).abs().max() / wanted.abs().max()
        seconds = run.best_seconds(functools.partial(products.stack, x, weight, ends, flip))
        found[f"{tokens} tokens, {'forward' if flip else 'backward'}"] = {
            "milliseconds": round(seconds * 1000, 3),
            "largest_relative_difference": float(apart),
        }
    return found


def variant(one: packed.Bench, model: PeftModel, name: str) -> None:
    parts, products = name.split("+"), one.products
    packed_weights_triton.BY_BITS = "bits" in parts
    if "fused" in parts:
        products = replace(products, packed_rows=packed_rows_triton.rows)
    run.use(model, "grouped", products)
    scratch = next(s for m in model.modules() for _, s in packed_weights.held(m).values())
    scratch.order, scratch.buffers = packed_weights.Order(), []
    run.release("cuda")
    largest = max(weight.parameters for weight in packed_weights.all_packed(model))
    scratch.reserve(largest, ahead=2 if "ahead" in parts else 1)
    checked = {"kernel": packed.kernel(model), "products": stack_products(model, products)}
    # of two kernels that wait, the blocks of the one with the higher priority go first
    with torch.cuda.stream(torch.cuda.Stream(priority=-1 if "ahead" in parts else 0)):
        one.rows(model, "packed", ROWS[:2], variant=name, **checked)


def bench(folder: Path, result_file: Path, layers: int) -> None:
    one = packed.Bench(folder, result_file, layers)
    model = one.model()
    for name in VARIANTS:
        try:
            variant(one, model, name)
        except Exception as error:  # a way that does not run here is a result
            row = {"variant": name, "error": f"{type(error).__name__}: {error}"[:600]}
            one.keep(rows=[*one.result["rows"], row])
            print(row, flush=True)
    packed.make_dense(model)
    run.use(model, "grouped", one.products)
    one.rows(model, "bf16", ROWS[:2])


if __name__ == "__main__":
    bench(
        Path(sys.argv[1]),
        Path(sys.argv[2]),
        int(sys.argv[3]) if len(sys.argv) > 3 else len(architecture.PATTERN),
    )
