"""Whether a folder holds an adapter that vLLM serves right. Read from headers only: no tensor is
loaded, no torch needed.

vLLM refuses some bad adapters with an empty reason and serves others wrong without a word, so this
says it first.
"""

from __future__ import annotations

import json
import re
import struct
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy

LARGEST_HEADER_BYTES = (
    100_000_000  # the format's own limit, https://github.com/huggingface/safetensors#format
)
# what vLLM is started to adapt (--lora-target-modules in compose.day.yaml): the rest it would drop
# without a word
SERVED_TARGETS = {"q_proj", "k_proj", "v_proj", "o_proj", "in_proj", "up_proj", "down_proj"}
EXPERT = re.compile(
    r"\.layers\.(\d+)\.mixer\.experts\.(\d+)\.(up_proj|down_proj)\.lora_([AB])\.weight$"
)
FUSED = re.compile(r"\.mixer\.experts\.(base_layer\.)?lora_[AB]\.weight$")
PLACE = re.compile(r"\.layers\.\d+\.mixer\.(experts\.\d+\.|shared_experts\.)?\w+$")
FACTOR = re.compile(r"^base_model\.model\.(.+)\.lora_([AB])\.weight$")

Shapes = dict[str, list[int]]


@dataclass(frozen=True)
class BaseModel:
    """The facts of the base model that an adapter must fit. expert_count: routed experts in each
    such layer."""

    name: str
    expert_count: int
    expert_layers: tuple[int, ...]

    @classmethod
    def of(cls, table: dict[str, Any]) -> BaseModel:
        return cls(table["name"], table["expert_count"], tuple(table["expert_layers"]))


def problems(folder: Path, base: BaseModel | None, largest_rank: int) -> list[str]:
    """Everything that is wrong with the adapter in folder, in words; empty if nothing is. base None
    skips what needs it.

    largest_rank: what vLLM is started with as --max-lora-rank.
    """
    try:
        configuration = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
        shapes = read_shapes(folder / "adapter_model.safetensors")
    except (OSError, ValueError, struct.error) as error:
        return [f"{folder} is not an adapter folder: {error}"]
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
            f"{fused[0]} is PEFT's fused form of the experts, which vLLM serves wrong; it needs one"
            " pair an expert"
        ]
    if not shapes:
        return ["there is no tensor in it"]
    return factor_problems(shapes, rank) + expert_problems(shapes, base)


def factor_problems(shapes: Shapes, rank: int) -> list[str]:
    """Every A [rank, in] with its B [out, rank], and nothing else."""
    found: list[str] = []
    for name, shape in sorted(shapes.items()):
        match = FACTOR.match(name)
        if match is None:
            found.append(f"{name} is no LoRA factor")
            continue
        if PLACE.search(match[1]) is None:  # vLLM loads it and drops the tensor without a word
            found.append(f"{name} names no place in the model")
        elif match[1].rsplit(".", 1)[-1] not in SERVED_TARGETS:
            found.append(
                f"{name} adapts what vLLM is not started to adapt: see --lora-target-modules in"
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
            found.append(f"{name} is there and {other} is not")
    return found


def expert_problems(shapes: Shapes, base: BaseModel | None) -> list[str]:
    """If any routed expert is adapted, every expert of every such layer must be, in both
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
    """Tensor name -> shape. Raises ValueError where the file is cut short or not of the format."""
    return {name: entry["shape"] for name, entry in read_header(path)[0].items()}


def read_header(path: Path) -> tuple[dict[str, Any], int]:
    """(tensor name -> its dtype, shape and data_offsets; where the data begins). Raises ValueError
    as read_shapes does."""
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        if length > LARGEST_HEADER_BYTES:
            raise ValueError(
                f"{path.name} is no safetensors file: its header would be {length} bytes"
            )
        header: dict[str, Any] = json.loads(file.read(length))
    tensors = {name: entry for name, entry in header.items() if name != "__metadata__"}
    end = 8 + length + max((entry["data_offsets"][1] for entry in tensors.values()), default=0)
    if path.stat().st_size != end:
        raise ValueError(f"{path.name} is {path.stat().st_size} bytes long, its header says {end}")
    return tensors, 8 + length


# safetensors' name -> how its bits are read, and the bits that are all set in NaN and infinity
TYPES = {"F32": ("<u4", 0x7F800000), "BF16": ("<u2", 0x7F80), "F16": ("<u2", 0x7C00)}
SIGN = {4: 0x7FFFFFFF, 2: 0x7FFF}
EXPERT_NUMBER = re.compile(r"\.experts\.\d+\.")


def value_problems(folder: Path) -> list[str]:
    """In words; empty if nothing is wrong. For a folder whose names and shapes adapter_format has
    found to be right."""
    path = folder / "adapter_model.safetensors"
    header, start = read_header(path)
    data = numpy.memmap(path, dtype=numpy.uint8, mode="r")
    found: list[str] = []
    alive: dict[str, bool] = {}
    for name, entry in sorted(header.items()):
        if entry["dtype"] not in TYPES:
            return [f"{name} is of type {entry['dtype']}, known are {', '.join(TYPES)}"]
        finite, anything = look(data, start, entry)
        found += [] if finite else [f"{name} holds NaN or infinity"]
        # an expert that no example was sent to has learned nothing, which is right; all of a
        # layer's have not
        pair = EXPERT_NUMBER.sub(".experts.*.", name)
        alive[pair] = alive.get(pair, False) or anything
    dead = [name for name, anything in alive.items() if not anything]
    return found + [
        f"{name} is all zeros{f', and so are {len(dead) - 1} more' if len(dead) > 1 else ''}"
        for name in dead[:1]
    ]


def look(data: Any, start: int, entry: dict[str, Any]) -> tuple[bool, bool]:
    """(every number is finite, one is not zero)."""
    kind, exponent = TYPES[entry["dtype"]]
    begin, end = (start + offset for offset in entry["data_offsets"])
    bits = numpy.frombuffer(data[begin:end].tobytes(), dtype=kind)
    finite = not bool(((bits & exponent) == exponent).any())
    return finite, bool((bits & SIGN[bits.itemsize]).any())
