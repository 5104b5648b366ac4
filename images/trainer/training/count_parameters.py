"""Counts the parameters that a recipe trains, by the model's configuration, without its weights.

    python3 -m training.count_parameters ORDER_FILE

The order file is JSON: rank, target_modules, target_parameters, layers, tokens_per_step and base of
the recipe; configuration, of the model's config.json; budget_bytes, the most for a step. The last
line of output is JSON: {"total_parameters", "trainable_parameters", "unmatched",
"packed_parameters", "memory"}. unmatched: targets and layers that the model does not have; such a
recipe is wrong. memory: of a step, in words.
"""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig

from training import families, memory_plan

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

LAYER = re.compile(r"\.layers\.(\d+)\.")


def targets(
    model: torch.nn.Module, recipe: dict[str, Any]
) -> dict[str, tuple[int, tuple[int, ...]]]:
    """Name of each adapted module -> (its number of experts, or 1; its [out, in]), by the rules
    of PEFT's LoraConfig."""
    found: dict[str, tuple[int, tuple[int, ...]]] = {}
    for name, module in model.named_modules():
        if (
            isinstance(module, torch.nn.Linear)
            and named(name, recipe["target_modules"])
            and in_layers(name, recipe["layers"])
        ):
            found[name] = (1, tuple(module.weight.shape))
    for name, parameter in model.named_parameters():
        if named(name, recipe["target_parameters"]) and in_layers(name, recipe["layers"]):
            found[name] = (parameter.shape[0], tuple(parameter.shape[1:]))
    return found


def named(name: str, endings: list[str]) -> bool:
    return any(name == ending or name.endswith(f".{ending}") for ending in endings)


def in_layers(name: str, layers: list[int]) -> bool:
    match = LAYER.search(name)
    return not layers or (match is not None and int(match[1]) in layers)


def trainable_parameters(found: dict[str, tuple[int, tuple[int, ...]]], rank: int) -> int:
    """A is [rank, in] and B is [out, rank], once for each expert."""
    return sum(experts * rank * sum(shape) for experts, shape in found.values())


def unmatched(found: dict[str, Any], recipe: dict[str, Any]) -> list[str]:
    endings = recipe["target_modules"] + recipe["target_parameters"]
    numbers = {int(match[1]) for name in found if (match := LAYER.search(name))}
    return [ending for ending in endings if not any(named(name, [ending]) for name in found)] + [
        f"layer {number}" for number in recipe["layers"] if number not in numbers
    ]


def facts(model: torch.nn.Module, recipe: dict[str, Any]) -> dict[str, Any]:
    found = targets(model, recipe)
    return {
        "total_parameters": sum(parameter.numel() for parameter in model.parameters()),
        "trainable_parameters": trainable_parameters(found, recipe["rank"]),
        "unmatched": unmatched(found, recipe),
        "packed_parameters": packed_parameters(model),
    }


def packed_parameters(model: torch.nn.Module) -> int:
    """Of what a night keeps packed of NVIDIA's NVFP4 checkpoints: experts, and Mamba's in_proj but
    in layers that feed attention. 0 for a model without experts."""
    kinds = getattr(model.config, "layers_block_type", [])
    dense = [f".layers.{number}." for number in memory_plan.feeding_layers(kinds)]
    return sum(
        parameter.numel()
        for name, parameter in model.named_parameters()
        if (".experts." in name or ".shared_experts." in name or ".in_proj." in name)
        and not any(layer in name for layer in dense)
    )


def counted(configuration: dict[str, Any]) -> torch.nn.Module:
    """The model to count on, without weights."""
    return families.skeleton(AutoConfig.for_model(**configuration))


def memory(asked: dict[str, Any], found: dict[str, Any]) -> str:
    """The planned memory of a step, or why it does not fit. asked: the order; found: facts()."""
    trainable, budget = found["trainable_parameters"], asked["budget_bytes"]
    shape = memory_plan.shape(
        asked["configuration"],
        found["total_parameters"] + trainable,
        trainable,
        asked["rank"],
        experts_adapted=bool(asked["target_parameters"]),
        packed_parameters=found["packed_parameters"] if asked["base"] == "served" else 0,
    )
    try:
        layers = memory_plan.checkpointed_layers(shape, asked["tokens_per_step"], budget)
    except memory_plan.TooSmall as error:
        return f"does not fit: {error}"
    peak = memory_plan.peak_bytes(shape, asked["tokens_per_step"], layers)
    recomputed = f"{layers} of {len(shape.kinds)} layers recomputed"
    return f"{peak / 1e9:.1f} of {budget / 1e9:.1f} GB, {recomputed}"


if __name__ == "__main__":
    asked = json.loads(Path(sys.argv[1]).read_text())
    found = facts(counted(asked["configuration"]), asked)
    print(json.dumps(found | {"memory": memory(asked, found)}))
