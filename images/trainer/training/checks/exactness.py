"""Checks that the night's engine computes the same as the plain path on this GPU.   python -m
                                                                                   training.checks.exactness

Compares experts by factors with the loop over experts, and a pack of samples with each of them
alone. The last line is JSON as from training.checks.kernels, which checks the kernels themselves.
Exits 1 if an error is over its limit.
"""

from __future__ import annotations

import functools
import os
import sys

import torch
from mamba_ssm.utils import determinism
from trl.trainer.utils import add_fused_lm_head

from training import architecture, engine, expert_lora, expert_rows, samples
from training.bench import run
from training.checks import kernels
from training.checks.compare import compared, losses_and_gradients, relative
from training.checks.kernels import DEVICE

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault(
    "TRITON_F32_DEFAULT", "tf32x3"
)  # float32 to its last digits; "ieee" compiles for many minutes
os.environ["MAMBA_DETERMINISTIC"] = (
    "1"  # set before mamba_ssm is imported: one configuration a kernel, not the best of a dozen
)
os.environ.pop("TRITON_CACHE_AUTOTUNING", None)

determinism.set_deterministic_mode(False)  # accumulate as in a night
Tensor = torch.Tensor
RECIPE = {
    "rank": 16,
    "alpha": 32,
    "layers": [],
    "target_parameters": ["mixer.experts.up_proj", "mixer.experts.down_proj"],
    "target_modules": ["q_proj", "k_proj", "v_proj", "o_proj", "in_proj", "up_proj", "down_proj"],
}

# -----------------------------------------------------------------------------
# experts by factors


def experts(products: expert_lora.Products) -> float:
    """One layer of the real size, output and every gradient, compared with the plain loop over
    float32 copies. Returns the largest error."""
    torch.manual_seed(0)
    size, hidden_size, inner, rank = 128, 2688, 1856, 16
    shapes = [
        (size, inner, hidden_size),
        (size, hidden_size, inner),
        (size, rank, hidden_size),
        (size, inner, rank),
    ]
    shapes += [(size, rank, inner), (size, hidden_size, rank)]
    tensors = [torch.randn(shape, device=DEVICE, dtype=torch.bfloat16) * 0.02 for shape in shapes]
    hidden = torch.randn(1024, hidden_size, device=DEVICE, dtype=torch.bfloat16)
    weights = torch.rand(1024, 6, device=DEVICE)
    chosen = torch.rand(1024, size, device=DEVICE).topk(6, -1).indices
    chosen[chosen == 7] = 8  # an expert without rows

    def results(dtype: torch.dtype, by: expert_lora.Products) -> list[Tensor]:
        inputs = [
            hidden.detach().to(dtype, copy=True).requires_grad_(),
            weights.clone().requires_grad_(),
        ]
        factors = [tensor.to(dtype, copy=True).requires_grad_() for tensor in tensors[2:]]
        routing = expert_rows.Routing.of(chosen, size)
        stacks = [functools.partial(tensor.to, dtype) for tensor in tensors[:2]]
        out = expert_lora.Experts.apply(*inputs, *stacks, *factors, 2.0, routing, by)
        out.float().pow(2).mean().backward()
        return [out.detach(), *(tensor.grad for tensor in inputs + factors)]

    found, wanted = results(torch.bfloat16, products), results(torch.float32, expert_lora.LOOP)
    return max(relative(one, other) for one, other in zip(found, wanted, strict=True))


# -----------------------------------------------------------------------------
# a pack against its samples


@functools.cache
def pack_against_samples() -> tuple[float, float, float]:
    """Eight samples in a pack compared with each alone: six layers of the real width in float32,
    with an adapter of non-zero tensors.

    Returns relative errors: of the summed loss, of the worst sample's loss, of the worst tensor's
    gradient.
    """
    torch.manual_seed(0)
    model = architecture.random_model(DEVICE, layers=6, dtype=torch.float32)
    add_fused_lm_head(model)
    wrapped = run.adapted(model, RECIPE)
    for name, parameter in wrapped.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(0, 0.02)
    engine.enable(wrapped, expert_lora.LOOP)
    wrapped.train()
    several = samples.random_samples(8, 1600, 1)
    together = losses_and_gradients(wrapped, samples.packed(several, DEVICE))
    alone = losses_and_gradients(wrapped, *(samples.packed([sample], DEVICE) for sample in several))
    return compared(together, alone)


CHECKS = {
    "experts, torch's grouped product": (lambda: experts(expert_lora.TORCH), 2e-2),
    "experts, Triton's grouped product": (lambda: experts(expert_lora.triton_products()), 2e-2),
    "loss of a pack against its samples": (lambda: pack_against_samples()[0], 1e-4),
    "loss of each sample in a pack against it alone": (lambda: pack_against_samples()[1], 1e-4),
    "gradients of a pack against those of its samples": (lambda: pack_against_samples()[2], 1e-3),
}

if __name__ == "__main__":
    sys.exit(kernels.run(CHECKS))
