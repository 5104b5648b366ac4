"""The job that checks whether vLLM can serve an adapter: names and shapes first, then the values.

    python3 -m training.check_adapter ORDER_FILE

vLLM refuses some bad adapters with an empty reason and serves others wrongly without an error. The
order file has: folder, name (of the folder, in messages), base (a BaseModel as a table, or null)
and largest_rank. Prints {"problems": [...]} as its last line. Needs no torch, which takes seconds
to import.
"""

from __future__ import annotations

import json
import re
import sys
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes  # noqa: F401  numpy knows bfloat16 by it
import numpy
from safetensors import SafetensorError, safe_open

from training import places

# vLLM's --lora-target-modules in compose.day.yaml: it silently drops all others
SERVED_TARGETS = {
    *("q_proj", "k_proj", "v_proj", "o_proj", "in_proj"),
    *("gate_proj", "up_proj", "down_proj"),
}
EXPERT = re.compile(
    r"\.layers\.(\d+)\.mixer\.experts\.(\d+)\.(up_proj|down_proj)\.lora_([AB])\.weight$"
)
FUSED = re.compile(r"\.mixer\.experts\.(base_layer\.)?lora_[AB]\.weight$")
PLACE = re.compile(r"\.layers\.\d+\.(.+)$")
FACTOR = re.compile(r"^base_model\.model\.(.+)\.lora_([AB])\.weight$")

EXPERT_NUMBER = re.compile(r"\.experts\.\d+\.")
TYPES = ("F32", "BF16", "F16")
TENSORS = "adapter_model.safetensors"

Shapes = dict[str, list[int]]


@dataclass(frozen=True)
class BaseModel:
    """What an adapter must fit. expert_count: routed experts in each such layer. places: where in a
    layer it may be."""

    name: str
    expert_count: int
    expert_layers: tuple[int, ...]
    places: frozenset[str] = places.NEMOTRON_H

    @classmethod
    def of(cls, table: dict[str, Any]) -> BaseModel:
        # facts that an earlier version wrote have no places; it knew Nemotron-H only
        where = frozenset(table.get("places", places.NEMOTRON_H))
        return cls(table["name"], table["expert_count"], tuple(table["expert_layers"]), where)


def problems(folder: Path, base: BaseModel | None, largest_rank: int, name: str = "") -> list[str]:
    """Every fault in the names and shapes of the adapter in folder, in words.

    base: None skips the checks that need it. largest_rank: vLLM's --max-lora-rank.
    """
    try:
        configuration = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
        shapes = read_shapes(folder / TENSORS)
    except (OSError, ValueError, SafetensorError) as error:
        return [f"{name or folder} is not an adapter folder: {error}"]
    rank = configuration.get("r") if isinstance(configuration, dict) else None
    if type(rank) is not int or not 1 <= rank <= largest_rank:
        return [
            f"adapter_config.json: r = {rank!r}, allowed is a whole number from 1 to {largest_rank}"
        ]
    return shape_problems(shapes, rank, base)


def shape_problems(shapes: Shapes, rank: int, base: BaseModel | None) -> list[str]:
    fused = sorted(name for name in shapes if FUSED.search(name))
    if fused:
        return [
            f"{fused[0]} is PEFT's fused form of the experts, which vLLM serves wrongly; it needs"
            " one pair for each expert"
        ]
    if not shapes:
        return ["it has no tensors"]
    where = base.places if base else places.NEMOTRON_H | places.PLAIN
    return factor_problems(shapes, rank, where) + expert_problems(shapes, base)


def factor_problems(shapes: Shapes, rank: int, where: frozenset[str]) -> list[str]:
    """Checks that every A [rank, in] has its B [out, rank], and that there is nothing else."""
    found: list[str] = []
    for name, shape in sorted(shapes.items()):
        match = FACTOR.match(name)
        if match is None:
            found.append(f"{name} is not a LoRA factor")
            continue
        if place(match[1]) not in where:  # vLLM loads the adapter and silently drops this tensor
            found.append(f"{name} names no module of the model")
        elif match[1].rsplit(".", 1)[-1] not in SERVED_TARGETS:
            found.append(
                f"{name} adapts a module that vLLM does not adapt: see --lora-target-modules in"
                " compose.day.yaml"
            )
        if (shape[0] if match[2] == "A" else shape[-1]) != rank:
            found.append(f"{name} has shape {shape}, but adapter_config.json says rank {rank}")
        other = (
            name.replace(".lora_A.", ".lora_B.")
            if match[2] == "A"
            else name.replace(".lora_B.", ".lora_A.")
        )
        if other not in shapes:
            found.append(f"{name} exists and {other} is missing")
    return found


def place(module: str) -> str:
    """Where in a layer the module is; without the number of an expert."""
    match = PLACE.search(module)
    return re.sub(r"\.experts\.\d+\.", ".experts.", match[1]) if match else ""


def expert_problems(shapes: Shapes, base: BaseModel | None) -> list[str]:
    """If any routed expert is adapted, all experts of all such layers must be, in both
    projections."""
    there: dict[int, set[tuple[int, str]]] = defaultdict(set)
    for name in shapes:
        match = EXPERT.search(name)
        if match:
            there[int(match[1])].add((int(match[2]), match[3]))
    if not there:
        return []
    count = (
        base.expert_count
        if base
        else 1 + max(expert for layer in there.values() for expert, _ in layer)
    )
    layers = base.expert_layers if base else tuple(sorted(there))
    wanted = {
        (expert, projection) for expert in range(count) for projection in ("up_proj", "down_proj")
    }
    found = [
        f"layer {layer}: expert {expert} has no {projection}"
        for layer in layers
        for expert, projection in sorted(wanted - there[layer])
    ]
    extra = [
        f"layer {layer}: the base model has no expert {e}"
        for layer in there
        for e, _ in sorted(there[layer] - wanted)
    ]
    return (
        found
        + extra
        + [
            f"layer {layer} has no experts in the base model"
            for layer in there
            if layer not in layers
        ]
    )


def read_shapes(path: Path) -> Shapes:
    """Tensor name -> shape. Raises SafetensorError for a truncated file or another format."""
    with safe_open(path, framework="np") as file:
        return {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118


def value_problems(folder: Path) -> list[str]:
    """Every fault in the values, in words. For an adapter without problems()."""
    found: list[str] = []
    alive: dict[str, bool] = {}
    with safe_open(folder / TENSORS, framework="np") as file:
        for name in sorted(file.keys()):
            kind = file.get_slice(name).get_dtype()
            if kind not in TYPES:
                return [f"{name} is of type {kind}, allowed are {', '.join(TYPES)}"]
            tensor = file.get_tensor(name)
            found += [] if numpy.isfinite(tensor).all() else [f"{name} holds NaN or infinity"]
            # an expert that got no example stays zero, which is right; a whole layer of zeros is
            # not
            group = EXPERT_NUMBER.sub(".experts.*.", name)
            alive[group] = alive.get(group, False) or bool(tensor.any())
    dead = [name for name, anything in alive.items() if not anything]
    more = f", and so are {len(dead) - 1} more" if len(dead) > 1 else ""
    return found + [f"{name} is all zeros{more}" for name in dead[:1]]


def check(order: dict[str, Any]) -> list[str]:
    folder, base = Path(order["folder"]), BaseModel.of(order["base"]) if order["base"] else None
    found = problems(folder, base, order["largest_rank"], order["name"])
    return found or value_problems(folder)


if __name__ == "__main__":
    print(json.dumps({"problems": check(json.loads(Path(sys.argv[1]).read_text()))}))
