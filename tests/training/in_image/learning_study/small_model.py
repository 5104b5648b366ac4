"""A small language model on one device: its answers, how likely it finds others, a LoRA night."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import torch
from torch.nn import functional
from transformers import AutoModelForCausalLM, AutoTokenizer

from learning.examples import Example, Message

SCORED_AT_ONCE, ASKED_AT_ONCE = 48, 256
MODULES = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
SCALE = 2.0  # alpha over rank, as in env/recipes/team.toml
LINEAR, COSINE = "linear", "cosine"
# rows a step follow the night: a small one takes small steps, so that it takes enough of them. 24
# rows are about the 8192 tokens of env/recipes/team.toml
STEPS_A_PASS, MOST_ROWS_A_STEP = 40, 24
SORTED_STEPS = 8  # rows of so many steps are sorted by length, so that little is padding
Ids = tuple[list[int], int]  # tokens of prompt and answer, and how many are the prompt's


@dataclass(frozen=True)
class Setting:
    """How a night trains; learning-answers.md says on what this was chosen."""

    learning_rate: float = 8e-4
    passes: int = 6
    rank: int = 32
    schedule: str = COSINE
    warm_up: float = 0.05
    rows_a_step: int = 0  # 0: as many as the night's size wants


class Model:
    """The base model, and copies of it that nights trained."""

    def __init__(self, path: str, device: str) -> None:
        torch.backends.cuda.enable_cudnn_sdp(False)  # fails on some lengths (torch 2.11, H200)
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

    def ids(self, row: Example) -> Ids:
        whole = self.text((*row.prompt, Message("assistant", row.answer)), answering=False)
        texts = [whole, self.text(row.prompt, answering=True)]
        both = self.tokens(texts, add_special_tokens=False)["input_ids"]
        return both[0], len(both[1])

    def batch(self, rows: Sequence[Ids]) -> tuple[Any, Any, Any]:
        """Tokens, which of them are there, and labels that count the answers' only."""
        longest = max(len(ids) for ids, _ in rows)
        tokens = torch.full((len(rows), longest), self.tokens.pad_token_id)
        there, labels = torch.zeros_like(tokens), torch.full_like(tokens, -100)
        for at, (ids, before) in enumerate(rows):
            tokens[at, : len(ids)], there[at, : len(ids)] = torch.tensor(ids), 1
            labels[at, before : len(ids)] = tokens[at, before : len(ids)]
        return tokens.to(self.device), there.to(self.device), labels.to(self.device)

    def losses(self, net: Any, rows: Sequence[Ids]) -> tuple[Any, Any]:
        """Of each answer token, and which row it is of. Only those are mapped to the vocabulary,
        which costs as much as the whole model otherwise."""
        tokens, there, labels = self.batch(rows)
        hidden = net.model(input_ids=tokens, attention_mask=there).last_hidden_state[:, :-1]
        counted = labels[:, 1:] != -100
        scores = net.lm_head(hidden[counted])
        each = functional.cross_entropy(scores.float(), labels[:, 1:][counted], reduction="none")
        return each, counted.nonzero()[:, 0]

    @torch.inference_mode()
    def likelihoods(self, net: Any, rows: Sequence[Example]) -> list[float]:
        found: list[float] = []
        for start in range(0, len(rows), SCORED_AT_ONCE):
            part = [self.ids(row) for row in rows[start : start + SCORED_AT_ONCE]]
            each, row = self.losses(net, part)
            found += [-float(each[row == at].mean()) for at in range(len(part))]
        return found

    def train(self, rows: list[Example], setting: Setting, seed: int) -> tuple[Any, float]:
        """The base model with a LoRA night on it, merged, and the mean loss of the last pass."""
        torch.manual_seed(seed)
        net = self.load()
        added = add_lora(net, setting.rank)
        weights = [one for module in added for one in (module.down, module.up)]
        exact = [
            one.detach().float().clone() for one in weights
        ]  # bfloat16 is too coarse to add to
        optimiser = torch.optim.AdamW(exact, lr=setting.learning_rate, weight_decay=0.0)
        schedule = scheduled(optimiser, setting, steps(rows, setting))
        order, read, last = random.Random(seed), [self.ids(row) for row in rows], [torch.zeros(1)]
        for _ in range(setting.passes):
            last = []
            for part in batches(read, rows_a_step(rows, setting), order):
                loss = self.losses(net, part)[0].mean()
                loss.backward()
                for own, one in zip(exact, weights, strict=True):
                    own.grad, one.grad = one.grad.float(), None
                torch.nn.utils.clip_grad_norm_(exact, 1.0)
                optimiser.step()
                schedule.step()
                torch._foreach_copy_([one.data for one in weights], exact)
                last.append(loss.detach())
        merge(net, added)
        return net.eval(), fmean(map(float, last))


class Lora(torch.nn.Module):
    """A linear layer without bias, frozen, with a low-rank change beside it (as PEFT starts it, in
    a quarter of its time)."""

    def __init__(self, weight: Any, rank: int) -> None:
        super().__init__()
        self.is_merged = False
        self.weight, like = weight, {"dtype": weight.dtype, "device": weight.device}
        self.down = torch.nn.Parameter(torch.empty(rank, weight.shape[1], **like))
        self.up = torch.nn.Parameter(torch.zeros(weight.shape[0], rank, **like))
        torch.nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))

    def forward(self, x: Any) -> Any:
        if self.is_merged:
            return functional.linear(x, self.weight)
        change = functional.linear(functional.linear(x, self.down), self.up)
        return torch.add(functional.linear(x, self.weight), change, alpha=SCALE)


def add_lora(net: Any, rank: int) -> list[Lora]:
    net.requires_grad_(requires_grad=False)
    added = []
    for module in list(net.modules()):
        for name, child in list(module.named_children()):
            if name in MODULES:
                added.append(Lora(child.weight, rank))
                setattr(module, name, added[-1])
    return added


@torch.no_grad()
def merge(net: Any, added: Sequence[Lora]) -> None:
    for one in added:
        one.weight += (SCALE * one.up.float() @ one.down.float()).to(one.weight.dtype)
        one.is_merged = True


def batches(rows: Sequence[Ids], size: int, order: random.Random) -> list[list[Ids]]:
    """All rows in random order, but those of a step about as long."""
    mixed, found = order.sample(list(rows), len(rows)), []
    for start in range(0, len(mixed), size * SORTED_STEPS):
        part = sorted(mixed[start : start + size * SORTED_STEPS], key=lambda row: len(row[0]))
        found += [part[at : at + size] for at in range(0, len(part), size)]
    return order.sample(found, len(found))


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
