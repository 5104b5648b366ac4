"""A grouped matrix product that reads packed NVFP4 weights itself, so that nothing dense is
written: for small steps, and for GPUs of little bandwidth."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from training.expert_lora_triton import group_of
from training.packed_weights import Packed
from training.packed_weights_triton import by_bits

Tensor = torch.Tensor
CONFIGS = [
    triton.Config({"BLOCK_S": s, "BLOCK_N": n, "BLOCK_K": 64}, num_warps=warps, num_stages=stages)
    for s, n, warps, stages in [(64, 64, 4, 3), (64, 128, 4, 3), (128, 128, 8, 3), (128, 64, 4, 3)]
]
MANY_ROWS = 32_768  # of a product; fewer and more are tuned apart


@triton.autotune(configs=CONFIGS, key=["N", "K", "FLIP", "many"])
@triton.jit
def rows_kernel(
    x,
    values,
    scales,
    factors,
    out,
    ends,
    N,
    K,
    many,
    EXPERTS: tl.constexpr,
    PADDED: tl.constexpr,
    FLIP: tl.constexpr,
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
    left = column * BLOCK_N
    n, k = left + tl.arange(0, BLOCK_N), tl.arange(0, BLOCK_K)
    factor = tl.load(factors + expert)
    matrix = expert.to(tl.int64) * N * K
    values += matrix // 2
    scales += matrix // 16
    x_at = x + row[:, None].to(tl.int64) * K + k[None, :]
    total = tl.zeros((BLOCK_S, BLOCK_N), dtype=tl.float32)
    for done in range(0, K, BLOCK_K):
        a = tl.load(x_at + done, mask=(row[:, None] < last) & (k[None, :] < K - done), other=0.0)
        if FLIP:  # w [E, N, K], packed along K
            b = tl.trans(tile_of(values, scales, factor, left, done, N, K, BLOCK_N, BLOCK_K))
        else:  # w [E, K, N], packed along N
            b = tile_of(values, scales, factor, done, left, K, N, BLOCK_K, BLOCK_N)
        total = tl.dot(a, b.to(a.dtype), total)
    target = out + row[:, None].to(tl.int64) * N + n[None, :]
    tl.store(target, total.to(out.dtype.element_ty), mask=(row[:, None] < last) & (n[None, :] < N))


@triton.jit
def tile_of(values, scales, factor, top, left, R, C, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """[ROWS, COLUMNS] float32 of a packed matrix [R, C], zero outside it."""
    r = top + tl.arange(0, ROWS)
    pair = left // 2 + tl.arange(0, COLUMNS // 2)
    group = left // 16 + tl.arange(0, COLUMNS // 16)
    pairs = tl.load(
        values + r[:, None] * (C // 2) + pair[None, :],
        mask=(r[:, None] < R) & (pair[None, :] < C // 2),
        other=0,
    ).to(tl.int32)
    scale = tl.load(
        scales + r[:, None] * (C // 16) + group[None, :],
        mask=(r[:, None] < R) & (group[None, :] < C // 16),
        other=0.0,
    ).to(tl.float32)
    four = tl.interleave(pairs & 15, pairs >> 4).reshape(ROWS, COLUMNS // 16, 16)
    return by_bits(four, (scale * factor)[:, :, None]).reshape(ROWS, COLUMNS)


def rows(x: Tensor, weight: Packed, ends: Tensor, flip: bool) -> Tensor:
    """x [S, k] sorted by expert, weight [E, n, k] if flip, else [E, k, n], ends [E] int32 ->
    [S, n]. As expert_lora_triton.rows by the dense weight."""
    x = x.contiguous()
    experts, first, second = weight.shape
    n = first if flip else second
    out = x.new_empty(x.shape[0], n)

    def grid(block: dict[str, int]) -> tuple[int]:
        tiles = triton.cdiv(x.shape[0], block["BLOCK_S"]) + experts
        return (tiles * triton.cdiv(n, block["BLOCK_N"]),)

    rows_kernel[grid](
        x,
        *(weight.values, weight.scales, weight.factors),
        *(out, ends, n, x.shape[1]),
        many=32 if x.shape[0] >= MANY_ROWS else 16,
        EXPERTS=experts,
        PADDED=triton.next_power_of_2(experts),
        FLIP=flip,
    )
    return out
