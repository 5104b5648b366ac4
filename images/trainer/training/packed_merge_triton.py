"""Packed NVFP4 numbers with an adapter added, packed again and made dense, in one kernel. Bit for
bit packed_merge.Merged.dense: nothing here may be contracted or reordered."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from training.packed_weights_triton import by_bits

Tensor = torch.Tensor
ROWS, GROUPS, WARPS = 32, 8, 4


@triton.jit
def rounded(size):
    """The nearest of e2m1's sizes, ties to the even code, as packed_merge.e2m1. Numbers near 2^22
    are 0.5 apart in float32, near 2^23 and 2^24 1 and 2: adding and taking off rounds to those."""
    near = tl.where(size < 2, 4194304.0, tl.where(size < 4, 8388608.0, 16777216.0))
    return tl.minimum((size + near) - near, 6.0)


@triton.jit
def largest(numbers, ROWS: tl.constexpr, GROUPS: tl.constexpr):
    """[ROWS, GROUPS]: the largest size in each group."""
    return tl.max(tl.reshape(tl.abs(numbers), ROWS, GROUPS, 16), 2)


@triton.jit
def spread(groups, ROWS: tl.constexpr, GROUPS: tl.constexpr):
    """[ROWS, GROUPS] to [ROWS, 16 GROUPS]: a group's number for each of its 16."""
    return tl.reshape(tl.broadcast_to(groups[:, :, None], ROWS, GROUPS, 16), ROWS, 16 * GROUPS)


@triton.jit
def merged_kernel(
    values, scales, factors, a, b, out, height, width,
    RANK: tl.constexpr, ROWS: tl.constexpr, GROUPS: tl.constexpr,
):  # fmt: skip
    matrix = tl.program_id(2).to(tl.int64)
    row = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    group = tl.program_id(0) * GROUPS + tl.arange(0, GROUPS)
    byte = tl.program_id(0) * GROUPS * 8 + tl.arange(0, GROUPS * 8)
    column = tl.program_id(0) * GROUPS * 16 + tl.arange(0, GROUPS * 16)
    below = (row < height)[:, None]
    place = matrix * height + row[:, None]
    inside = below & (byte < width // 2)[None, :]
    pairs = tl.load(values + place * (width // 2) + byte[None, :], mask=inside, other=0)
    inside = below & (group < width // 16)[None, :]
    scale = tl.load(scales + place * (width // 16) + group[None, :], mask=inside, other=1.0)
    scale = scale.to(tl.float32)
    factor = tl.load(factors + matrix)
    pairs = pairs.to(tl.int32)
    four = tl.interleave(pairs & 15, pairs >> 4)
    numbers = by_bits(four, spread(scale * factor, ROWS, GROUPS))
    before = largest(numbers, ROWS, GROUPS)
    a += matrix * RANK * width
    b += matrix * RANK * height
    for _ in range(RANK):
        left = tl.load(b + row, mask=row < height, other=0.0).to(tl.float32)
        right = tl.load(a + column, mask=column < width, other=0.0).to(tl.float32)
        numbers = tl.fma(left[:, None], right[None, :], numbers)  # the product is exact
        a += width
        b += height
    # no group of zeros is divided by
    growth = tl.div_rn(largest(numbers, ROWS, GROUPS), tl.where(before > 0, before, 1.0))
    scale = tl.where(before > 0, scale * growth, scale)
    scale = tl.minimum(tl.maximum(scale, 0.001953125), 448.0)
    step = spread(scale.to(tl.float8e4nv).to(tl.float32) * factor, ROWS, GROUPS)
    size = rounded(tl.abs(tl.div_rn(numbers, step)))
    numbers = tl.where(numbers < 0, -size, size) * step
    inside = below & (column < width)[None, :]
    tl.store(out + place * width + column[None, :], numbers.to(out.dtype.element_ty), mask=inside)


def write_dense(
    values: Tensor, scales: Tensor, factors: Tensor, a: Tensor, b: Tensor, out: Tensor
) -> None:
    """As packed_weights_triton.write_dense, with a [..., r, C] and b [..., R, r] in bfloat16."""
    height, width = out.shape[-2:]
    grid = (triton.cdiv(width, 16 * GROUPS), triton.cdiv(height, ROWS), factors.numel())
    merged_kernel[grid](
        values, scales, factors, a.contiguous(), b.mT.contiguous(), out, height, width,
        a.shape[-2], ROWS, GROUPS, num_warps=WARPS, enable_fp_fusion=False,
    )  # fmt: skip
