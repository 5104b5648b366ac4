"""Samples in a pack against each alone, on the CPU: losses and gradients, sample by sample.

transformers' own path of Mamba on a CPU ignores seq_idx, which is why a night does not pack there.
A stand-in gives it the
segments of a pack one by one; all else is the night's engine. With the real kernels:
training.checks.exactness, on a GPU.
"""

from collections.abc import Iterator
from types import MethodType
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import NemotronHForCausalLM
from trl.trainer.utils import add_fused_lm_head

from training import engine, expert_lora, practice_model, samples
from training.bench import run
from training.checks.compare import compared, losses_and_gradients

RECIPE = {
    "rank": 8,
    "alpha": 16,
    "layers": [],
    "target_parameters": ["mixer.experts.up_proj", "mixer.experts.down_proj"],
    "target_modules": ["q_proj", "k_proj", "v_proj", "o_proj", "in_proj", "up_proj", "down_proj"],
}


def honour_seq_idx(mixer: torch.nn.Module) -> None:
    plain = mixer.forward

    def forward(
        self: torch.nn.Module,
        hidden: torch.Tensor,
        *_: Any,
        seq_idx: torch.Tensor | None = None,
        **__: Any,
    ) -> Any:
        if seq_idx is None:
            return plain(hidden)
        lengths = torch.unique_consecutive(seq_idx[0], return_counts=True)[1].tolist()
        return torch.cat([plain(part) for part in hidden.split(lengths, 1)], 1)

    mixer.forward = MethodType(forward, mixer)


@pytest.fixture
def model() -> Iterator[PeftModel]:
    torch.manual_seed(7)
    base = NemotronHForCausalLM(practice_model.configuration())
    practice_model.wake(base)
    add_fused_lm_head(base)
    wrapped = run.adapted(base, RECIPE)
    for name, parameter in wrapped.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(0, 0.05)
    engine.enable(wrapped, expert_lora.LOOP)
    wrapped.train()
    yield wrapped


def pack_against_alone(model: PeftModel) -> tuple[float, float, float]:
    several = samples.random_samples(5, 200, 3)
    together = losses_and_gradients(model, samples.packed(several, "cpu"))
    return compared(
        together, losses_and_gradients(model, *(samples.packed([one], "cpu") for one in several))
    )


def test_a_pack_has_its_samples_losses_and_gradients(model: PeftModel) -> None:
    for layer in model.get_base_model().model.layers:
        if layer.block_type == "linear_attention":
            honour_seq_idx(layer.mixer)
    total, each, gradients = pack_against_alone(model)
    assert total < 1e-5 and each < 1e-5 and gradients < 1e-3


def test_without_seq_idx_samples_leak_into_each_other(model: PeftModel) -> None:
    """What the plain path and the published recipe do; it shows that the test above can fail."""
    _, each, gradients = pack_against_alone(model)
    assert each > 1e-4 and gradients > 1e-2


def test_padding_changes_no_loss(model: PeftModel) -> None:
    several = samples.random_samples(3, 90, 4)
    padded = model(**samples.padded(several, "cpu"), use_cache=False, fused_lm_head=True)
    alone = sum(losses_and_gradients(model, samples.packed([one], "cpu"))[0][0] for one in several)
    assert float(-padded.log_probs.sum()) == pytest.approx(alone, rel=1e-4)
