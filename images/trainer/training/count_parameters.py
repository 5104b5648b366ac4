"""Counts the parameters that a recipe trains, by the model's configuration, without its weights.

    python3 -m training.count_parameters ORDER_FILE

The order file is JSON: rank, target_modules, target_parameters, layers, and configuration, as
training.describe has it: none for a Nemotron-H, which is counted at its published size, and for a
model that is not on this machine yet. The last line of output is JSON: {"total_parameters",
"trainable_parameters", "unmatched"}. unmatched: targets and layers that the model does not have;
such a recipe is wrong.
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

from training import architecture, families

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
    }


def counted(configuration: dict[str, Any] | None) -> torch.nn.Module:
    """The model to count on, without weights."""
    if not configuration:
        return architecture.meta_model()
    return families.skeleton(AutoConfig.for_model(**configuration))


if __name__ == "__main__":
    asked = json.loads(Path(sys.argv[1]).read_text())
    print(json.dumps(facts(counted(asked.get("configuration")), asked)))
