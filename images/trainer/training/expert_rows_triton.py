"""What is computed between the grouped products of experts, one kernel a step, each of which reads
and writes a routed row once.

Every number is rounded where the torch operations of expert_rows round it, and the rows of a token
are added up in torch's order. Only the gradient of a routing weight is a float32 sum in another
order.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from training.expert_rows import Routing

Tensor = torch.Tensor
BLOCK = 1024


@triton.jit
def added(x, update, scale):
    """x + scale * update in float32, rounded to x's type."""
    return (x.to(tl.float32) + scale * update.to(tl.float32)).to(x.dtype)


@triton.jit
def relu(x):
    """In float32. A NaN stays one, so that the loss shows it."""
    x = x.to(tl.float32)
    return tl.where(x < 0, 0.0, x)


@triton.jit
def activated_kernel(z, update, h, scale, numbers, ADDS: tl.constexpr, BLOCK: tl.constexpr):
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < numbers
    x = tl.load(z + at, mask=inside)
    if ADDS:
        x = added(x, tl.load(update + at, mask=inside), scale)
        tl.store(z + at, x, mask=inside)
    positive = relu(x)
    tl.store(h + at, (positive * positive).to(h.dtype.element_ty), mask=inside)


def activated(z: Tensor, update: Tensor | None, scale: float) -> Tensor:
    """As expert_rows.activated."""
    h, numbers = torch.empty_like(z), z.numel()
    adds = update is not None
    activated_kernel[(triton.cdiv(numbers, BLOCK),)](
        z, update if adds else z, h, scale, numbers, ADDS=adds, BLOCK=BLOCK
    )
    return h


@triton.jit
def summed_kernel(
    y,
    update,
    weights,
    back,
    out,
    scale,
    columns,
    ADDS: tl.constexpr,
    WEIGHS: tl.constexpr,
    COUNT: tl.constexpr,
    BLOCK: tl.constexpr,
):
    token = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = column < columns
    # four sums, as torch adds up
    a = tl.zeros([BLOCK], tl.float32)
    b = tl.zeros([BLOCK], tl.float32)
    c = tl.zeros([BLOCK], tl.float32)
    d = tl.zeros([BLOCK], tl.float32)
    for number in tl.static_range(COUNT):
        at = tl.load(back + token * COUNT + number) * columns + column
        x = tl.load(y + at, mask=inside)
        if ADDS:
            x = added(x, tl.load(update + at, mask=inside), scale)
        if WEIGHS:
            weight = tl.load(weights + token * COUNT + number).to(x.dtype).to(tl.float32)
            x = (x.to(tl.float32) * weight).to(x.dtype)
        if number % 4 == 0:
            a += x.to(tl.float32)
        elif number % 4 == 1:
            b += x.to(tl.float32)
        elif number % 4 == 2:
            c += x.to(tl.float32)
        else:
            d += x.to(tl.float32)
    target = out + token * columns + column
    tl.store(target, (((a + b) + c) + d).to(out.dtype.element_ty), mask=inside)


def summed(
    y: Tensor, update: Tensor | None, scale: float, weights: Tensor | None, routing: Routing
) -> Tensor:
    """As expert_rows.summed."""
    count, columns = routing.experts_per_token, y.shape[1]
    tokens = y.shape[0] // count
    out = y.new_empty(tokens, columns)
    adds, weighs = update is not None, weights is not None
    summed_kernel[(tokens, triton.cdiv(columns, BLOCK))](
        y,
        update if adds else y,
        weights.contiguous() if weights is not None else y,
        routing.back,
        out,
        scale,
        columns,
        ADDS=adds,
        WEIGHS=weighs,
        COUNT=count,
        BLOCK=BLOCK,
    )
    return out


@triton.jit
def turned_kernel(
    gh,
    update,
    z,
    weights,
    order,
    h,
    dots,
    scale,
    columns: tl.constexpr,
    ADDS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    weight = tl.load(weights + tl.load(order + row)).to(gh.dtype.element_ty).to(tl.float32)
    total = tl.zeros([BLOCK], tl.float32)
    for start in range(0, columns, BLOCK):
        column = start + tl.arange(0, BLOCK)
        inside = column < columns
        at = row * columns + column
        g = tl.load(gh + at, mask=inside, other=0.0)
        if ADDS:
            g = added(g, tl.load(update + at, mask=inside, other=0.0), scale)
        positive = relu(tl.load(z + at, mask=inside, other=0.0))
        square = (positive * positive).to(g.dtype)
        tl.store(h + at, square, mask=inside)
        total += g.to(tl.float32) * square.to(tl.float32)
        g = (g.to(tl.float32) * weight).to(g.dtype)
        g = (g.to(tl.float32) * positive).to(g.dtype)
        tl.store(gh + at, (g.to(tl.float32) * 2).to(g.dtype), mask=inside)
    tl.store(dots + row, tl.sum(total))


def turned(
    gh: Tensor, update: Tensor | None, scale: float, z: Tensor, weights: Tensor, routing: Routing
) -> tuple[Tensor, Tensor, Tensor]:
    """As expert_rows.turned."""
    rows, columns = gh.shape
    h, dots = torch.empty_like(z), torch.empty(rows, dtype=torch.float32, device=z.device)
    adds = update is not None
    turned_kernel[(rows,)](
        gh,
        update if adds else gh,
        z,
        weights.contiguous(),
        routing.order,
        h,
        dots,
        scale,
        columns,
        ADDS=adds,
        BLOCK=BLOCK,
    )
    return gh, h, dots[routing.back].view_as(weights).to(weights.dtype)
