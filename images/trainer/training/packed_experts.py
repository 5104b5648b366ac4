"""Routed experts on packed weights that no adapter changes, or whose adapter is off."""

from __future__ import annotations

from collections.abc import Callable
from types import MethodType
from typing import Any

import torch

from training.expert_lora import Products
from training.expert_rows import Routing
from training.packed_weights import Dense, dense_form, held

Tensor = torch.Tensor


class FrozenExperts(torch.autograd.Function):
    """As expert_lora.Experts without factors: hidden [T, H], weights [T, k], up gives [E, I, H],
    down gives [E, H, I]. Keeps z of each routed row; only hidden and weights get gradients."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weights: Tensor,
        up: Dense,
        down: Dense,
        routing: Routing,
        products: Products,
    ) -> Tensor:
        rows, ends, between = products.rows, routing.ends, products.between
        z = rows(hidden[routing.token], up().mT, ends)
        y = rows(between.activated(z, None, 1.0), down().mT, ends)
        ctx.save_for_backward(weights, z)
        ctx.up, ctx.down, ctx.routing, ctx.products = up, down, routing, products
        return between.summed(y, None, 1.0, weights, routing)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:  # type: ignore[override]
        weights, z = ctx.saved_tensors
        rows, routing, between = ctx.products.rows, ctx.routing, ctx.products.between
        gh = rows(grad.contiguous()[routing.token], ctx.down(), routing.ends)
        gz, _, grad_weights = between.turned(gh, None, 1.0, z, weights, routing)
        gx = rows(gz, ctx.up(), routing.ends)
        grad_hidden = between.summed(gx, None, 1.0, None, routing)
        return grad_hidden, grad_weights, None, None, None, None


def frozen_forward(products: Products) -> Callable[..., Tensor]:
    """What packed experts compute without an adapter, as a method of transformers' experts."""

    def forward(self: Any, hidden: Tensor, chosen: Tensor, weights: Tensor) -> Tensor:
        up, down = dense_form(self, "up_proj"), dense_form(self, "down_proj")
        routing = Routing.of(chosen, self.num_experts)
        out: Tensor = FrozenExperts.apply(hidden, weights, up, down, routing, products)
        return out

    return forward


def enable(model: torch.nn.Module, products: Products) -> None:
    """Makes packed experts compute by these products."""
    for module in model.modules():
        if type(module).__name__ == "NemotronHExperts" and held(module):
            module.forward = MethodType(frozen_forward(products), module)
