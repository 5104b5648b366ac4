"""Times training steps of Unsloth's own path on random weights of the real architecture, for
comparison with training.bench.

    python -m training.unsloth_bench PLAN.json ROWS.jsonl      (started by training.bench; every
                                                               setting of the plan is run)

It needs its own process, because Unsloth changes transformers, PEFT and TRL when it is imported.
Random weights replace only the loading; model, adapter, checkpointing and loss are Unsloth's. If it
cannot run a setting, the row has its error.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import transformers
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from training import architecture, engine
from training.bench.timing import timing

import unsloth  # isort: skip  (first, or it complains)

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("UNSLOTH_DISABLE_STATISTICS", "1")


def unweighted(folder: Path, layers: int) -> None:
    """A model folder with a configuration and a tokenizer, without weights."""
    architecture.configuration(layers).save_pretrained(folder)
    words = {f"w{number}": number for number in range(1000)}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel(words, "w0")),
        unk_token="w0",
        pad_token="w1",
        eos_token="w2",
    )
    tokenizer.save_pretrained(folder)


def loaded(plan: dict[str, Any]) -> torch.nn.Module:
    options = {
        "max_seq_length": 2048,
        "load_in_4bit": False,
        "dtype": torch.bfloat16,
        "attn_implementation": "eager",
    }
    if plan["base_model"]:
        model, _ = unsloth.FastLanguageModel.from_pretrained(plan["base_model"], **options)
        return model
    with tempfile.TemporaryDirectory() as name:
        unweighted(Path(name), plan["layers"])
        random_weights = mock.patch.object(
            transformers.AutoModelForCausalLM,
            "from_pretrained",
            lambda *_, **__: architecture.random_model("cuda", plan["layers"]),
        )
        with random_weights:
            model, _ = unsloth.FastLanguageModel.from_pretrained(name, **options)
    return model


def wrapped(
    plan: dict[str, Any], recipe: dict[str, Any], checkpointing: bool | str
) -> torch.nn.Module:
    model = loaded(plan)
    with engine.out_proj_allowed():
        model = unsloth.FastLanguageModel.get_peft_model(
            model,
            r=recipe["rank"],
            lora_alpha=recipe["alpha"],
            lora_dropout=0,
            bias="none",
            target_modules=recipe["target_modules"],
            target_parameters=recipe["target_parameters"],
            use_gradient_checkpointing=checkpointing,
        )
    unsloth.FastLanguageModel.for_training(model)
    found: torch.nn.Module = model
    return found


def time_setting(setting: dict[str, Any], plan: dict[str, Any]) -> dict[str, Any]:
    """Rows of equal length, so that there is no padding: Unsloth does not pack this model."""
    model = wrapped(
        plan,
        plan["recipes"][setting["recipe"]],
        "unsloth" if setting["checkpointing"] == "on" else False,
    )
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4, fused=True)
    torch.cuda.reset_peak_memory_stats()
    seconds, losses = [], []
    for number in range(plan["warm_up"] + setting["steps"]):
        generator = torch.Generator().manual_seed(number)
        shape = (setting["rows"], setting["tokens_per_step"] // setting["rows"])
        ids = torch.randint(5, 700, shape, generator=generator).cuda()
        torch.cuda.synchronize()
        started = time.perf_counter()
        loss = model(
            input_ids=ids, labels=ids, attention_mask=torch.ones_like(ids), use_cache=False
        ).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        torch.cuda.synchronize()
        seconds.append(round(time.perf_counter() - started, 4))
        losses.append(round(float(loss.detach()), 4))
    return {
        "checkpointed_layers": plan["layers"] if setting["checkpointing"] == "on" else 0,
        "peak_bytes": torch.cuda.max_memory_allocated(),
        **timing(seconds, [setting["tokens_per_step"]] * len(seconds), plan["warm_up"]),
        "trainable_parameters": sum(parameter.numel() for parameter in trained),
        "loss_of_each_step": losses,
        "unsloth": unsloth.__version__,
    }


def run(plan: dict[str, Any], rows_file: Path) -> None:
    for setting in plan["settings"]:
        setting = {"steps": plan["steps"]} | setting
        try:
            row = setting | time_setting(setting, plan)
        except Exception as error:  # an error of Unsloth is a result
            traceback.print_exc()
            row = setting | {
                "error": f"{type(error).__name__}: {error}"[:2000],
                "unsloth": unsloth.__version__,
            }
        with rows_file.open("a", encoding="utf-8") as rows:
            print(json.dumps(row), file=rows)


if __name__ == "__main__":
    run(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")), Path(sys.argv[2]))
