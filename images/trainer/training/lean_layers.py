"""The layers of a PEFT model, mostly of Nemotron-H, keeping less for the backward pass, and with
attention that keeps packed samples apart.

The results are transformers' and PEFT's own within rounding. Kept a token and layer: transformers'
norm keeps three tensors
in float32, where torch's fused one keeps its input; PEFT's linear layers keep their input again in
float32, because the
adapter is; relu2 keeps two tensors, but needs only its input.
"""

from __future__ import annotations

import inspect
import itertools
from types import MethodType
from typing import Any

import torch
from peft.tuners.lora import Linear as LoraLinear
from torch.nn.attention import varlen
from torch.nn.functional import linear, rms_norm, scaled_dot_product_attention
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface

from training import packed_merge
from training.packed_weights import held

Tensor = torch.Tensor
ATTENTION = "packed"  # models are loaded with it as attn_implementation

# torch 2.10 has is_causal, later ones window_size
CAUSAL: dict[str, Any] = (
    {"window_size": (-1, 0)}
    if "window_size" in inspect.signature(varlen.varlen_attn).parameters
    else {"is_causal": True}
)


# -----------------------------------------------------------------------------
# attention: without a mask; the boundaries of a pack's samples keep them apart


def packed_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    cu_seq_lens_q: Tensor | None = None,
    max_length_q: int | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """query [B, heads, T, d]; returns [B, T, heads, d]. cu_seq_lens_q: [N + 1], where the samples
    of a pack begin and end.

    Without them every row is one sample, with padding only on the right, where causal attention
    does not look.
    """
    if cu_seq_lens_q is None:
        out = scaled_dot_product_attention(
            query, key, value, is_causal=True, scale=scaling, enable_gqa=True
        )
    elif (
        query.is_cuda and query.dtype != torch.float32
    ):  # the fused kernel does not support float32
        out = varlen_attention(query, key, value, scaling, cu_seq_lens_q, max_length_q)
    else:
        ends = cu_seq_lens_q.tolist()
        pieces = [
            scaled_dot_product_attention(
                *(x[:, :, a:b] for x in (query, key, value)),
                is_causal=True,
                scale=scaling,
                enable_gqa=True,
            )
            for a, b in itertools.pairwise(ends)
        ]
        out = torch.cat(pieces, 2)
    return out.transpose(1, 2), None


def varlen_attention(
    query: Tensor, key: Tensor, value: Tensor, scaling: float, ends: Tensor, longest: int | None
) -> Tensor:
    groups = query.shape[1] // key.shape[1]
    rows = [
        x[0].transpose(0, 1).contiguous()
        for x in (query, key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1))
    ]
    ends = ends.to(query.device)
    out = varlen.varlen_attn(*rows, ends, ends, longest, longest, scale=scaling, **CAUSAL)
    return out.transpose(0, 1)[None]


AttentionInterface.register(ATTENTION, packed_attention)
AttentionMaskInterface.register(ATTENTION, lambda *_, **__: None)


# -----------------------------------------------------------------------------
# norm, activation, linear layers


class Relu2(torch.autograd.Function):
    """relu(z)^2, keeping z."""

    @staticmethod
    def forward(ctx: Any, z: Tensor) -> Tensor:
        ctx.save_for_backward(z)
        return z.relu().square_()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # type: ignore[override]
        (z,) = ctx.saved_tensors
        return z.relu().mul_(grad).mul_(2)


def norm_forward(self: torch.nn.Module, hidden: Tensor) -> Tensor:
    return rms_norm(hidden, hidden.shape[-1:], self.weight, self.variance_epsilon)


def linear_forward(self: LoraLinear, x: Tensor, *_: Any, **__: Any) -> Tensor:
    y: Tensor = self.base_layer(x)
    if self.disable_adapters or self.merged:
        return y
    (adapter,) = self.active_adapters
    a, b = (factor[adapter].weight.to(x.dtype) for factor in (self.lora_A, self.lora_B))
    return y.add(linear(linear(x, a), b), alpha=self.scaling[adapter])


def merged_forward(self: LoraLinear, x: Tensor, *_: Any, **__: Any) -> Tensor:
    """Through the quantiser: by the packed weight that the merged checkpoint will have."""
    base = self.base_layer
    if self.disable_adapters or self.merged:
        return base(x)  # type: ignore[no-any-return]
    (adapter,) = self.active_adapters
    a, b = (factor[adapter].weight.to(x.dtype) for factor in (self.lora_A, self.lora_B))
    scale = self.scaling[adapter]
    weight = packed_merge.dense_form(base, "weight", a, b, scale)
    out: Tensor = packed_merge.Linear.apply(x, weight, a, b, scale, base.bias)
    return out


def enable(model: torch.nn.Module, merged: bool = False) -> None:
    """In place, on a PEFT model. Of any but Nemotron-H only the linear layers change. merged: those
    of packed weights compute through the quantiser."""
    for module in model.modules():
        kind = type(module).__name__
        if kind == "NemotronHRMSNorm":
            module.forward = MethodType(norm_forward, module)
        elif kind == "NemotronHMLP":
            module.act_fn.forward = Relu2.apply
        elif isinstance(module, LoraLinear):
            through = merged and held(module.base_layer)
            module.forward = MethodType(merged_forward if through else linear_forward, module)
