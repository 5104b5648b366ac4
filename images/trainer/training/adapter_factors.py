"""An adapter's factors in a served adapter's files, and a weight with them added."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from training import packed_merge
from training.packed_weights import Packed

FACTOR = re.compile(r"^base_model\.model\.(?P<target>.+)\.lora_(?P<side>[AB])\.weight$")
# options of an adapter beyond W + scale * B A; each must be off
UNHANDLED = (
    "use_dora",
    "use_qalora",
    "rank_pattern",
    "alpha_pattern",
    "modules_to_save",
    "lora_bias",
    "fan_in_fan_out",
    "layer_replication",
    "trainable_token_indices",
    "alora_invocation_tokens",
)
# in adapter_config.json, by training.adapter_file
THROUGH_QUANTISER = "trained_through_quantiser"


class Refused(Exception):
    """This adapter cannot be merged into this checkpoint, or not on this machine. The message
    says why."""


@dataclass(frozen=True)
class Adapter:
    """LoRA factors by target, without the model's own prefix: layers.3.mixer.q_proj."""

    file: Any
    names: dict[str, tuple[str, str]]
    scale: float
    through_quantiser: bool = False

    @classmethod
    def open(cls, folder: Path) -> Adapter:
        configuration = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
        file = safe_open(folder / "adapter_model.safetensors", "pt")
        through = bool(configuration.get(THROUGH_QUANTISER))
        return cls(file, factors(list(file.keys())), scale(configuration), through)

    def merged(self, target: str, weight: torch.Tensor) -> torch.Tensor:
        """weight + scale * B A, with PEFT's own rounding: float32 for a layer, the weight's type
        for an expert."""
        a, b = (factor.float() for factor in self.fitting(target, weight.shape))
        change = (b @ a) * self.scale
        if ".experts." in target:
            change = change.to(weight.dtype)
        weight += change
        return weight

    def packed(self, target: str, weight: Packed) -> Packed:
        """weight + scale * B A, packed as training had it, and where weight is."""
        device, factors = weight.values.device, self.fitting(target, weight.shape)
        a, b = packed_merge.rounded(*(one.to(device) for one in factors), self.scale)
        return packed_merge.Merged(weight, a, b).packed()

    def fitting(self, target: str, shape: torch.Size) -> tuple[torch.Tensor, torch.Tensor]:
        """A and B. Raises Refused unless B A has this shape."""
        a, b = (self.file.get_tensor(name) for name in self.names[target])
        if (b.shape[0], a.shape[1]) != tuple(shape):
            raise Refused(
                f"{target}: the weight is {list(shape)}, B A is [{b.shape[0]}, {a.shape[1]}]"
            )
        return a, b


def scale(configuration: dict[str, Any]) -> float:
    """The factor of B A. Raises Refused for anything except plain LoRA."""
    asked = [key for key in UNHANDLED if configuration.get(key)]
    asked += [
        f"{key} {configuration[key]!r}"
        for key, plain in (("peft_type", "LORA"), ("bias", "none"))
        if configuration.get(key, plain) != plain
    ]
    if asked:
        raise Refused(f"the adapter is not plain LoRA; it uses: {', '.join(asked)}")
    rank: int = configuration["r"]
    return float(configuration["lora_alpha"]) / (
        math.sqrt(rank) if configuration.get("use_rslora") else rank
    )


def factors(names: list[str]) -> dict[str, tuple[str, str]]:
    """target -> (name of A, name of B). Raises Refused for a tensor that is neither or has no
    partner."""
    sides = {
        side: {
            m["target"]: name for name in names if (m := FACTOR.match(name)) and m["side"] == side
        }
        for side in "AB"
    }
    paired = sides["A"].keys() & sides["B"].keys()
    alone = set(names) - {sides[side][target] for side in "AB" for target in paired}
    if alone:
        raise Refused(f"not a LoRA pair: {few(alone)}")
    return {bare(target): (sides["A"][target], sides["B"][target]) for target in paired}


def bare(name: str) -> str:
    """The same name for PEFT's model.layers.3... and the checkpoint's backbone.layers.3...."""
    return re.sub(r"^(model|backbone)\.", "", name).removesuffix(".weight")


def few(names: Collection[str]) -> str:
    return ", ".join(sorted(names)[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
