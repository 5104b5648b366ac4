"""The rows of a train file, with their tokens."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from training import samples
from training.night_job import Job, Refused
from training.samples import Sample

Told = tuple[dict[str, Any], Sample]  # a row as it was written, and its tokens


def read(file: Path, tokenizer: Any) -> list[Told]:
    """Raises Refused with the row's number if the labels would not be the answer."""
    found = []
    for number, line in enumerate(file.read_text(encoding="utf-8").split("\n"), 1):
        if not line:
            continue
        row = json.loads(line)
        try:
            found.append((row, samples.tokenized(row, tokenizer)))
        except ValueError as error:
            raise Refused(f"row {number} of {file.name}: {error}") from error
    return found


def fitting(rows: list[Told], job: Job, pack: bool) -> list[Told]:
    """The rows of at most `longest` tokens: one that is cut would teach an answer that stops in the
    middle."""
    longest = min(job.longest_tokens, job.tokens_per_step) if pack else job.longest_tokens
    kept = [row for row in rows if len(row[1][0]) <= longest]
    if not kept:
        raise Refused(f"all {len(rows)} rows are longer than longest_tokens = {longest}")
    return kept
