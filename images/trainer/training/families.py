"""Which engine trains a model, by its configuration, before any weight is loaded.

"nemotron_h"  transformers' own Nemotron-H, on the engine of this package (engine.py)
"plain"       every layer is attention and a gated MLP of ordinary linear layers, as in Llama,
              Mistral, Qwen 2 and 3: PEFT trains them and vLLM serves their adapters as they are

Any other model is refused by name.
"""

from __future__ import annotations

import json
import re
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from training import places

NEMOTRON_H, PLAIN = "nemotron_h", "plain"
# transformers writes its infinity in a form of its own, and shapes nothing by it
UNREADABLE = ("time_step_limit",)
IN_LAYER = re.compile(r"\.layers\.\d+\.(.+)$")


class Unsupported(Exception):
    """The model cannot be trained. The message names it and says why."""


def configuration(name: str) -> Any:
    """name: a folder, or a model in HF_HOME. Raises Unsupported for one that transformers knows
    only by code of the model's own."""
    try:
        return AutoConfig.from_pretrained(name, trust_remote_code=False)
    except ValueError as error:
        raise Unsupported(f"{name} cannot be trained: {error}") from error


def skeleton(config: Any) -> torch.nn.Module:
    """The model on torch's meta device: every name and shape, no memory."""
    try:
        with torch.device("meta"):
            return AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    except ValueError as error:
        raise Unsupported(f"{config.model_type} cannot be trained: {error}") from error


def family(config: Any) -> str:
    """NEMOTRON_H or PLAIN. Raises Unsupported for any other."""
    if config.model_type == NEMOTRON_H:
        return NEMOTRON_H
    found = matrices(skeleton(config))
    if found == places.PLAIN:
        return PLAIN
    lacks, has = (
        ", ".join(sorted(some)[:3]) or "nothing"
        for some in (places.PLAIN - found, found - places.PLAIN)
    )
    name = getattr(config, "_name_or_path", "") or "the model"
    raise Unsupported(
        f"{name} ({config.model_type}) cannot be trained: it is no Nemotron-H, and of a plain"
        f" model's linear layers it lacks {lacks}; it has {has} beside them"
    )


def matrices(model: torch.nn.Module) -> frozenset[str]:
    """Where in a layer each of its matrices is; "mlp.up_proj" for the weight of that linear layer,
    and the whole name for a matrix that is no linear layer's."""
    linear = {name for name, one in model.named_modules() if type(one) is torch.nn.Linear}
    found = set()
    for name, parameter in model.named_parameters():
        match = IN_LAYER.search(name)
        if match and parameter.dim() > 1:
            module = name.removesuffix(".weight")
            found.add(match[1].removesuffix(".weight") if module in linear else match[1])
    return frozenset(found)


def packs(config: Any) -> bool:
    """Whether each token attends to all before it in its sample, which is what the attention that
    keeps packed samples apart computes: no window, no cap on the scores."""
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    other = (getattr(config, key, None) for key in ("sliding_window", "attn_logit_softcapping"))
    return kinds == {"full_attention"} and not any(other)


def facts(name: str, config: Any) -> dict[str, Any]:
    """What an adapter must fit (check_adapter.BaseModel), and the configuration, to count a
    recipe's parameters by. Raises Unsupported."""
    experts = family(config) == NEMOTRON_H
    kinds = config.layers_block_type if experts else ()
    written = json.loads(config.to_json_string())
    return {
        "name": name,
        "expert_count": config.n_routed_experts if experts else 0,
        "expert_layers": [layer for layer, kind in enumerate(kinds) if kind == "moe"],
        "layers": config.num_hidden_layers,
        "hidden_size": config.hidden_size,
        "places": sorted(places.NEMOTRON_H if experts else places.PLAIN),
        "configuration": {key: value for key, value in written.items() if key not in UNREADABLE},
    }
