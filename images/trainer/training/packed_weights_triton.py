"""Packed NVFP4 numbers to dense ones, in one kernel that reads each byte once."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

Tensor = torch.Tensor
BLOCK = 256  # groups of 16 numbers a program


@triton.jit
def dense_kernel(values, scales, factors, out, groups, groups_each, BLOCK: tl.constexpr):
    group = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK).to(tl.int64)
    inside = group < groups
    byte, number = tl.arange(0, 8), tl.arange(0, 16)
    pairs = tl.load(values + group[:, None] * 8 + byte[None, :], mask=inside[:, None], other=0)
    scale = tl.load(scales + group, mask=inside, other=0.0).to(tl.float32)
    step = scale * tl.load(factors + group // groups_each, mask=inside, other=0.0)
    pairs = pairs.to(tl.int32)
    four = tl.interleave(pairs & 15, pairs >> 4)
    mantissa, exponent = four & 1, (four >> 1) & 3
    quarters = tl.where(exponent == 0, mantissa * 2, (2 + mantissa) << exponent)
    positive = quarters.to(tl.float32) * 0.25
    dense = tl.where((four & 8) != 0, -positive, positive) * step[:, None]
    target = out + group[:, None] * 16 + number[None, :]
    tl.store(target, dense.to(out.dtype.element_ty), mask=inside[:, None])


def write_dense(values: Tensor, scales: Tensor, factors: Tensor, out: Tensor) -> None:
    """values [..., R, C / 2], scales [..., R, C / 16], factors [...] -> out [..., R, C]; all
    contiguous."""
    groups = scales.numel()
    dense_kernel[(triton.cdiv(groups, BLOCK),)](
        values, scales, factors, out, groups, groups // factors.numel(), BLOCK=BLOCK, num_warps=4
    )
