"""A small language model on one device: its answers, how likely it finds others, a LoRA night."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from statistics import fmean
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from learning.examples import Example, Message

ROWS_A_STEP, SCORED_AT_ONCE, ASKED_AT_ONCE = 8, 32, 700
RANK, ALPHA, WARM_UP = 16, 32, 0.05
MODULES = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


class Model:
    """One model on one device: what it answers, how likely it finds answers, a night on it."""

    def __init__(self, path: str) -> None:
        self.path, self.device = path, "cuda" if torch.cuda.is_available() else "cpu"
        self.tokens = AutoTokenizer.from_pretrained(path)
        self.net = self.load()

    def load(self) -> Any:
        net = AutoModelForCausalLM.from_pretrained(self.path, dtype=torch.bfloat16)
        return net.to(self.device).eval()

    def text(self, spoken: Sequence[Message], answering: bool) -> str:
        rows = [{"role": message.role, "content": message.content} for message in spoken]
        return str(
            self.tokens.apply_chat_template(rows, tokenize=False, add_generation_prompt=answering)
        )

    def encoded(self, texts: list[str], side: str) -> Any:
        return self.tokens(
            texts, return_tensors="pt", padding=True, padding_side=side, add_special_tokens=False
        )

    @torch.inference_mode()
    def answers(self, prompts: Sequence[tuple[Message, ...]], most: int) -> list[str]:
        """Greedy. Longest first, so that a batch's prompts are about as long."""
        texts = [self.text(one, answering=True) for one in prompts]
        order = sorted(range(len(texts)), key=lambda at: -len(texts[at]))
        found: dict[int, str] = {}
        for start in range(0, len(order), ASKED_AT_ONCE):
            part = order[start : start + ASKED_AT_ONCE]
            batch = self.encoded([texts[at] for at in part], "left").to(self.device)
            said = self.net.generate(
                **batch, max_new_tokens=most, do_sample=False, pad_token_id=self.tokens.pad_token_id
            )
            new = said[:, batch["input_ids"].shape[1] :]
            found |= zip(part, self.tokens.batch_decode(new, skip_special_tokens=True), strict=True)
        return [found[at].strip() for at in range(len(texts))]

    def batch(self, rows: Sequence[Example]) -> tuple[Any, Any]:
        """Inputs, and labels that count the answers' tokens only."""
        whole = [(*row.prompt, Message("assistant", row.answer)) for row in rows]
        batch = self.encoded([self.text(one, answering=False) for one in whole], "right")
        before = [
            len(self.tokens(self.text(row.prompt, True), add_special_tokens=False)["input_ids"])
            for row in rows
        ]
        labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
        for at, length in enumerate(before):
            labels[at, :length] = -100
        return batch.to(self.device), labels.to(self.device)

    def losses(self, net: Any, rows: Sequence[Example]) -> tuple[Any, Any]:
        """Of each answer token, and which row it is of."""
        batch, labels = self.batch(rows)
        scores = net(**batch).logits[:, :-1]
        counted = labels[:, 1:] != -100
        each = torch.nn.functional.cross_entropy(
            scores[counted].float(), labels[:, 1:][counted], reduction="none"
        )
        return each, counted.nonzero()[:, 0]

    @torch.inference_mode()
    def likelihoods(self, rows: Sequence[Example]) -> list[float]:
        found: list[float] = []
        for start in range(0, len(rows), SCORED_AT_ONCE):
            part = rows[start : start + SCORED_AT_ONCE]
            each, row = self.losses(self.net, part)
            found += [-float(each[row == at].mean()) for at in range(len(part))]
        return found

    def train(self, rows: list[Example], learning_rate: float, passes: int, seed: int) -> float:
        """A LoRA night, which leaves the trained model, merged, as net. Returns the mean loss of
        the last pass."""
        torch.manual_seed(seed)
        config = LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=MODULES, task_type="CAUSAL_LM")
        net = get_peft_model(self.load(), config).train()
        weights = [one for one in net.parameters() if one.requires_grad]
        optimiser = torch.optim.AdamW(weights, lr=learning_rate, weight_decay=0.0)
        schedule = warmed_up(optimiser, steps(rows, passes))
        order, last = random.Random(seed), [0.0]
        for _ in range(passes):
            mixed, last = order.sample(rows, len(rows)), []
            for start in range(0, len(mixed), ROWS_A_STEP):
                loss = self.losses(net, mixed[start : start + ROWS_A_STEP])[0].mean()
                loss.backward()
                torch.nn.utils.clip_grad_norm_(weights, 1.0)
                optimiser.step()
                schedule.step()
                optimiser.zero_grad(set_to_none=True)
                last.append(loss.item())
        self.net = net.merge_and_unload().eval()
        return fmean(last)


def steps(rows: Sequence[Example], passes: int) -> int:
    return passes * math.ceil(len(rows) / ROWS_A_STEP)


def warmed_up(optimiser: Any, count: int) -> Any:
    warm = max(1, int(count * WARM_UP))
    return torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda at: min((at + 1) / warm, (count - at) / max(1, count - warm))
    )
