"""A night on Unsloth's engine: the case study's recipe as published.

    python -m training.train_unsloth JOB.json

The same job, files and checks as training.train; the model, its adapter and its checkpointing are
Unsloth's. It does not pack this model's samples, so rows_per_step holds and rows are padded.
"""

from __future__ import annotations

import torch
from peft import PeftModel
from trl.trainer.utils import add_fused_lm_head

from training import engine, train
from training.night_job import Job

import unsloth  # isort: skip  (before the libraries that it changes)


def wrapped(job: Job) -> PeftModel:
    model, _ = unsloth.FastLanguageModel.from_pretrained(
        job.base_model,
        max_seq_length=job.longest_tokens,
        load_in_4bit=False,
        dtype=torch.bfloat16 if torch.cuda.is_available() else torch.float32,
        attn_implementation="eager",
        trust_remote_code=False,
    )
    add_fused_lm_head(model)
    with engine.out_proj_allowed():
        model = unsloth.FastLanguageModel.get_peft_model(
            model,
            r=job.rank,
            lora_alpha=job.alpha,
            lora_dropout=0,
            bias="none",
            target_modules=job.target_modules,
            target_parameters=job.target_parameters,
            layers_to_transform=job.layers or None,
            use_gradient_checkpointing="unsloth",
        )
    unsloth.FastLanguageModel.for_training(model)
    wrapped_model: PeftModel = model
    return wrapped_model


if __name__ == "__main__":
    train.main(wrapped, pack=False)
