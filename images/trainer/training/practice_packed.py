"""Packs the practice model as NVFP4, as an export does, and writes the packed numbers back as dense
ones: the rehearsal's nights train the first, and its vLLM, which cannot read NVFP4 on a CPU, serves
the second.

    python -m training.practice_packed /opt/practice-model

FOLDER         the model as training.practice_model wrote it; dense afterwards, of the packed
               numbers
FOLDER/nvfp4   the same numbers, packed
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from training import quantise_checkpoint
from training.packed_weights import Packed

PARTS = ("weight", "weight_scale", "weight_scale_2")
Tensors = dict[str, torch.Tensor]


def dense(packed: Tensors, wanted: Tensors) -> Tensors:
    """The tensors that wanted names, in its types, each made dense where it is packed."""
    found = {}
    for name, like in wanted.items():
        parts = [packed.get(f"{name.removesuffix('.weight')}.{part}") for part in PARTS]
        number = packed[name] if parts[1] is None else Packed(*parts).dense(like.dtype)
        found[name] = number.to(like.dtype)
    return found


def write(folder: Path) -> dict[str, object]:
    packed = folder.with_name(f"{folder.name}.nvfp4")
    done = quantise_checkpoint.pack(folder, packed, None)
    (weights,) = folder.glob("*.safetensors")
    numbers = dense(load_file(packed / "model.safetensors"), load_file(weights))
    save_file(numbers, weights, metadata={"format": "pt"})
    packed.rename(folder / "nvfp4")
    return {"model": str(folder), "packed_weights": done["packed_weights"]}


if __name__ == "__main__":
    print(json.dumps(write(Path(sys.argv[1]))))
