"""An NVFP4 checkpoint of the full architecture with random numbers, in the hub's layout and by the
official rule of layers, for timing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from training import architecture, memory_plan, packed_checkpoint
from training.packed_weights import Packed
from training.shards import KNOWN, Shards

Tensor = torch.Tensor


def random_packed(shape: tuple[int, ...], device: str) -> Packed:
    """Of a spread like a trained weight's: 0.02."""
    *more, rows, columns = shape
    values = torch.randint(0, 256, (*more, rows, columns // 2), dtype=torch.uint8, device=device)
    scales = torch.rand(*more, rows, columns // 16, device=device) + 0.5
    factors = torch.full(tuple(more), 0.02 / 2.9, device=device)
    return Packed(values, scales.to(torch.float8_e4m3fn), factors)


def entries(place: str, weight: Packed) -> dict[str, Tensor]:
    parts = (weight.values, weight.scales, weight.factors)
    names = ("weight", "weight_scale", "weight_scale_2")
    return {f"{place}.{name}": part for name, part in zip(names, parts, strict=True)}


def is_packed(place: str, kept: list[str]) -> bool:
    """The official rule. kept: the layers that stay in BF16."""
    named = ".experts." in place or "shared_experts" in place
    return (named or place.endswith(("in_proj", "out_proj"))) and not any(k in place for k in kept)


def kept_layers(configuration: Any) -> list[str]:
    kinds = list(configuration.layers_block_type)
    return [f".layers.{number}." for number in memory_plan.feeding_layers(kinds)]


class RandomShards(Shards):
    """In the place of a checkpoint's files: each tensor is made when it is asked for, so that a
    model which is larger than this machine's disk or memory can be timed on its GPU."""

    def __init__(self, model: torch.nn.Module, kept: list[str], device: str) -> None:
        self.device, self.kept = device, kept
        named = (*model.named_parameters(), *model.named_buffers())
        self.shapes = {
            name.replace("model.", "backbone.", 1): tuple(tensor.shape) for name, tensor in named
        }
        self.buffers = {name.replace("model.", "backbone.", 1) for name, _ in model.named_buffers()}

    def floating(self, name: str, dtype: torch.dtype) -> Tensor:
        numbers = torch.zeros(self.shapes[name], dtype=dtype, device=self.device)
        if name not in self.buffers:
            architecture.fill_randomly(name, numbers)
        return numbers

    def is_packed(self, place: str) -> bool:
        return is_packed(place, self.kept)

    def packed(self, *places: str, stack: bool) -> Packed:
        place = places[0].replace(".experts.0.", ".experts.") if stack else f"{places[0]}.weight"
        return random_packed(self.shapes[place], self.device)


def model(layers: int, file: Path, device: str, dtype: torch.dtype) -> torch.nn.Module:
    """As packed_checkpoint.load, of random numbers, without a checkpoint."""
    configuration = architecture.configuration(layers, file)
    shapes = architecture.meta_model(layers, file)
    shards = RandomShards(shapes, kept_layers(configuration), device)
    return packed_checkpoint.build(configuration, shards, dtype, device)


def random_entries(name: str, parameter: Tensor, kept: list[str], device: str) -> dict[str, Tensor]:
    """The checkpoint's tensors for one of the model's parameters."""
    place = name.replace("model.", "backbone.", 1).removesuffix(".weight")
    if parameter.dim() == 3 and ".experts." in name:
        stack = random_packed(tuple(parameter.shape), device)
        stack = Packed(*(part.cpu() for part in (stack.values, stack.scales, stack.factors)))
        found = {}
        for number in range(parameter.shape[0]):
            one = Packed(stack.values[number], stack.scales[number], stack.factors[number])
            found |= entries(place.replace(".experts.", f".experts.{number}."), one)
        return found
    if is_packed(place, kept):
        return entries(place, random_packed(tuple(parameter.shape), device))
    numbers = torch.empty(parameter.shape, dtype=torch.bfloat16, device=device)
    architecture.fill_randomly(name, numbers)
    return {name.replace("model.", "backbone.", 1): numbers}


def write(folder: Path, layers: int, device: str) -> None:
    """19 GB for all 52 layers."""
    folder.mkdir(parents=True)
    model = architecture.meta_model(layers)
    kept = kept_layers(model.config)
    shards: dict[str, dict[str, Tensor]] = {}
    for name, parameter in model.named_parameters():
        shard = name.split(".")[2] if ".layers." in name else "rest"
        shards.setdefault(shard, {}).update(random_entries(name, parameter, kept, device))
    for name, buffer in model.named_buffers():
        place = name.replace("model.", "backbone.", 1)
        shards[name.split(".")[2]][place] = torch.zeros(buffer.shape)
    for shard, tensors in shards.items():
        on_cpu = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
        save_file(on_cpu, folder / f"model-{shard}.safetensors")
        tensors.clear()
    configuration = architecture.configuration(layers).to_dict()
    scheme = {"quant_algo": KNOWN, "quant_method": "modelopt"}
    text = json.dumps(configuration | {"quantization_config": scheme})
    (folder / "config.json").write_text(text, encoding="utf-8")
