"""Grouped matrix products in Triton, for GPUs on which torch has none: on sm_12x it falls back to
one product a group.

Two kernels, both over rows sorted by group. The device computes from the groups' ends which program
works on which group, so that the host does not wait. Sums are in float32.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

Tensor = torch.Tensor

ROWS_CONFIGS = [
    triton.Config({"BLOCK_S": s, "BLOCK_N": n, "BLOCK_K": k}, num_warps=warps, num_stages=stages)
    for s, n, k, warps, stages in [
        (64, 128, 64, 4, 3),
        (128, 128, 64, 8, 3),
        (64, 64, 64, 4, 4),
        (128, 64, 64, 4, 3),
        (64, 16, 128, 4, 3),
    ]
]
OUTER_CONFIGS = [
    triton.Config({"BLOCK_M": m, "BLOCK_N": n, "BLOCK_S": s}, num_warps=warps, num_stages=stages)
    for m, n, s, warps, stages in [
        (16, 128, 64, 4, 3),
        (128, 16, 64, 4, 3),
        (16, 256, 32, 4, 3),
        (64, 64, 32, 4, 3),
    ]
]


@triton.jit
def group_of(tile, ends, EXPERTS: tl.constexpr, PADDED: tl.constexpr, BLOCK_S: tl.constexpr):
    """Which group a tile of rows is of, and the first row of the tile and the last of the group."""
    # each group has its own tiles; a tile's group is the first whose tiles end after its number
    group = tl.arange(0, PADDED)
    end = tl.load(ends + group, mask=group < EXPERTS, other=0)
    start = tl.load(ends + group - 1, mask=(group > 0) & (group < EXPERTS), other=0)
    tiles = tl.where(group < EXPERTS, tl.cdiv(end - start, BLOCK_S), 0)
    tile_end = tl.cumsum(tiles, 0)
    expert = tl.sum((tile_end <= tile).to(tl.int32), 0)
    first = tl.sum(tl.where(group == expert, start + (tile - tile_end + tiles) * BLOCK_S, 0), 0)
    last = tl.sum(tl.where(group == expert, end, 0), 0)
    return expert, first, last


@triton.autotune(configs=ROWS_CONFIGS, key=["N", "K"])
@triton.jit
def rows_kernel(
    x,
    w,
    out,
    ends,
    N,
    K,
    stride_xs,
    stride_we,
    stride_wk,
    stride_wn,
    EXPERTS: tl.constexpr,
    PADDED: tl.constexpr,
    BLOCK_S: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    columns = tl.cdiv(N, BLOCK_N)
    tile, column = tl.program_id(0) // columns, tl.program_id(0) % columns
    expert, first, last = group_of(tile, ends, EXPERTS, PADDED, BLOCK_S)
    if expert >= EXPERTS:
        return
    row = first + tl.arange(0, BLOCK_S)
    n = column * BLOCK_N + tl.arange(0, BLOCK_N)
    k = tl.arange(0, BLOCK_K)
    x_at = x + row[:, None].to(tl.int64) * stride_xs + k[None, :]
    w_at = w + expert.to(tl.int64) * stride_we + k[:, None] * stride_wk + n[None, :] * stride_wn
    total = tl.zeros((BLOCK_S, BLOCK_N), dtype=tl.float32)
    for done in range(0, K, BLOCK_K):
        inside = k < K - done
        a = tl.load(x_at, mask=(row[:, None] < last) & inside[None, :], other=0.0)
        b = tl.load(w_at, mask=inside[:, None] & (n[None, :] < N), other=0.0)
        total = tl.dot(a, b, total)
        x_at += BLOCK_K
        w_at += BLOCK_K * stride_wk
    target = out + row[:, None].to(tl.int64) * N + n[None, :]
    tl.store(target, total.to(out.dtype.element_ty), mask=(row[:, None] < last) & (n[None, :] < N))


@triton.autotune(configs=OUTER_CONFIGS, key=["M", "N"])
@triton.jit
def outer_kernel(
    a,
    b,
    out,
    ends,
    M,
    N,
    stride_as,
    stride_bs,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_S: tl.constexpr,
):
    expert = tl.program_id(1)
    columns = tl.cdiv(N, BLOCK_N)
    m = (tl.program_id(0) // columns) * BLOCK_M + tl.arange(0, BLOCK_M)
    n = (tl.program_id(0) % columns) * BLOCK_N + tl.arange(0, BLOCK_N)
    last = tl.load(ends + expert)
    first = tl.load(ends + expert - 1, mask=expert > 0, other=0)
    total = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
    for at in range(first, last, BLOCK_S):
        row = (at + tl.arange(0, BLOCK_S)).to(tl.int64)
        left = tl.load(
            a + row[None, :] * stride_as + m[:, None],
            mask=(row[None, :] < last) & (m[:, None] < M),
            other=0.0,
        )
        right = tl.load(
            b + row[:, None] * stride_bs + n[None, :],
            mask=(row[:, None] < last) & (n[None, :] < N),
            other=0.0,
        )
        total = tl.dot(left, right, total)
    target = out + expert.to(tl.int64) * M * N + m[:, None] * N + n[None, :]
    tl.store(target, total.to(out.dtype.element_ty), mask=(m[:, None] < M) & (n[None, :] < N))


def rows(x: Tensor, w: Tensor, ends: Tensor) -> Tensor:
    """x [S, k] sorted by group, w [E, k, n] of any strides, ends [E] int32 -> [S, n]."""
    x = x.contiguous()
    experts, k, n = w.shape
    out = x.new_empty(x.shape[0], n)

    def grid(block: dict[str, int]) -> tuple[int]:
        return (
            (triton.cdiv(x.shape[0], block["BLOCK_S"]) + experts)
            * triton.cdiv(n, block["BLOCK_N"]),
        )

    padded = triton.next_power_of_2(experts)
    rows_kernel[grid](
        x, w, out, ends, n, k, x.stride(0), *w.stride(), EXPERTS=experts, PADDED=padded
    )
    return out


def outer(a: Tensor, b: Tensor, ends: Tensor) -> Tensor:
    """a [S, m], b [S, n], both sorted by group -> [E, m, n]. A group without rows gives zeros."""
    a, b = a.contiguous(), b.contiguous()
    out = a.new_empty(ends.shape[0], a.shape[1], b.shape[1])
    m, n = a.shape[1], b.shape[1]

    def grid(block: dict[str, int]) -> tuple[int, int]:
        return triton.cdiv(m, block["BLOCK_M"]) * triton.cdiv(n, block["BLOCK_N"]), ends.shape[0]

    outer_kernel[grid](a, b, out, ends, m, n, a.stride(0), b.stride(0))
    return out
