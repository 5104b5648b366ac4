"""Converts PEFT's expert adapter to the form that vLLM serves.

transformers keeps the routed experts of a layer as two stacks, `up_proj [E, inner, hidden]` and
`down_proj [E, hidden,
inner]`, so PEFT trains them by `target_parameters` and saves two nested wrappers a layer:

    ...mixer.experts.base_layer.lora_A.weight  [E * r, in]     ...lora_B.weight  [out, r * E]   the
                                               inner: wrapped first
    ...mixer.experts.lora_A.weight             [E * r, in]     ...lora_B.weight  [out, r * E]   the
                                               outer

A is expert-major (E, r, in). B's second axis is r-major (out, r, E): the expert changes fastest
(peft/tuners/lora/layer.py, ParamWrapper.get_delta_weight). vLLM refuses this form for Nemotron-H,
and with the flag that
its error suggests it loads and computes something else. It wants one pair of matrices an expert:

    base_model.model.model.layers.N.mixer.experts.K.{up_proj,down_proj}.lora_{A,B}.weight
"""

from __future__ import annotations

import re

import torch

Tensors = dict[str, torch.Tensor]

STACKED_A = re.compile(r"^(?P<layer>.*\.mixer)\.experts\.(base_layer\.)?lora_A\.weight$")
STACKED = re.compile(r"\.mixer\.experts\.(base_layer\.)?lora_[AB]\.weight$")


def per_expert(adapter: Tensors, expert_count: int, hidden_size: int, inner_size: int) -> Tensors:
    """The same adapter with one pair of matrices for each routed expert. Other tensors stay as they
    are.

    The shapes, not the nesting, tell which wrapper has which projection: nesting depends on the
    order in which PEFT wraps. Raises ValueError for a stack with neither projection's shape.
    """
    projections = {(hidden_size, inner_size): "up_proj", (inner_size, hidden_size): "down_proj"}
    converted: Tensors = {}
    for name, tensor in adapter.items():
        match = STACKED_A.match(name)
        if match:
            a, b = split(tensor, adapter[name.replace("lora_A", "lora_B")], expert_count)
            projection = projections.get((a.shape[2], b.shape[1]))
            if projection is None:
                raise ValueError(
                    f"{name}: [{a.shape[2]} -> {b.shape[1]}] is neither up_proj nor down_proj"
                )
            for expert in range(expert_count):
                target = f"{match['layer']}.experts.{expert}.{projection}"
                converted[f"{target}.lora_A.weight"] = a[expert].contiguous()
                converted[f"{target}.lora_B.weight"] = b[expert].contiguous()
        elif not STACKED.search(name):
            converted[name] = tensor.contiguous()
    return converted


def split(a: torch.Tensor, b: torch.Tensor, expert_count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A [E, r, in] and B [E, out, r] from PEFT's stacks A [E * r, in] and B [out, r * E]."""
    return a.reshape(expert_count, -1, a.shape[1]), b.reshape(b.shape[0], -1, expert_count).permute(
        2, 0, 1
    )
