"""A small language model on one device: its answers, how likely it finds others, a LoRA night."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from learning.examples import Example, Message

SCORED_AT_ONCE, ASKED_AT_ONCE = 32, 256
MODULES = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
LINEAR, COSINE = "linear", "cosine"
# rows a step follow the night: a small one takes small steps, so that it takes enough of them. 24
# rows are about the 8192 tokens of env/recipes/team.toml
STEPS_A_PASS, MOST_ROWS_A_STEP = 40, 24


@dataclass(frozen=True)
class Setting:
    """How a night trains. alpha is twice the rank, as in env/recipes/team.toml."""

    learning_rate: float = 2e-4
    passes: int = 4
    rank: int = 16
    schedule: str = LINEAR
    warm_up: float = 0.05
    rows_a_step: int = 0  # 0: as many as the night's size wants


class Model:
    """The base model, and copies of it that nights trained."""

    def __init__(self, path: str, device: str) -> None:
        torch.set_float32_matmul_precision("high")  # LoRA's own weights are float32
        self.path, self.device = path, device
        self.tokens = AutoTokenizer.from_pretrained(path)
        self.base = self.load()

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
    def answers(self, net: Any, prompts: Sequence[tuple[Message, ...]], most: int) -> list[str]:
        """Greedy. Longest first, so that a batch's prompts are about as long."""
        texts = [self.text(one, answering=True) for one in prompts]
        order = sorted(range(len(texts)), key=lambda at: -len(texts[at]))
        found: dict[int, str] = {}
        for start in range(0, len(order), ASKED_AT_ONCE):
            part = order[start : start + ASKED_AT_ONCE]
            batch = self.encoded([texts[at] for at in part], "left").to(self.device)
            said = net.generate(
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
        """Of each answer token, and which row it is of. Only those are mapped to the vocabulary,
        which costs as much as the whole model otherwise."""
        batch, labels = self.batch(rows)
        hidden = net.model(**batch).last_hidden_state[:, :-1]
        counted = labels[:, 1:] != -100
        scores = net.lm_head(hidden[counted])
        each = torch.nn.functional.cross_entropy(
            scores.float(), labels[:, 1:][counted], reduction="none"
        )
        return each, counted.nonzero()[:, 0]

    @torch.inference_mode()
    def likelihoods(self, net: Any, rows: Sequence[Example]) -> list[float]:
        found: list[float] = []
        for start in range(0, len(rows), SCORED_AT_ONCE):
            part = rows[start : start + SCORED_AT_ONCE]
            each, row = self.losses(net, part)
            found += [-float(each[row == at].mean()) for at in range(len(part))]
        return found

    def train(self, rows: list[Example], setting: Setting, seed: int) -> tuple[Any, float]:
        """The base model with a LoRA night on it, merged, and the mean loss of the last pass."""
        torch.manual_seed(seed)
        rank = setting.rank
        config = LoraConfig(
            r=rank, lora_alpha=2 * rank, target_modules=MODULES, task_type="CAUSAL_LM"
        )
        wrapped = get_peft_model(self.load(), config).train()
        net = wrapped.get_base_model()
        weights = [one for one in wrapped.parameters() if one.requires_grad]
        optimiser = torch.optim.AdamW(weights, lr=setting.learning_rate, weight_decay=0.0)
        schedule = scheduled(optimiser, setting, steps(rows, setting))
        order, size, last = random.Random(seed), rows_a_step(rows, setting), [0.0]
        for _ in range(setting.passes):
            mixed, last = order.sample(rows, len(rows)), []
            for start in range(0, len(mixed), size):
                loss = self.losses(net, mixed[start : start + size])[0].mean()
                loss.backward()
                torch.nn.utils.clip_grad_norm_(weights, 1.0)
                optimiser.step()
                schedule.step()
                optimiser.zero_grad(set_to_none=True)
                last.append(loss.detach())
        return wrapped.merge_and_unload().eval(), fmean(map(float, last))


def rows_a_step(rows: Sequence[Example], setting: Setting) -> int:
    return setting.rows_a_step or max(1, min(MOST_ROWS_A_STEP, len(rows) // STEPS_A_PASS))


def steps(rows: Sequence[Example], setting: Setting) -> int:
    return setting.passes * math.ceil(len(rows) / rows_a_step(rows, setting))


def scheduled(optimiser: Any, setting: Setting, count: int) -> Any:
    warm = max(1, int(count * setting.warm_up))

    def share(at: int) -> float:
        left = (count - at) / max(1, count - warm)
        falling = left if setting.schedule == LINEAR else (1 - math.cos(math.pi * left)) / 2
        return min((at + 1) / warm, max(falling, 0.0))

    return torch.optim.lr_scheduler.LambdaLR(optimiser, share)
