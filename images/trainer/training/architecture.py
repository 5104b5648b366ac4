"""The shape of Nemotron-3-Nano-30B-A3B: the published configuration, and models of it without
trained weights.

env/models/nano.toml has the values; a bench may take another file of that folder.
31,577,937,344 parameters: 23 Mamba-2, 23 expert and 6 attention layers.
"""

from __future__ import annotations

import math
import tomllib
from pathlib import Path
from typing import Any

import torch
from transformers import NemotronHConfig, NemotronHForCausalLM

from training import memory_plan

# the repository's, or where compose.night.yaml mounts it: from /opt/training this is /env/models
FILE = Path(__file__).parent / "../../../env/models/nano.toml"
KINDS = memory_plan.KINDS


def published(file: Path = FILE) -> dict[str, Any]:
    found: dict[str, Any] = tomllib.loads(file.read_text(encoding="utf-8"))["configuration"]
    return found


PATTERN = published()["hybrid_override_pattern"]


def configuration(layers: int = len(PATTERN), file: Path = FILE) -> NemotronHConfig:
    """layers: how many, from the first. Fewer make a small model with the real widths."""
    values = published(file)
    pattern = values["hybrid_override_pattern"][:layers]
    return NemotronHConfig(**values | {"hybrid_override_pattern": pattern, "use_cache": False})


def meta_model(layers: int = len(PATTERN), file: Path = FILE) -> NemotronHForCausalLM:
    """The model on torch's meta device: every name and shape, no memory."""
    with torch.device("meta"):
        return NemotronHForCausalLM(configuration(layers, file))


@torch.no_grad()
def fill_randomly(name: str, parameter: torch.Tensor) -> None:
    if "norm" in name or name.endswith(".D"):
        parameter.fill_(1)
    elif "A_log" in name:
        parameter.copy_(torch.log(torch.arange(1, parameter.numel() + 1, device=parameter.device)))
    elif "dt_bias" in name:
        parameter.fill_(-4.0)
    else:
        parameter.normal_(0, 0.02)


@torch.no_grad()
def random_model(
    device: str, layers: int = len(PATTERN), dtype: torch.dtype = torch.bfloat16
) -> NemotronHForCausalLM:
    """The model with random weights that keep activations finite, for timing and comparisons."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        model = meta_model(layers).to_empty(device=device)
    finally:
        torch.set_default_dtype(before)
    for name, parameter in model.named_parameters():
        fill_randomly(name, parameter)
    for buffer in model.buffers():
        buffer.zero_()
    for module in model.modules():
        if hasattr(module, "time_step_limit"):
            module.time_step_limit = (0.0, math.inf)
    return model
