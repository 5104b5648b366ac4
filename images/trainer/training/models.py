"""The base model, and a new adapter on it, by the engine of its family (families.py)."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from training import (
    count_parameters,
    engine,
    expert_rows_probe,
    families,
    lean_layers,
    memory_plan,
    merge_checkpoint,
    packed_checkpoint,
)
from training.night_job import Job, Refused


def load(job: Job, fused_head: bool = True) -> torch.nn.Module:
    """fused_head: TRL's, which computes the answers' log-probabilities without all logits."""
    gpu = torch.cuda.is_available()
    dtype = torch.bfloat16 if gpu else torch.float32
    config = families.configuration(job.base_model)
    folder = merge_checkpoint.folder_of(job.base_model)
    if packed_checkpoint.quantisation(folder):
        model = packed_checkpoint.load(folder, dtype, "cuda" if gpu else "cpu")
    else:
        model = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=dtype,
            attn_implementation=lean_layers.ATTENTION if families.packs(config) else "sdpa",
            device_map={"": 0} if gpu else None,
            trust_remote_code=False,
        )
    for module in model.modules():
        # vLLM has no lower limit for dt; transformers 5.15 and later have 0.001 in training
        if hasattr(module, "time_step_limit"):
            module.time_step_limit = (0.0, math.inf)
    if fused_head:
        from trl.trainer.utils import add_fused_lm_head  # TRL takes seconds to import

        add_fused_lm_head(model)
    return model


def adapted(base: torch.nn.Module, job: Job) -> PeftModel:
    """The base model with a new adapter, or the one that the job continues."""
    torch.manual_seed(job.seed)
    products, _ = engine.choose_products(base)
    products = expert_rows_probe.faster(products, next(base.parameters()).device)
    model = engine.adapted(base, adapter_configuration(job))
    if job.begin_from:
        engine.begin_from(model, load_file(Path(job.begin_from) / "adapter_model.safetensors"))
    if model.config.model_type == families.NEMOTRON_H:
        engine.enable(model, products, job.merged)
    else:
        lean_layers.enable(model)
    if torch.cuda.is_available():
        rows = job.rows_per_step * job.longest_tokens
        tokens = job.tokens_per_step if can_pack(job.base_model) else rows
        shape = engine.shape(model, job.rank)
        engine.checkpoint(model, memory_plan.checkpointed_layers(shape, tokens, job.memory_bytes))
    return model


def wrapped(job: Job) -> PeftModel:
    return adapted(load(job), job)


def adapter_configuration(job: Job) -> LoraConfig:
    return LoraConfig(
        r=job.rank,
        lora_alpha=job.alpha,
        lora_dropout=0.0,
        target_modules=job.target_modules,
        target_parameters=job.target_parameters or None,
        layers_to_transform=job.layers or None,
        task_type="CAUSAL_LM",
    )


def can_pack(name: str) -> bool:
    """Whether samples of a pack are kept apart exactly here."""
    config = families.configuration(name)
    if families.family(config) == families.NEMOTRON_H:
        return engine.can_pack()
    return torch.cuda.is_available() and families.packs(config)


def parameters_of(job: Job) -> int:
    """How many the recipe trains, by the model's configuration alone. Raises Unsupported for a
    model of another kind, and Refused for targets that it does not have."""
    config = families.configuration(job.base_model)
    families.family(config)
    named: dict[str, Any] = {
        key: getattr(job, key) for key in ("target_modules", "target_parameters", "layers")
    }
    found = count_parameters.targets(families.skeleton(config), named)
    if missing := count_parameters.unmatched(found, named):
        raise Refused(
            f"the recipe has targets that {job.base_model} ({config.model_type}) does not have:"
            f" {', '.join(missing)}; env/recipes/plain.toml has those of a plain model"
        )
    return count_parameters.trainable_parameters(found, job.rank)


def require_trainable(model: torch.nn.Module, wanted: int) -> None:
    """Raises Refused unless exactly as many parameters are trainable as the recipe names."""
    found = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    if found != wanted:
        raise Refused(f"{found:,} parameters would be trained; the recipe has {wanted:,}")
