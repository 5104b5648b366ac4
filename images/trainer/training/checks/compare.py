"""How far apart two computations of the same thing are."""

from __future__ import annotations

import itertools

import torch
from peft import PeftModel

from training.samples import Batch

Tensor = torch.Tensor
Gradients = dict[str, Tensor]


def losses_and_gradients(model: PeftModel, *batches: Batch) -> tuple[list[float], Gradients]:
    """Summed loss of each sample in the batches, in order, and the gradients of their sum."""
    model.zero_grad()
    found = []
    for batch in batches:
        losses = -model(**batch, use_cache=False, fused_lm_head=True).log_probs.flatten()
        losses.sum().backward()
        # a position has the loss of the next token, so the last one of a sample is not its own
        ends = batch["cu_seq_lens_q"].tolist()
        found += [
            float(losses[a : b - 1].detach().double().sum()) for a, b in itertools.pairwise(ends)
        ]
    return found, {
        name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None
    }


def relative(found: Tensor, wanted: Tensor) -> float:
    return float((found.float() - wanted.float()).norm() / wanted.float().norm())


def compared(
    found: tuple[list[float], Gradients], wanted: tuple[list[float], Gradients]
) -> tuple[float, float, float]:
    """Relative errors: of the summed loss, of the worst sample's loss, of the worst tensor's
    gradient."""
    total = abs(sum(found[0]) / sum(wanted[0]) - 1)
    each = max(abs(one / other - 1) for one, other in zip(found[0], wanted[0], strict=True))
    return total, each, max(relative(found[1][name], wanted[1][name]) for name in wanted[1])
