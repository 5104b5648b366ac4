"""Where in a layer an adapter may be, by the kind of model. Without torch, which takes seconds to
import."""

from __future__ import annotations

# Nemotron-H: every layer is a mixer; the number of a routed expert is left out
NEMOTRON_H = frozenset(
    {
        *(f"mixer.{name}" for name in ("q_proj", "k_proj", "v_proj", "o_proj", "in_proj")),
        *(f"mixer.{name}" for name in ("out_proj", "up_proj", "down_proj")),
        *(f"mixer.shared_experts.{name}" for name in ("up_proj", "down_proj")),
        *(f"mixer.experts.{name}" for name in ("up_proj", "down_proj")),
    }
)
# Llama, Mistral, Qwen 2 and 3 and their like
PLAIN = frozenset(
    {
        *(f"self_attn.{name}" for name in ("q_proj", "k_proj", "v_proj", "o_proj")),
        *(f"mlp.{name}" for name in ("gate_proj", "up_proj", "down_proj")),
    }
)
# the packed weights that nights train on, by the kind of model (packed_checkpoint.py)
PACKED = {"nemotron_h": "NVFP4"}
# in a night's folder: the trainer waits while glue renews this file (pause.py)
PAUSE = "pause"
