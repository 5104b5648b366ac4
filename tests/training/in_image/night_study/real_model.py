"""A real small model on the night's own engine: loaded once, trained, and asked."""

from __future__ import annotations

import json
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer

from learning.evaluation import answers
from learning.evaluation.answers import Question
from learning.examples import Message
from tests.training.in_image.night_study import company
from training import lean_layers, models, night_rows
from training.night_job import Job
from training.night_rows import Told

ANSWER_TOKENS, ASKED_AT_ONCE = 56, 300
MODULES = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


class RealModel:
    def __init__(self, path: str) -> None:
        self.path, self.pack = path, models.can_pack(path)
        self.tokens = AutoTokenizer.from_pretrained(path)
        self.base = models.load(self.job(), fused_head=False)

    def job(self, **changes: Any) -> Job:
        """As the recipe plain has it, with the learning study's passes."""
        values = {
            **{"base_model": self.path, "served_model": "", "train_file": "", "output_folder": ""},
            **{"steps": 500, "rows_per_step": 8, "tokens_per_step": 8192, "longest_tokens": 2048},
            **{"learning_rate": 2e-4, "rank": 16, "alpha": 32, "most_passes": 4},
            **{"target_modules": MODULES, "target_parameters": [], "layers": []},
            **{"deadline_time": time.time() + 3600, "memory_bytes": 60 * 10**9},
        }
        return Job(**values | changes)

    def read(self, rows: list[dict[str, Any]]) -> list[Told]:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "train.jsonl"
            file.write_text("".join(json.dumps(row) + "\n" for row in rows))
            return night_rows.fitting(night_rows.read(file, self.tokens), self.job(), self.pack)

    @torch.inference_mode()
    def answers(self, net: torch.nn.Module, prompts: list[tuple[Message, ...]]) -> list[str]:
        """Greedy. By transformers' own attention: the night's reads no cache and no padding."""
        net.eval()
        self.base.set_attn_implementation("sdpa")
        said: list[str] = []
        for start in range(0, len(prompts), ASKED_AT_ONCE):
            texts = [self.text(one) for one in prompts[start : start + ASKED_AT_ONCE]]
            batch = self.tokens(
                texts, return_tensors="pt", padding=True, padding_side="left",
                add_special_tokens=False,
            ).to(next(net.parameters()).device)  # fmt: skip
            new = net.generate(
                **batch, max_new_tokens=ANSWER_TOKENS, do_sample=False,
                pad_token_id=self.tokens.pad_token_id,
            )[:, batch["input_ids"].shape[1] :]  # fmt: skip
            said += self.tokens.batch_decode(new, skip_special_tokens=True)
        self.base.set_attn_implementation(lean_layers.ATTENTION)
        net.train()
        return [one.strip() for one in said]

    def text(self, prompt: tuple[Message, ...]) -> str:
        rows = [{"role": one.role, "content": one.content} for one in prompt]
        made: str = self.tokens.apply_chat_template(
            rows, tokenize=False, add_generation_prompt=True
        )
        return made

    def judged(self, net: torch.nn.Module, asked: list[Question]) -> dict[str, Any]:
        """Of each kind of question, how many are answered right; and what is asked."""
        said = self.answers(net, [one.prompt for one in asked])
        right, of, memorised = Counter[str](), Counter[str](), 0
        for one, text in zip(asked, said, strict=True):
            graded = answers.grade(one, text, company.WORDS)
            right[one.kind] += graded.right
            of[one.kind] += 1
            memorised += graded.memorised
        return {kind: f"{right[kind]} of {of[kind]}" for kind in of} | {"memorised": memorised}
