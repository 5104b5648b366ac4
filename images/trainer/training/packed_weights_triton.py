"""Packed NVFP4 numbers to dense ones, in one kernel that reads each byte once; and a grouped
product that reads packed weights itself, so that nothing dense is written."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from training.expert_lora_triton import group_of
from training.packed_weights import Packed

Tensor = torch.Tensor
# eights of numbers a program: a thread then writes 16 bytes beside its neighbour's
EIGHTS, WARPS = 512, 4
# Whether e2m1 is decoded by its bits instead of by a conversion of integers, which is slow.
BY_BITS = False
PACKED_CONFIGS = [
    triton.Config({"BLOCK_S": s, "BLOCK_N": n, "BLOCK_K": 64}, num_warps=warps, num_stages=stages)
    for s, n, warps, stages in [(64, 64, 4, 3), (64, 128, 4, 3), (128, 128, 8, 3), (128, 64, 4, 3)]
]
HALFWAY = tl.constexpr(2.0**63)  # taken twice: 2^126 times the largest step would overflow
MANY_ROWS = 32_768  # of a product; fewer and more are tuned apart


@triton.jit
def by_bits(four, step):
    """four x step. An e2m1's three low bits, as those around a float32's binary point, are its
    value times 2^-126, also for 0.5, which has no exponent there either."""
    tiny = (((four & 7) << 22) | ((four & 8) << 28)).to(tl.float32, bitcast=True)
    return (tiny * HALFWAY) * (step * HALFWAY)


@triton.jit
def dense_kernel(values, scales, factors, out, eights, EIGHTS: tl.constexpr, BY_BITS: tl.constexpr):
    matrix = tl.program_id(1).to(tl.int64)
    eight = tl.program_id(0) * EIGHTS + tl.arange(0, EIGHTS)
    inside = eight < eights
    byte, number = tl.arange(0, 4), tl.arange(0, 8)
    values += matrix * eights * 4
    scales += matrix * (eights // 2)
    out += matrix * eights * 8
    pairs = tl.load(values + eight[:, None] * 4 + byte[None, :], mask=inside[:, None], other=0)
    scale = tl.load(scales + eight // 2, mask=inside, other=0.0).to(tl.float32)
    step = scale * tl.load(factors + matrix)
    pairs = pairs.to(tl.int32)
    four = tl.interleave(pairs & 15, pairs >> 4)
    if BY_BITS:
        dense = by_bits(four, step[:, None])
    else:
        mantissa, exponent = four & 1, (four >> 1) & 3
        quarters = tl.where(exponent == 0, mantissa * 2, (2 + mantissa) << exponent)
        positive = quarters.to(tl.float32) * 0.25
        dense = tl.where((four & 8) != 0, -positive, positive) * step[:, None]
    target = out + eight[:, None] * 8 + number[None, :]
    tl.store(target, dense.to(out.dtype.element_ty), mask=inside[:, None])


def write_dense(values: Tensor, scales: Tensor, factors: Tensor, out: Tensor) -> None:
    """values [..., R, C / 2], scales [..., R, C / 16], factors [...] -> out [..., R, C]; all
    contiguous."""
    matrices = factors.numel()
    eights = out.numel() // matrices // 8
    grid = (triton.cdiv(eights, EIGHTS), matrices)
    dense_kernel[grid](
        values, scales, factors, out, eights, EIGHTS=EIGHTS, BY_BITS=BY_BITS, num_warps=WARPS
    )


# -----------------------------------------------------------------------------
# a product


@triton.autotune(configs=PACKED_CONFIGS, key=["N", "K", "FLIP", "many"])
@triton.jit
def packed_rows_kernel(
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


def packed_rows(x: Tensor, weight: Packed, ends: Tensor, flip: bool) -> Tensor:
    """x [S, k] sorted by expert, weight [E, n, k] if flip, else [E, k, n], ends [E] int32 ->
    [S, n]. As expert_lora_triton.rows by the dense weight."""
    x = x.contiguous()
    experts, first, second = weight.shape
    n = first if flip else second
    out = x.new_empty(x.shape[0], n)

    def grid(block: dict[str, int]) -> tuple[int]:
        tiles = triton.cdiv(x.shape[0], block["BLOCK_S"]) + experts
        return (tiles * triton.cdiv(n, block["BLOCK_N"]),)

    packed_rows_kernel[grid](
        x,
        *(weight.values, weight.scales, weight.factors),
        *(out, ends, n, x.shape[1]),
        many=32 if x.shape[0] >= MANY_ROWS else 16,
        EXPERTS=experts,
        PADDED=triton.next_power_of_2(experts),
        FLIP=flip,
    )
    return out
