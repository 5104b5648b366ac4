"""The trained adapter as files, in the form that vLLM serves."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file

from training import adapter_factors, engine, families, vllm_format


def dead_tensors(model: torch.nn.Module) -> list[str]:
    """Names of LoRA B matrices that are still all zeros, as at the start, although they could
    have learned."""
    return [
        name
        for name, parameter in model.named_parameters()
        if "lora_B" in name
        and parameter.requires_grad
        and engine.CANNOT_LEARN not in name
        and not parameter.any()
    ]


def write(model: PeftModel, served_model: str, folder: Path, merged: bool = False) -> int:
    """Saves PEFT's adapter, writes vLLM's form of it beside it, and returns the number of tensors.
    merged: as in the job.

    In the base model's precision, as it is served; without pairs that cannot learn and are still
    zero.
    """
    model.save_pretrained(folder / "scratch" / "peft")
    configuration = json.loads((folder / "scratch" / "peft" / "adapter_config.json").read_text())
    tensors = load_file(folder / "scratch" / "peft" / "adapter_model.safetensors")
    base = model.config
    if base.model_type == families.NEMOTRON_H:
        tensors = vllm_format.per_expert(
            tensors,
            expert_count=base.n_routed_experts,
            hidden_size=base.hidden_size,
            inner_size=base.moe_intermediate_size,
        )
    dead = (name for name in tensors if engine.CANNOT_LEARN in name and "lora_B" in name)
    nothing = {name for name in dead if not tensors[name].any()}
    nothing |= {name.replace("lora_B", "lora_A") for name in nothing}
    tensors = {
        name: tensor.to(model.dtype) for name, tensor in tensors.items() if name not in nothing
    }
    target = folder / "adapter"
    target.mkdir(exist_ok=True)
    save_file(tensors, target / "adapter_model.safetensors", metadata={"format": "pt"})
    configuration |= {
        "base_model_name_or_path": served_model,
        "target_parameters": None,
        adapter_factors.THROUGH_QUANTISER: merged and engine.adapts_packed(model),
        "target_modules": sorted({name.split(".lora_")[0].rsplit(".", 1)[1] for name in tensors}),
    }
    (target / "adapter_config.json").write_text(json.dumps(configuration, indent=1))
    return len(tensors)
