"""The published way to compute adapted experts, to compare with ours: one expert after another, in
Python.

A list of expert modules under PEFT does this, as in the hub's own model class; the case study very
probably ran it.
"""

from __future__ import annotations

from types import MethodType

import torch
from peft import PeftModel
from peft.tuners.lora.layer import ParamWrapper

from training import expert_lora


def experts(
    self: ParamWrapper,
    hidden: torch.Tensor,
    chosen: torch.Tensor,
    weights: torch.Tensor,
    up: ParamWrapper,
    down: ParamWrapper,
) -> torch.Tensor:
    """hidden [T, H], chosen and weights [T, k]; returns [T, H]."""
    base = self.get_base_layer()
    (adapter,) = self.active_adapters
    up_a, up_b = expert_lora.factors(up, adapter, hidden.dtype)
    down_a, down_b = expert_lora.factors(down, adapter, hidden.dtype)
    scale = up.scaling[adapter]
    out = torch.zeros_like(hidden, dtype=weights.dtype)
    with torch.no_grad():
        mask = torch.nn.functional.one_hot(chosen, base.num_experts).permute(2, 1, 0)
        hit = torch.greater(mask.sum(dim=(-1, -2)), 0).nonzero().squeeze(-1)
    linear = torch.nn.functional.linear
    for expert in hit.tolist():
        position, token = torch.where(mask[expert])
        x = hidden[token]
        h = linear(x, base.up_proj[expert]) + linear(linear(x, up_a[expert]), up_b[expert]) * scale
        h = base.act_fn(h)
        y = (
            linear(h, base.down_proj[expert])
            + linear(linear(h, down_a[expert]), down_b[expert]) * scale
        )
        out.index_add_(0, token, (y * weights[token, position, None]).to(out.dtype))
    return out.to(hidden.dtype)


def enable(model: PeftModel) -> None:
    model.get_base_model().set_attn_implementation("sdpa")
    for outer, inner in expert_lora.wrapped_experts(model):
        by_name = {wrapper.parameter_name: wrapper for wrapper in (outer, inner)}

        def forward(
            self: ParamWrapper,
            hidden: torch.Tensor,
            chosen: torch.Tensor,
            weights: torch.Tensor,
            up: ParamWrapper = by_name["up_proj"],
            down: ParamWrapper = by_name["down_proj"],
        ) -> torch.Tensor:
            return experts(self, hidden, chosen, weights, up, down)

        outer.forward = MethodType(forward, outer)
