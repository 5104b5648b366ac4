"""Weights that stay in NVFP4, as the served checkpoint has them: made dense for each product,
forward and backward, and never kept dense.

A number is e2m1(half a byte, the low half first) x the scale of its group of 16 (e4m3) x the factor
of its matrix (float32): what NVIDIA ModelOpt writes as weight, weight_scale and weight_scale_2. The
product of the three is computed in float32 and rounded once, to the type of the model.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from types import MethodType
from typing import Any, Protocol

import torch
from torch.nn.functional import linear

Tensor = torch.Tensor
# gives a weight's dense form, which is valid until the next one is asked for
Dense = Callable[[], Tensor]

GROUP = 16
POSITIVE = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)  # e2m1; the fourth bit is the sign


@dataclass(frozen=True, eq=False)
class Packed:
    """Matrices [..., R, C]: values [..., R, C / 2] uint8, scales [..., R, C / 16] e4m3, factors
    [...] float32."""

    values: Tensor
    scales: Tensor
    factors: Tensor

    @property
    def shape(self) -> torch.Size:
        return torch.Size((*self.values.shape[:-1], 2 * self.values.shape[-1]))

    @property
    def parameters(self) -> int:
        return math.prod(self.shape)

    @property
    def size_bytes(self) -> int:
        return sum(part.nbytes for part in (self.values, self.scales, self.factors))

    def dense(self, dtype: torch.dtype) -> Tensor:
        """The reference, in plain torch; it also makes tensors several times as large."""
        signed = torch.tensor([*POSITIVE, *(-number for number in POSITIVE)])
        halves = torch.stack([self.values & 15, self.values >> 4], -1).flatten(-2).int()
        steps = self.scales.float() * self.factors[..., None, None]
        numbers = signed.to(self.values.device)[halves] * steps.repeat_interleave(GROUP, -1)
        return numbers.to(dtype)

    def write_dense(self, out: Tensor) -> None:
        """Fills out [..., R, C], on a GPU by one kernel."""
        if out.is_cuda:
            from training import packed_weights_triton  # a machine without a GPU has no Triton

            packed_weights_triton.write_dense(self.values, self.scales, self.factors, out)
        else:
            out.copy_(self.dense(out.dtype))


class CanBeDense(Protocol):
    """A Packed weight, or one with its adapter merged in (packed_merge.Merged)."""

    @property
    def shape(self) -> torch.Size: ...

    @property
    def parameters(self) -> int: ...

    def dense(self, dtype: torch.dtype) -> Tensor: ...

    def write_dense(self, out: Tensor) -> None: ...


# -----------------------------------------------------------------------------
# dense forms, one after another


class Order:
    """Guesses which weight is asked for next: the one that came after the same three before.

    Three tell a layer's forward pass from its recomputation and from its backward pass.
    """

    def __init__(self) -> None:
        self.last: tuple[Packed | None, ...] = (None, None, None)
        self.followers: dict[tuple[Packed | None, ...], Packed] = {}

    def after(self, weight: Packed) -> Packed | None:
        """The guess, now that this one is asked for; None the first time."""
        self.followers[self.last] = weight
        self.last = (*self.last[1:], weight)
        return self.followers.get(self.last)


class Scratch:
    """Makes packed weights dense in two buffers: while one is used, the next weight is made dense
    in the other, on a stream of its own. A wrong guess of the next one costs time only, and what a
    buffer holds already is not made again."""

    def __init__(self, dtype: torch.dtype, device: str) -> None:
        self.dtype, self.device = dtype, device
        self.stream = torch.cuda.Stream() if device == "cuda" else None
        self.used = 0
        self.forget()

    def forget(self) -> None:
        """Frees both buffers."""
        self.buffers: list[Tensor] = []
        self.holds: list[CanBeDense | None] = [None, None]
        self.order = Order()

    def reserve(self, largest: int) -> None:
        """Makes both buffers, each for a weight of this many parameters. Called before the first
        dense()."""
        self.buffers = [
            torch.empty(largest, dtype=self.dtype, device=self.device) for _ in range(2)
        ]

    def dense(self, weight: Packed) -> Tensor:
        """[..., R, C], valid until the next call: use it at once, and save it nowhere."""
        if self.stream is None:
            return weight.dense(self.dtype)
        main = torch.cuda.current_stream()
        if self.holds[1 - self.used] is weight:
            self.used = 1 - self.used
            main.wait_stream(self.stream)
        elif self.holds[self.used] is not weight:
            weight.write_dense(self.place(weight, self.used))
            self.holds[self.used] = weight
        coming = self.order.after(weight)
        if coming is not None and not any(coming is held for held in self.holds):
            self.stream.wait_stream(main)  # all that used the other buffer is before this point
            with torch.cuda.stream(self.stream):
                coming.write_dense(self.place(coming, 1 - self.used))
            self.holds[1 - self.used] = coming
        return self.place(weight, self.used)

    def settle(self) -> None:
        """Waits for what is made ahead, and holds nothing: a CUDA graph begins or ends here."""
        if self.stream is not None:
            torch.cuda.current_stream().wait_stream(self.stream)
            self.holds = [None, None]

    def once(self, weight: CanBeDense) -> Tensor:
        """As dense(), but never ahead: for a weight that changes with every step."""
        if self.stream is None:
            return weight.dense(self.dtype)
        out = self.place(weight, self.used)
        weight.write_dense(out)
        self.holds[self.used] = None
        return out

    def place(self, weight: CanBeDense, buffer: int) -> Tensor:
        return self.buffers[buffer][: weight.parameters].view(weight.shape)


# -----------------------------------------------------------------------------
# in the place of a module's parameters


def hold(module: torch.nn.Module, name: str, weight: Packed, scratch: Scratch) -> None:
    """Replaces a parameter, which keeps its shape and type, but no memory. Its numbers are NaN, so
    that code which reads it instead of asking dense_form() gives no result instead of a wrong one.
    """
    nothing = torch.full((1,), math.nan, dtype=scratch.dtype, device=scratch.device)
    shape = torch.nn.Parameter(nothing.expand(weight.shape), requires_grad=False)
    setattr(module, name, shape)
    module.__dict__.setdefault("packed", {})[name] = (weight, scratch)


def held(module: torch.nn.Module) -> dict[str, tuple[Packed, Scratch]]:
    found: dict[str, tuple[Packed, Scratch]] = module.__dict__.get("packed", {})
    return found


def dense_form(module: torch.nn.Module, name: str) -> Dense:
    """Of a module's weight, whether it is packed or not."""
    if name not in held(module):
        return partial(getattr, module, name)
    weight, scratch = held(module)[name]
    return partial(scratch.dense, weight)


def scratches(model: torch.nn.Module) -> set[Scratch]:
    return {scratch for module in model.modules() for _, scratch in held(module).values()}


def all_packed(model: torch.nn.Module) -> list[Packed]:
    return [weight for module in model.modules() for weight, _ in held(module).values()]


class Linear(torch.autograd.Function):
    """x W^T + bias, making W [out, in] dense again in the backward pass. Only x gets a gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Dense, bias: Tensor | None) -> Tensor:
        ctx.weight = weight
        return linear(x, weight(), bias)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:  # type: ignore[override]
        return grad @ ctx.weight(), None, None


def linear_forward(self: torch.nn.Linear, x: Tensor) -> Tensor:
    out: Tensor = Linear.apply(x, dense_form(self, "weight"), self.bias)
    return out


def hold_linear(module: torch.nn.Linear, weight: Packed, scratch: Scratch) -> None:
    hold(module, "weight", weight, scratch)
    module.forward = MethodType(linear_forward, module)
