"""Predicts the memory of a training step: with unified memory, too large a step hangs the host.

    peak = weights + adapter + what the layers keep for the backward pass + the widest temporary

Weights are bfloat16, 2 bytes a parameter, or stay packed as NVFP4 (half a byte, and a byte for
every 16) and are made dense one after another in two buffers, where training through the quantiser
makes them with their adapter: nothing is added. An adapter is float32 with two AdamW
moments, 12 bytes, and a gradient, 4 more, of which one layer's worth is live beside the rest at the
peak. What a layer keeps a token is counted tensor by tensor below, for the lean layers of
lean_layers and expert_lora. Compared with measured peaks in tests/training/test_memory.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

WEIGHT, ADAPTER, GRADIENT, FLOAT, INDEX = 2, 12, 4, 4, 8
KINDS = {"M": "linear_attention", "E": "moe", "*": "full_attention"}
ATTENTION = ("attention", "full_attention")  # as transformers 5.9 and 5.17 call them
MAMBA = ("mamba", "linear_attention")
GROUP = 16  # packed parameters that share a scale of one byte
# CUDA's own handles and workspaces as torch counts them, the loss's tiles, the smallest of tensors
FIXED_BYTES = 900_000_000


class TooSmall(Exception):
    """No way to train fits into the budget. The message says what would."""


@dataclass(frozen=True)
class Shape:
    """A model and its adapter. kinds: "linear_attention", "moe" or "full_attention" for each layer
    of a Nemotron-H; "plain" for attention and a gated MLP, of inner width plain_inner."""

    kinds: tuple[str, ...]
    total_parameters: int
    trainable_parameters: int
    hidden: int
    rank: int
    query_width: int
    mamba_inner: int = 0
    mamba_projected: int = 0
    expert_inner: int = 0
    shared_inner: int = 0
    expert_count: int = 0
    experts_per_token: int = 0
    experts_adapted: bool = True
    packed_parameters: int = 0
    expert_width: int = 0  # of a token inside the routed experts, where it is not the hidden size
    vocabulary: int = 131_072
    plain_inner: int = 0

    def kept_bytes(self, kind: str) -> int:
        """Bytes a token that one layer keeps: its input, the norm's output, and the mixer's
        tensors."""
        if kind == "plain":  # transformers' own norms, each with its input twice in float32
            norms = 2 * (2 * FLOAT + 3 * WEIGHT) * self.hidden
            factors = 7 * WEIGHT * self.rank
            return norms + WEIGHT * (6 * self.query_width + 4 * self.plain_inner) + factors
        both = 2 * WEIGHT * self.hidden + FLOAT
        if kind == "linear_attention":
            return both + WEIGHT * (self.mamba_projected + self.mamba_inner + self.rank)
        if kind == "full_attention":
            return both + WEIGHT * (6 * self.query_width + 4 * self.rank)
        routed = WEIGHT * (self.expert_inner + 2 * self.rank) + 4 * INDEX
        # transformers' own path also keeps every routed row and its activation
        if not self.experts_adapted and not self.packed_parameters:
            routed += WEIGHT * (self.hidden + self.expert_inner)
        return (
            both
            + self.experts_per_token * routed
            + 2 * WEIGHT * self.shared_inner
            + 3 * FLOAT * self.expert_count
        )

    @property
    def weight_bytes(self) -> int:
        """Of the frozen model. A buffer holds one projection of all experts of a layer."""
        frozen = self.total_parameters - self.trainable_parameters
        if not self.packed_parameters:
            return WEIGHT * frozen
        width = self.expert_width or self.hidden
        buffers = 2 * WEIGHT * self.expert_count * self.expert_inner * width
        packed = self.packed_parameters // 2 + self.packed_parameters // GROUP
        return WEIGHT * (frozen - self.packed_parameters) + packed + buffers

    @property
    def temporary_bytes(self) -> int:
        """Bytes a token at the peak of a layer: rows in and out of the routed experts, or of the
        MLP, in the backward pass."""
        experts = self.experts_per_token * WEIGHT * (3 * self.hidden + 3 * self.expert_inner)
        return experts + (3 * WEIGHT * (self.hidden + self.plain_inner) if self.plain_inner else 0)


def feeding_layers(kinds: list[str]) -> list[int]:
    """The numbers of the Mamba layers that feed an attention layer: the last one before each of
    those. The official NVFP4 checkpoint keeps them in BF16."""
    mamba = [number for number, kind in enumerate(kinds) if kind in MAMBA]
    return [
        max(m for m in mamba if m < number)
        for number, kind in enumerate(kinds)
        if kind in ATTENTION
    ]


def peak_bytes(shape: Shape, tokens: int, checkpointed_layers: int) -> int:
    """Of one step of this many tokens. A checkpointed layer keeps its input; one at a time keeps
    everything."""
    kinds = shape.kinds
    kept = sum(shape.kept_bytes(kind) for kind in kinds[checkpointed_layers:])
    inputs = WEIGHT * shape.hidden * min(checkpointed_layers, len(kinds))
    again = max((shape.kept_bytes(kind) for kind in kinds[:checkpointed_layers]), default=0)
    state = shape.weight_bytes + ADAPTER * shape.trainable_parameters
    gradients = GRADIENT * shape.trainable_parameters // max(1, kinds.count("moe"))
    return (
        state + gradients + FIXED_BYTES + tokens * (kept + inputs + again + shape.temporary_bytes)
    )


def checkpointed_layers(shape: Shape, tokens: int, budget_bytes: int) -> int:
    """The fewest layers to checkpoint for a peak below budget_bytes; 0 is fastest. Raises
    TooSmall."""
    for layers in range(len(shape.kinds) + 1):
        if peak_bytes(shape, tokens, layers) <= budget_bytes:
            return layers
    least = peak_bytes(shape, tokens, len(shape.kinds))
    raise TooSmall(
        f"a step of {tokens} tokens takes {least / 1e9:.1f} GB at the least, the budget is"
        f" {budget_bytes / 1e9:.1f} GB: lower tokens_per_step in the recipe"
    )


def shape(
    configuration: Mapping[str, Any],
    total_parameters: int,
    trainable_parameters: int,
    rank: int,
    experts_adapted: bool,
    packed_parameters: int = 0,
) -> Shape:
    """Of a model by its config.json, whose layers are a pattern of letters or a list of kinds.
    total_parameters: the adapter's among them."""
    said = configuration
    heads, hidden = said["num_attention_heads"], said["hidden_size"]
    common = {
        "total_parameters": total_parameters,
        "trainable_parameters": trainable_parameters,
        "hidden": hidden,
        "rank": rank,
        "query_width": heads * (said.get("head_dim") or hidden // heads),
        "vocabulary": said["vocab_size"],
    }
    if said["model_type"] != "nemotron_h":
        kinds = ("plain",) * said["num_hidden_layers"]
        return Shape(kinds=kinds, plain_inner=said["intermediate_size"], **common)
    letters = said.get("hybrid_override_pattern", "")
    inner = said["mamba_num_heads"] * said["mamba_head_dim"]
    convolved = inner + 2 * said["n_groups"] * said["ssm_state_size"]
    return Shape(
        kinds=tuple(said.get("layers_block_type") or (KINDS[letter] for letter in letters)),
        mamba_inner=inner,
        mamba_projected=inner + convolved + said["mamba_num_heads"],
        expert_inner=said["moe_intermediate_size"],
        shared_inner=said["moe_shared_expert_intermediate_size"],
        expert_count=said["n_routed_experts"],
        experts_per_token=said["num_experts_per_tok"],
        experts_adapted=experts_adapted,
        packed_parameters=packed_parameters,
        expert_width=said.get("moe_latent_size") or hidden,
        **common,
    )
