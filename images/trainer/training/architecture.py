"""The shape of Nemotron-3-Nano-30B-A3B: the published configuration, and models of it without
trained weights.

Values from the configuration of nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16
(https://arxiv.org/abs/2512.20848, table 1).
31,577,937,344 parameters: 23 Mamba-2, 23 expert and 6 attention layers.
"""

from __future__ import annotations

import math

import torch
from transformers import NemotronHConfig, NemotronHForCausalLM

PATTERN = "MEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEMEM*EMEMEMEME"
KINDS = {"M": "linear_attention", "E": "moe", "*": "full_attention"}
ATTENTION = ("attention", "full_attention")  # as transformers 5.9 and 5.17 call them
MAMBA = ("mamba", "linear_attention")


def configuration(layers: int = len(PATTERN)) -> NemotronHConfig:
    """layers: how many of the 52, from the first. Fewer make a small model with the real widths."""
    return NemotronHConfig(
        layers_block_type=[KINDS[letter] for letter in PATTERN[:layers]],
        vocab_size=131072,
        hidden_size=2688,
        tie_word_embeddings=False,
        num_attention_heads=32,
        num_key_value_heads=2,
        head_dim=128,
        max_position_embeddings=262144,
        intermediate_size=1856,
        mlp_hidden_act="relu2",
        ssm_state_size=128,
        mamba_num_heads=64,
        mamba_head_dim=64,
        n_groups=8,
        conv_kernel=4,
        expand=2,
        use_conv_bias=True,
        chunk_size=128,
        n_routed_experts=128,
        n_shared_experts=1,
        moe_intermediate_size=1856,
        moe_shared_expert_intermediate_size=3712,
        num_experts_per_tok=6,
        routed_scaling_factor=2.5,
        n_group=1,
        topk_group=1,
        norm_topk_prob=True,
        layer_norm_epsilon=1e-5,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
        use_cache=False,
    )


def feeding_layers(kinds: list[str]) -> list[int]:
    """The numbers of the Mamba layers that feed an attention layer: the last one before each of
    those. The official NVFP4 checkpoint keeps them in BF16."""
    mamba = [number for number, kind in enumerate(kinds) if kind in MAMBA]
    return [
        max(m for m in mamba if m < number)
        for number, kind in enumerate(kinds)
        if kind in ATTENTION
    ]


def meta_model(layers: int = len(PATTERN)) -> NemotronHForCausalLM:
    """The model on torch's meta device: every name and shape, no memory."""
    with torch.device("meta"):
        return NemotronHForCausalLM(configuration(layers))


@torch.no_grad()
def fill_randomly(name: str, parameter: torch.Tensor) -> None:
    if "norm" in name or name.endswith(".D"):
        parameter.fill_(1)
    elif "A_log" in name:
        parameter.copy_(torch.log(torch.arange(1, parameter.numel() + 1, device=parameter.device)))
    elif "dt_bias" in name:
        parameter.fill_(-4.0)
    else:
        parameter.normal_(0, 0.02)


@torch.no_grad()
def random_model(
    device: str, layers: int = len(PATTERN), dtype: torch.dtype = torch.bfloat16
) -> NemotronHForCausalLM:
    """The model with random weights that keep activations finite, for timing and comparisons."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        model = meta_model(layers).to_empty(device=device)
    finally:
        torch.set_default_dtype(before)
    for name, parameter in model.named_parameters():
        fill_randomly(name, parameter)
    for buffer in model.buffers():
        buffer.zero_()
    for module in model.modules():
        if hasattr(module, "time_step_limit"):
            module.time_step_limit = (0.0, math.inf)
    return model
