"""Samples for the bench, and the batches that hold them: packed as TRL's collator packs, or padded on the right."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from itertools import chain, cycle
from pathlib import Path
from typing import Any

import torch

Batch = dict[str, Any]
Sample = tuple[list[int], list[int]]  # token ids and labels, of one length; -100 is not learned


def random_samples(rows: int, tokens: int, seed: int) -> list[Sample]:
    """rows samples of uneven length, tokens in all, every token but the first learned. 700 words, so that a loss can fall."""
    choose = random.Random(seed)
    shares = [choose.lognormvariate(0, 0.5) for _ in range(rows)]
    lengths = [max(4, int(tokens * 0.97 * share / sum(shares))) for share in shares]
    lengths[-1] += tokens - sum(lengths)
    ids = torch.randint(5, 700, (tokens,), generator=torch.Generator().manual_seed(seed)).split(lengths)
    return [(sample.tolist(), [-100, *sample[1:].tolist()]) for sample in ids]


def read_samples(file: Path, tokenizer: Any) -> list[Sample]:
    """Rows of {"prompt", "completion"}, as a night trains them: only the completion is learned."""
    found = []
    for line in file.read_text(encoding="utf-8").split("\n"):
        if not line:
            continue
        row = json.loads(line)
        given = tokenizer.apply_chat_template(row["prompt"], add_generation_prompt=True, return_dict=True)["input_ids"]
        whole = tokenizer.apply_chat_template(row["prompt"] + row["completion"], return_dict=True)["input_ids"]
        found.append((whole, [-100] * len(given) + whole[len(given) :]))
    return found


def steps(setting: dict[str, Any], read: list[Sample]) -> Iterator[list[Sample]]:
    """The samples of one step after another, without end; from read if there are any, of tokens_per_step tokens at the most."""
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
    """One row [1, T] of all samples, with what tells them apart."""
    lengths = [len(ids) for ids, _ in samples]
    ends = torch.tensor([0, *lengths]).cumsum(0).to(torch.int32)
    batch = {
        "input_ids": torch.tensor([[*chain.from_iterable(ids for ids, _ in samples)]]),
        "labels": torch.tensor([[*chain.from_iterable([-100, *labels[1:]] for _, labels in samples)]]),
        "position_ids": torch.cat([torch.arange(length) for length in lengths])[None],
        "seq_idx": torch.repeat_interleave(torch.arange(len(samples), dtype=torch.int32), torch.tensor(lengths))[None],
    }
    starts = {"cu_seq_lens_q": ends, "cu_seq_lens_k": ends, "max_length_q": max(lengths), "max_length_k": max(lengths)}
    return {name: tensor.to(device) for name, tensor in batch.items()} | starts


def padded(samples: list[Sample], device: str) -> Batch:
    """A row a sample, [N, longest]."""
    longest = max(len(ids) for ids, _ in samples)
    batch = {
        "input_ids": [ids + [0] * (longest - len(ids)) for ids, _ in samples],
        "labels": [labels + [-100] * (longest - len(labels)) for _, labels in samples],
        "attention_mask": [[1] * len(ids) + [0] * (longest - len(ids)) for ids, _ in samples],
    }
    return {name: torch.tensor(rows, device=device) for name, rows in batch.items()}
