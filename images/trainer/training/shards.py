"""The tensors of a checkpoint in the hub's layout, packed ones among them."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import safe_open

from training import places
from training.packed_weights import GROUP, Packed

Tensor = torch.Tensor
KNOWN = places.PACKED["nemotron_h"]
FLOATING = (torch.float32, torch.bfloat16, torch.float16)


class UnknownQuantisation(Exception):
    """The checkpoint cannot be trained on as it is. The message names it and what is known."""


class Shards:
    """The tensors of a checkpoint, each read when it is asked for. Names have no .weight."""

    def __init__(self, folder: Path, device: str) -> None:
        self.folder, self.device = folder, device
        files = [safe_open(path, "pt") for path in sorted(folder.glob("*.safetensors"))]
        self.home = {name: file for file in files for name in file.keys()}  # noqa: SIM118

    def read(self, name: str) -> Tensor:
        if name not in self.home:
            raise UnknownQuantisation(f"{self.folder} has no tensor {name}")
        found: Tensor = self.home[name].get_tensor(name)
        return found

    def floating(self, name: str, dtype: torch.dtype) -> Tensor:
        tensor = self.read(name)
        if tensor.dtype not in FLOATING:
            raise UnknownQuantisation(
                f"{self.folder}: {name} is {tensor.dtype}; only {KNOWN} matrices may be packed"
            )
        return tensor.to(self.device, dtype)

    def is_packed(self, place: str) -> bool:
        return f"{place}.weight_scale_2" in self.home

    def packed(self, *places: str, stack: bool) -> Packed:
        """Of one matrix, or a stack of several."""
        parts = []
        for kind in ("weight", "weight_scale", "weight_scale_2"):
            tensors = [self.read(f"{place}.{kind}") for place in places]
            parts.append((torch.stack(tensors) if stack else tensors[0]).to(self.device))
        values, scales, factors = parts
        if values.dtype != torch.uint8 or scales.shape[-1] * GROUP != values.shape[-1] * 2:
            raise UnknownQuantisation(
                f"{self.folder}: {places[0]} is {values.dtype} {list(values.shape)} with scales"
                f" {list(scales.shape)}; {KNOWN} has two numbers in a byte and a scale for {GROUP}"
            )
        return Packed(values, scales, factors.float())
