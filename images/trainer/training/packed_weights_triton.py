"""Packed NVFP4 numbers to dense ones, in one kernel that reads each byte once."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

Tensor = torch.Tensor
# eights of numbers a program: a thread then writes 16 bytes beside its neighbour's
EIGHTS, WARPS = 512, 4
HALFWAY = tl.constexpr(2.0**63)  # taken twice: 2^126 times the largest step would overflow


@triton.jit
def by_bits(four, step):
    """four x step. An e2m1's three low bits, put around the binary point of a float32, are its
    value times 2^-126. That holds for 0.5 too, which is subnormal in both formats."""
    tiny = (((four & 7) << 22) | ((four & 8) << 28)).to(tl.float32, bitcast=True)
    return (tiny * HALFWAY) * (step * HALFWAY)


@triton.jit
def dense_kernel(values, scales, factors, out, eights, EIGHTS: tl.constexpr):
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
    dense = by_bits(four, step[:, None])
    target = out + eight[:, None] * 8 + number[None, :]
    tl.store(target, dense.to(out.dtype.element_ty), mask=inside[:, None])


def write_dense(values: Tensor, scales: Tensor, factors: Tensor, out: Tensor) -> None:
    """values [..., R, C / 2], scales [..., R, C / 16], factors [...] -> out [..., R, C]; all
    contiguous."""
    matrices = factors.numel()
    eights = out.numel() // matrices // 8
    grid = (triton.cdiv(eights, EIGHTS), matrices)
    dense_kernel[grid](values, scales, factors, out, eights, EIGHTS=EIGHTS, num_warps=WARPS)
