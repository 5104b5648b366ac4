"""Times training through the quantiser against training beside the same packed weights, on the full
architecture with random numbers.

    python3 -m training.bench.packed_merge FOLDER RESULT.json [LAYERS]

FOLDER       an NVFP4 checkpoint in the hub's layout, written if it is not there: 19 GB
RESULT.json  written after each row; also whether the kernel's numbers are plain torch's, on the GPU
             and on the CPU, and its milliseconds on one layer's stack. The rows take its fastest
             shape
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch

from training import architecture, engine, expert_lora, packed_merge, packed_weights
from training.bench import packed, run
from training.packed_merge import Merged
from training.packed_weights import Packed

# rows, groups of columns and warps of a program of the kernel
SHAPES = ((32, 8, 4), (16, 8, 4), (64, 8, 8), (16, 16, 4), (32, 16, 8), (8, 16, 4))
FACTS = {
    "what": "training steps through the quantiser (recipe team-merged) and beside the same packed"
    " NVFP4 weights (team), the full architecture, one run on one GPU that is not a Spark's; ratios"
    " within this run count",
    "weights": "random, in an NVFP4 checkpoint of the hub's layout and the official rule of layers:"
    " no trained weights were there",
}
ROWS = [(10_240, "off"), (8192, "off"), (1600, "off")]
RANK = packed.TEAM["rank"]


def merged(weight: Packed) -> Merged:
    """With an adapter of the size of a trained one."""
    torch.manual_seed(1)
    count, rows, columns = weight.shape
    a = torch.randn(count, RANK, columns, device="cuda") * 0.02
    b = torch.randn(count, rows, RANK, device="cuda") * 0.02
    return Merged(weight, *packed_merge.rounded(a, b, 2.0))


def kernel(model: torch.nn.Module) -> dict[str, Any]:
    weight = max(packed_weights.all_packed(model), key=lambda one: one.parameters)
    one = merged(weight)
    few = Merged(
        Packed(weight.values[:2], weight.scales[:2], weight.factors[:2]), one.a[:2], one.b[:2]
    )
    out = torch.full(few.shape, float("nan"), dtype=torch.bfloat16, device="cuda")
    few.write_dense(out)
    base = few.weight
    on_cpu = Packed(base.values.cpu(), base.scales.cpu(), base.factors.cpu())
    by_cpu = Merged(on_cpu, few.a.cpu(), few.b.cpu()).packed()
    by_gpu = few.packed()
    target = torch.empty(weight.shape, dtype=torch.bfloat16, device="cuda")
    plain = run.best_seconds(lambda: weight.write_dense(target))
    shapes = {shape: milliseconds(one, target, shape) for shape in SHAPES}
    use(min(SHAPES, key=shapes.__getitem__))
    return {
        "equals_torch_on_the_gpu": torch.equal(out, by_gpu.dense(torch.bfloat16)),
        "equals_torch_on_the_cpu": torch.equal(out.cpu(), by_cpu.dense(torch.bfloat16)),
        "packed_bits_equal_the_cpu_s": torch.equal(by_gpu.values.cpu(), by_cpu.values)
        and torch.equal(by_gpu.scales.cpu().float(), by_cpu.scales.float()),
        "changed_share": float((by_cpu.values != on_cpu.values).float().mean()),
        "milliseconds": min(shapes.values()),
        "milliseconds_by_rows_groups_and_warps": {str(key): ms for key, ms in shapes.items()},
        "milliseconds_without_an_adapter": round(plain * 1000, 3),
    }


def use(shape: tuple[int, int, int]) -> None:
    from training import packed_merge_triton as kernels  # a machine without a GPU has no Triton

    kernels.ROWS, kernels.GROUPS, kernels.WARPS = shape


def milliseconds(one: Merged, target: torch.Tensor, shape: tuple[int, int, int]) -> float:
    use(shape)
    one.write_dense(target)
    return round(run.best_seconds(lambda: one.write_dense(target), 5) * 1000, 3)


def bench(folder: Path, result_file: Path, layers: int) -> None:
    one = packed.Bench(folder, result_file, layers)
    one.result["command"] = "python3 -m training.bench.packed_merge " + " ".join(sys.argv[1:])
    one.result |= FACTS
    model = one.model()
    one.keep(merge_kernel=kernel(model))
    print(one.result["merge_kernel"], flush=True)
    run.release("cuda")
    products = expert_lora.TORCH if one.result["products"] == "torch" else expert_lora.LOOP
    if one.result["products"] == "triton":
        products = expert_lora.triton_products()
    for row in ROWS:
        for merges in (False, True):
            engine.disable(model)
            engine.enable(model, products, merges)
            one.rows(model, "packed", [row], through_quantiser=merges)
        plain, through = one.result["rows"][-2:]
        if "error" not in plain | through:
            ratio = plain["step_seconds"] / through["step_seconds"]
            through["ratio_to_plain"] = round(ratio, 3)
            one.keep()


if __name__ == "__main__":
    bench(
        Path(sys.argv[1]),
        Path(sys.argv[2]),
        int(sys.argv[3]) if len(sys.argv) > 3 else len(architecture.PATTERN),
    )
