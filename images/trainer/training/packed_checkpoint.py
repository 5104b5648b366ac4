"""Loads an NVFP4 checkpoint for training straight from its shards: what is packed there stays
packed, experts in two stacks a layer, and no dense model is ever in memory.

Dense are only weights that a fused kernel takes as they are: Mamba's out_proj and the output head.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from training import expert_lora, packed_experts, packed_weights
from training.packed_weights import Packed, Scratch
from training.shards import KNOWN, Shards, UnknownQuantisation

Tensor = torch.Tensor
TAKEN_WHOLE = ("out_proj", "lm_head")  # by mamba-ssm's fused layer and TRL's fused head


def quantisation(folder: Path) -> str:
    """Its name in the checkpoint's own files; empty for a checkpoint that is not quantised."""
    configuration = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    facts = configuration.get("quantization_config")
    beside = folder / "hf_quant_config.json"
    if facts is None and beside.exists():
        facts = json.loads(beside.read_text(encoding="utf-8"))["quantization"]
    if facts is None:
        return ""
    return str(facts.get("quant_algo") or facts.get("quant_method") or "without a name")


def load(folder: Path, dtype: torch.dtype, device: str) -> torch.nn.Module:
    """transformers' own Nemotron-H. Raises UnknownQuantisation for another scheme than NVFP4, and
    for tensors that the checkpoint lacks."""
    if quantisation(folder) != KNOWN:
        raise UnknownQuantisation(
            f"{folder} is quantised as {quantisation(folder)}; only {KNOWN} can be trained on: set"
            ' base = "bf16" in the recipe'
        )
    configuration = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    if hasattr(configuration, "quantization_config"):
        del configuration.quantization_config  # transformers would look for a library of its own
    return build(configuration, Shards(folder, device), dtype, device)


@torch.no_grad()
def build(configuration: Any, shards: Shards, dtype: torch.dtype, device: str) -> torch.nn.Module:
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(
            configuration, dtype=dtype, trust_remote_code=False
        )
    # a stack's next use is after those of smaller weights: with buffers of its own it is made dense
    # beside them, and a layer that is computed again still has it for its backward pass
    stacks, others = Scratch(dtype, device), Scratch(dtype, device)
    for name, module in model.named_modules():
        place = name.replace("model.", "backbone.", 1)
        fill(module, place, shards, stacks if is_experts(module) else others)
    if device == "cuda":
        reserve(model)
    found: torch.nn.Module = model.eval()
    return found


def is_experts(module: torch.nn.Module) -> bool:
    return type(module).__name__ == "NemotronHExperts"


def reserve(model: torch.nn.Module) -> None:
    """Gives each scratch buffers for its largest weight."""
    largest: dict[Scratch, int] = {}
    for module in model.modules():
        for weight, scratch in packed_weights.held(module).values():
            largest[scratch] = max(largest.get(scratch, 0), weight.parameters)
    for scratch, parameters in largest.items():
        scratch.reserve(parameters)


def fill(module: torch.nn.Module, place: str, shards: Shards, scratch: Scratch) -> None:
    """Gives a module its own tensors, not those of modules inside it."""
    if is_experts(module):
        fill_experts(module, place, shards, scratch)
    elif isinstance(module, torch.nn.Linear) and shards.is_packed(place):
        weight = shards.packed(place, stack=False)
        if place.rsplit(".", 1)[-1] in TAKEN_WHOLE:
            module.weight = frozen(dense_copy(weight, scratch))
        else:
            packed_weights.hold_linear(module, weight, scratch)
        if module.bias is not None:
            module.bias = frozen(shards.floating(f"{place}.bias", scratch.dtype))
    else:
        for name, _ in list(module.named_parameters(recurse=False)):
            setattr(module, name, frozen(shards.floating(f"{place}.{name}", scratch.dtype)))
    for name, _ in list(module.named_buffers(recurse=False)):
        # the router's bias, which transformers keeps in float32 whatever the rest is
        setattr(module, name, shards.floating(f"{place}.{name}", torch.float32))


def fill_experts(module: Any, place: str, shards: Shards, scratch: Scratch) -> None:
    for side in ("up_proj", "down_proj"):
        places = [f"{place}.{number}.{side}" for number in range(module.num_experts)]
        if shards.is_packed(places[0]):
            packed_weights.hold(module, side, shards.packed(*places, stack=True), scratch)
        else:
            weights = [shards.floating(f"{one}.weight", scratch.dtype) for one in places]
            setattr(module, side, frozen(torch.stack(weights)))
    packed_experts.enable(module, expert_lora.LOOP)


def dense_copy(weight: Packed, scratch: Scratch) -> Tensor:
    out = torch.empty(weight.shape, dtype=scratch.dtype, device=scratch.device)
    weight.write_dense(out)
    return out


def frozen(tensor: Tensor) -> torch.nn.Parameter:
    return torch.nn.Parameter(tensor, requires_grad=False)
