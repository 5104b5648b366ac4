"""Rows as tokens, for the night and the bench, and the batches that hold them: packed as TRL's
collator packs, or padded."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from itertools import chain, cycle
from pathlib import Path
from typing import Any

import torch

from training import template

Batch = dict[str, Any]
Sample = tuple[list[int], list[int]]  # token IDs and labels, of equal length; -100 is not learned


def random_samples(rows: int, tokens: int, seed: int) -> list[Sample]:
    """`rows` samples of uneven length, `tokens` in total; every token except the first is
    learned. 700 words, so that a loss can fall."""
    choose = random.Random(seed)
    shares = [choose.lognormvariate(0, 0.5) for _ in range(rows)]
    lengths = [max(4, int(tokens * 0.97 * share / sum(shares))) for share in shares]
    lengths[-1] += tokens - sum(lengths)
    ids = torch.randint(5, 700, (tokens,), generator=torch.Generator().manual_seed(seed)).split(
        lengths
    )
    return [(sample.tolist(), [-100, *sample[1:].tolist()]) for sample in ids]


def tokenized(row: dict[str, Any], tokenizer: Any) -> Sample:
    """Tokens of a row {"prompt", "completion"}. Learned is what the day generates after the prompt:
    the answer and its end mark.

    The line break that ChatML has after an end mark is left out: no answer has it. Raises
    ValueError if the prompt is not a prefix of the whole: training would then differ from what the
    day generates.
    """

    def tokens(messages: list[dict[str, str]], generate: bool) -> list[int]:
        made = tokenizer.apply_chat_template(
            messages, add_generation_prompt=generate, return_dict=True, **template.ARGUMENTS
        )
        return list(made["input_ids"])

    given, whole = tokens(row["prompt"], True), tokens(row["prompt"] + row["completion"], False)
    if whole[: len(given)] != given:
        raise ValueError(
            "the chat template writes a different prompt with an answer than without one"
        )
    while len(whole) > len(given) and not tokenizer.decode(whole[-1:]).strip():
        whole.pop()
    if len(whole) == len(given):
        raise ValueError("the answer has no tokens")
    return whole, [-100] * len(given) + whole[len(given) :]


def read_samples(file: Path, tokenizer: Any) -> list[Sample]:
    """Every row of a file, a JSON object a line."""
    lines = file.read_text(encoding="utf-8").split("\n")
    return [tokenized(json.loads(line), tokenizer) for line in lines if line]


def steps(setting: dict[str, Any], read: list[Sample]) -> Iterator[list[Sample]]:
    """The samples of each step, without end: from read if it has any, with tokens_per_step
    tokens at most."""
    if not read:
        for seed in iter(range(1_000_000)):
            yield random_samples(setting["rows"], setting["tokens_per_step"], seed)
    step: list[Sample] = []
    for sample in cycle(read):
        if step and sum(len(ids) for ids, _ in [*step, sample]) > setting["tokens_per_step"]:
            yield step
            step = []
        step.append(sample)


def packed(samples: list[Sample], device: str) -> Batch:
    """One row [1, T] of all samples, with their boundaries."""
    lengths = [len(ids) for ids, _ in samples]
    ends = torch.tensor([0, *lengths]).cumsum(0).to(torch.int32)
    batch = {
        "input_ids": torch.tensor([[*chain.from_iterable(ids for ids, _ in samples)]]),
        "labels": torch.tensor(
            [[*chain.from_iterable([-100, *labels[1:]] for _, labels in samples)]]
        ),
        "position_ids": torch.cat([torch.arange(length) for length in lengths])[None],
        "seq_idx": torch.repeat_interleave(
            torch.arange(len(samples), dtype=torch.int32), torch.tensor(lengths)
        )[None],
    }
    starts = {
        "cu_seq_lens_q": ends,
        "cu_seq_lens_k": ends,
        "max_length_q": max(lengths),
        "max_length_k": max(lengths),
    }
    return {name: tensor.to(device) for name, tensor in batch.items()} | starts


def padded(samples: list[Sample], device: str) -> Batch:
    """One row for each sample, [N, longest]."""
    longest = max(len(ids) for ids, _ in samples)
    batch = {
        "input_ids": [ids + [0] * (longest - len(ids)) for ids, _ in samples],
        "labels": [labels + [-100] * (longest - len(labels)) for _, labels in samples],
        "attention_mask": [[1] * len(ids) + [0] * (longest - len(ids)) for ids, _ in samples],
    }
    return {name: torch.tensor(rows, device=device) for name, rows in batch.items()}
