"""LoRA on routed experts as factors, by grouped matrix products over the routed rows only.

PEFT's own way adds the whole update B A to the whole stack of experts in every forward pass: 2.55
GB written a layer for
Nemotron-3-Nano, and as much again kept for the backward pass. Here, with the rows sorted by expert,

    z = x W_up^T + s (x A_up^T) B_up^T        h = relu(z)^2        y = h W_down^T + s (h A_down^T)
                                              B_down^T

and each product is one kernel over all experts. No tensor of the size of a stack is made.
Parameters, their names, saving,
loading and merging stay PEFT's: only what the wrapped experts compute is replaced (enable).

The backward pass is written out, because autograd would keep six tensors a routed row: here one is
kept, z, and what is
cheap is computed again. The gradient of the routing weight needs no y either: <g, y> = <W_down^T g,
h>.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from types import MethodType
from typing import Any

import torch
from peft.tuners.lora.layer import ParamWrapper

from training import packed_merge
from training.expert_rows import PLAIN, Between, Routing
from training.packed_weights import Dense, dense_form, held

Tensor = torch.Tensor


@dataclass(frozen=True)
class Products:
    """rows: x [S, k], w [E, k, n] -> [S, n].  outer: a [S, m], b [S, n] -> [E, m, n].  Both with
                                               ends [E], int32: where
    each expert's rows end. S rows are sorted by expert."""

    name: str
    rows: Callable[[Tensor, Tensor, Tensor], Tensor]
    outer: Callable[[Tensor, Tensor, Tensor], Tensor]
    between: Between


# -----------------------------------------------------------------------------
# the plain loop: exact, everywhere, one product an expert


def loop_rows(x: Tensor, w: Tensor, ends: Tensor) -> Tensor:
    out = x.new_empty(x.shape[0], w.shape[2])
    start = 0
    for expert, end in enumerate(ends.tolist()):
        if end > start:
            torch.mm(x[start:end], w[expert], out=out[start:end])
        start = end
    return out


def loop_outer(a: Tensor, b: Tensor, ends: Tensor) -> Tensor:
    out = a.new_zeros(ends.shape[0], a.shape[1], b.shape[1])
    start = 0
    for expert, end in enumerate(ends.tolist()):
        if end > start:
            torch.mm(a[start:end].T, b[start:end], out=out[expert])
        start = end
    return out


LOOP = Products("loop", loop_rows, loop_outer, PLAIN)


# -----------------------------------------------------------------------------
# torch's grouped product: CUTLASS on sm_90 and sm_100; elsewhere it is a loop in C++


def torch_rows(x: Tensor, w: Tensor, ends: Tensor) -> Tensor:
    return torch._grouped_mm(x, w, offs=ends)


def torch_outer(a: Tensor, b: Tensor, ends: Tensor) -> Tensor:
    return torch._grouped_mm(a.T, b, offs=ends)


TORCH = Products("torch", torch_rows, torch_outer, PLAIN)


def triton_products() -> Products:
    """Our own kernels. Imported only here, because a machine without a GPU has no Triton."""
    from training import expert_lora_triton as grouped_triton

    return Products("triton", grouped_triton.rows, grouped_triton.outer, PLAIN)


def fused(products: Products) -> Products:
    """The same products, with a kernel for each step between them. Needs Triton."""
    from training import expert_rows_triton as kernels

    between = Between(kernels.activated, kernels.summed, kernels.turned)
    return replace(products, between=between)


# -----------------------------------------------------------------------------
# the experts


class Experts(torch.autograd.Function):
    """hidden [T, H], weights [T, k], up gives [E, I, H], down gives [E, H, I]; factors up_a
    [E, r, H], up_b [E, I, r], down_a [E, r, I], down_b [E, H, r]. Only hidden, weights and the
    factors get gradients. merged: up and down have the factors in them, which only get their
    gradients here."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weights: Tensor,
        up: Dense,
        down: Dense,
        up_a: Tensor,
        up_b: Tensor,
        down_a: Tensor,
        down_b: Tensor,
        scale: float,
        routing: Routing,
        products: Products,
        merged: bool = False,
    ) -> Tensor:
        rows, ends, between = products.rows, routing.ends, products.between
        x = hidden[routing.token]
        xa = rows(x, up_a.mT, ends)
        z = rows(x, up().mT, ends)
        del x
        h = between.activated(z, None if merged else rows(xa, up_b.mT, ends), scale)
        ha = rows(h, down_a.mT, ends)
        y = rows(h, down().mT, ends)
        del h
        out = between.summed(
            y, None if merged else rows(ha, down_b.mT, ends), scale, weights, routing
        )
        ctx.save_for_backward(hidden, weights, up_a, up_b, down_a, down_b, z, xa, ha)
        ctx.up, ctx.down = up, down
        ctx.scale, ctx.routing, ctx.products, ctx.merged = scale, routing, products, merged
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:  # type: ignore[override]
        hidden, weights, up_a, up_b, down_a, down_b, z, xa, ha = ctx.saved_tensors
        scale, routing, between = ctx.scale, ctx.routing, ctx.products.between
        rows, outer, ends = ctx.products.rows, ctx.products.outer, routing.ends
        weight = weights.reshape(-1)[routing.order, None].to(z.dtype)

        g = grad.contiguous()[routing.token]
        ga = rows(g, down_b, ends)
        gh = rows(g, ctx.down(), ends)
        grad_down_b = outer(g, ha * weight, ends).mul_(scale)
        del g
        gz, h, grad_weights = between.turned(
            gh, None if ctx.merged else rows(ga, down_a, ends), scale, z, weights, routing
        )
        grad_down_a = outer(ga * weight, h, ends).mul_(scale)
        del h
        gza = rows(gz, up_b, ends)
        grad_up_b = outer(gz, xa, ends).mul_(scale)
        grad_up_a = outer(gza, hidden[routing.token], ends).mul_(scale)
        gx = rows(gz, ctx.up(), ends)
        grad_hidden = between.summed(
            gx, None if ctx.merged else rows(gza, up_a, ends), scale, None, routing
        )
        del (
            ctx.up,
            ctx.down,
        )  # merged ones hold factors, and the graph outlives a forward
        return (
            grad_hidden,
            grad_weights,
            None,
            None,
            grad_up_a,
            grad_up_b,
            grad_down_a,
            grad_down_b,
            None,
            None,
            None,
            None,
        )


# -----------------------------------------------------------------------------
# replacing PEFT's computation


def factors(wrapper: ParamWrapper, adapter: str, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """A [E, r, in] and B [E, out, r] of one wrapper. A is stored expert by expert; in B the
    expert changes fastest."""
    a = wrapper.lora_A[adapter].weight.view(
        wrapper.num_experts, -1, wrapper.lora_A[adapter].in_features
    )
    b = wrapper.lora_B[adapter].weight
    b = b.view(b.shape[0], -1, wrapper.num_experts).permute(2, 0, 1)
    return a.to(dtype), b.to(dtype).contiguous()


def form(
    base: torch.nn.Module, name: str, a: Tensor, b: Tensor, scale: float, merged: bool
) -> Dense:
    """Of a stack, with the factors merged in or without them."""
    return packed_merge.dense_form(base, name, a, b, scale) if merged else dense_form(base, name)


def wrapped_experts(model: torch.nn.Module) -> list[tuple[ParamWrapper, ParamWrapper]]:
    """The two nested wrappers of every layer's experts, the outer first. Raises ValueError if
    only one stack is adapted."""
    found = []
    inner = {
        id(module.base_layer) for module in model.modules() if isinstance(module, ParamWrapper)
    }
    for name, module in model.named_modules():
        if isinstance(module, ParamWrapper) and id(module) not in inner:
            if not isinstance(module.base_layer, ParamWrapper):
                raise ValueError(
                    f"{name}: adapt both up_proj and down_proj of the experts, or neither"
                )
            found.append((module, module.base_layer))
    return found


def enable(model: torch.nn.Module, products: Products, merged: bool = False) -> int:
    """Makes every adapted stack of experts in a PEFT model compute by factors; merged: packed
    stacks through the quantiser instead. Returns their number."""
    pairs = wrapped_experts(model)
    for outer, inner in pairs:
        by_name = {wrapper.parameter_name: wrapper for wrapper in (outer, inner)}
        plain = outer.forward

        def forward(
            self: ParamWrapper,
            hidden: Tensor,
            chosen: Tensor,
            weights: Tensor,
            up: ParamWrapper = by_name["up_proj"],
            down: ParamWrapper = by_name["down_proj"],
            plain: Callable[..., Tensor] = plain,
        ) -> Tensor:
            if self.disable_adapters or self.merged:
                return plain(hidden, chosen, weights)
            (adapter,) = self.active_adapters
            base = self.get_base_layer()
            routing = Routing.of(chosen, base.num_experts)
            factor = (*factors(up, adapter, hidden.dtype), *factors(down, adapter, hidden.dtype))
            scale, through = up.scaling[adapter], merged and bool(held(base))
            stacks = (
                form(base, "up_proj", *factor[:2], scale, through),
                form(base, "down_proj", *factor[2:], scale, through),
            )
            out: Tensor = Experts.apply(
                hidden, weights, *stacks, *factor, scale, routing, products, through
            )
            return out

        outer.forward = MethodType(forward, outer)
    return len(pairs)
