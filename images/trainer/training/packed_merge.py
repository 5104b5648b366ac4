"""Packed weights with an adapter merged in, as the merged checkpoint has them: training through the
quantiser computes with these, and training.merge_checkpoint writes them.

    merged = quantise(W + s B A)

The scale of a group grows or shrinks with the group's largest number, so that an adapter of zeros
changes nothing, by whatever rule the checkpoint was packed; a matrix keeps its factor. A and B are
rounded to bfloat16, and s B again: then each product of two numbers is exact in float32, the sum
over the rank is taken in order, and a CPU and a GPU get the same bits. Gradients go straight
through the rounding (https://arxiv.org/abs/1308.3432): A and B get those of
x W^T + s (x A^T) B^T, taken at the merged weight.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import linear

from training.packed_weights import GROUP, Dense, Packed, held

Tensor = torch.Tensor
# e2m1's sizes 0, 0.5, 1, 1.5, 2, 3, 4 and 6 begin above or at the middle between two of them: ties
# go to the even code
ABOVE, AT = (0.25, 1.25, 2.5, 5.0), (0.75, 1.75, 3.5)
SCALES = (2.0**-9, 448.0)  # the least and the largest of e4m3


def e2m1(numbers: Tensor) -> Tensor:
    """The nearest codes, uint8; beyond the largest, the largest."""
    sizes = numbers.abs()
    codes = (numbers < 0).to(torch.uint8) << 3
    for bound in ABOVE:
        codes += sizes > bound
    for bound in AT:
        codes += sizes >= bound
    return codes


def largest(numbers: Tensor) -> Tensor:
    """[..., R, C] to [..., R, C / 16]: the largest size in each group."""
    return numbers.unflatten(-1, (-1, GROUP)).abs().amax(-1)


def rounded(a: Tensor, b: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """A and s B in bfloat16, from factors of any type."""
    return a.bfloat16(), (b.bfloat16().float() * scale).bfloat16()


@dataclass(frozen=True, eq=False)
class Merged:
    """A packed weight [..., R, C] and what is added: a [..., r, C] and b [..., R, r] of rounded().
    Made dense like a Packed one."""

    weight: Packed
    a: Tensor
    b: Tensor

    @property
    def shape(self) -> torch.Size:
        return self.weight.shape

    @property
    def parameters(self) -> int:
        return self.weight.parameters

    def packed(self) -> Packed:
        """The reference, in plain torch, with some temporaries of the dense weight's size."""
        base, a, b = self.weight, self.a.float(), self.b.float()
        numbers = base.dense(torch.float32)
        before = largest(numbers)
        for at in range(a.shape[-2]):
            numbers.addcmul_(b[..., at, None], a[..., at, None, :])
        growth = torch.where(before > 0, largest(numbers) / before, 1.0)
        scales = (base.scales.float() * growth).clamp(*SCALES).to(base.scales.dtype)
        steps = scales.float() * base.factors[..., None, None]
        codes = e2m1(numbers.div_(steps.repeat_interleave(GROUP, -1)))
        return Packed(codes[..., 0::2] | codes[..., 1::2] << 4, scales, base.factors)

    def dense(self, dtype: torch.dtype) -> Tensor:
        return self.packed().dense(dtype)

    def write_dense(self, out: Tensor) -> None:
        """Fills out [..., R, C], on a GPU by one kernel, which keeps nothing else."""
        if out.is_cuda:
            from training import packed_merge_triton  # a machine without a GPU has no Triton

            base = self.weight
            packed_merge_triton.write_dense(
                base.values, base.scales, base.factors, self.a, self.b, out
            )
        else:
            out.copy_(self.dense(out.dtype))


# -----------------------------------------------------------------------------
# in the place of a module's weight and its adapter


def dense_form(module: torch.nn.Module, name: str, a: Tensor, b: Tensor, scale: float) -> Dense:
    """Of a module's packed weight with its adapter. It is made anew each time: a and b change."""
    weight, scratch = held(module)[name]
    return lambda: scratch.once(Merged(weight, *rounded(a, b, scale)))


class Linear(torch.autograd.Function):
    """x W^T + bias with a merged W [out, in]; a [r, in] and b [out, r] get gradients, as x does."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Dense,
        a: Tensor,
        b: Tensor,
        scale: float,
        bias: Tensor | None,
    ) -> Tensor:
        ctx.save_for_backward(x, a, b)
        ctx.weight, ctx.scale = weight, scale
        return linear(x, weight(), bias)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:  # type: ignore[override]
        x, a, b = ctx.saved_tensors
        rows, g = x.flatten(0, -2), grad.flatten(0, -2)
        grad_a = ((g @ b).T @ rows).mul_(ctx.scale)
        grad_b = (g.T @ (rows @ a.T)).mul_(ctx.scale)
        grad_x = grad @ ctx.weight()
        del ctx.weight  # it holds the factors, and the graph outlives a forward
        return grad_x, None, grad_a, grad_b, None, None
