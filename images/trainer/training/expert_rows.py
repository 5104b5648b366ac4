"""Routed rows of experts, and what is computed on them between the grouped products of expert_lora:
in plain torch here, by kernels in expert_rows_triton."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

Tensor = torch.Tensor


@dataclass(frozen=True)
class Routing:
    """Rows sorted by expert. order: [S] into the flat [T * k]; token: [S] into [T]; ends: [E]
    int32; back: inverse of order."""

    order: Tensor
    token: Tensor
    ends: Tensor
    back: Tensor
    experts_per_token: int

    @classmethod
    def of(cls, chosen: Tensor, expert_count: int) -> Routing:
        """chosen: [T, k] expert of each token."""
        flat = chosen.reshape(-1)
        order = torch.argsort(flat, stable=True)
        counts = torch.zeros(expert_count, dtype=torch.int32, device=flat.device)
        counts.scatter_add_(0, flat, torch.ones_like(flat, dtype=torch.int32))
        back = torch.empty_like(order)
        back[order] = torch.arange(order.numel(), device=order.device)
        return cls(
            order, order // chosen.shape[1], counts.cumsum(0).to(torch.int32), back, chosen.shape[1]
        )

    def summed(self, rows: Tensor) -> Tensor:
        """[S, n] to [T, n]: adds up the k rows of each token."""
        return rows[self.back].view(-1, self.experts_per_token, rows.shape[1]).sum(1)


@dataclass(frozen=True)
class Between:
    """What is computed between the products: plain torch, or a kernel for each of the three."""

    activated: Callable[[Tensor, Tensor | None, float], Tensor]
    summed: Callable[[Tensor, Tensor | None, float, Tensor | None, Routing], Tensor]
    turned: Callable[..., tuple[Tensor, Tensor, Tensor]]


def activated(z: Tensor, update: Tensor | None, scale: float) -> Tensor:
    """Adds scale x update to z [S, I], in place, and returns relu(z)^2."""
    if update is not None:
        z.add_(update, alpha=scale)
        del update  # as large as z, and the caller keeps none
    return z.relu().square_()


def summed(
    y: Tensor, update: Tensor | None, scale: float, weights: Tensor | None, routing: Routing
) -> Tensor:
    """y [S, n] + scale x update, times the routing weights [T, k], added up for each token: [T, n].
    Changes y."""
    if update is not None:
        y.add_(update, alpha=scale)
        del update
    if weights is not None:
        y.mul_(weights.reshape(-1)[routing.order, None].to(y.dtype))
    return routing.summed(y)


def turned(
    gh: Tensor, update: Tensor | None, scale: float, z: Tensor, weights: Tensor, routing: Routing
) -> tuple[Tensor, Tensor, Tensor]:
    """Back through the activation: from the gradient gh [S, I] + scale x update of one routed row
    of weight 1, the gradient of z, in the place of gh; h again; and the gradient of the routing
    weights [T, k]."""
    if update is not None:
        gh.add_(update, alpha=scale)
        del update
    positive = z.relu()
    h = positive.square()
    each = torch.linalg.vecdot(gh.float(), h.float())[routing.back]
    weight = weights.reshape(-1)[routing.order, None].to(z.dtype)
    gz = gh.mul_(weight).mul_(positive).mul_(2)
    return gz, h, each.view_as(weights).to(weights.dtype)


PLAIN = Between(activated, summed, turned)
