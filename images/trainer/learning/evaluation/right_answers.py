"""Which answers are right, of questions whose right answer is known: golden questions, and what was
taught and held out where the team's answer has a number or code. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from learning.evaluation.measurements import GoldenAnswer, Sample

# 37, 4.17, 04:30, 2026-11, 1,500, B23, K-4
VALUE = re.compile(r"(?:[^\W\d_]+-)?\w*\d\w*(?:[.,:/-]\w*\d\w*)*")


@dataclass(frozen=True)
class Row:
    """One question. wanted: the right answer; empty for a golden question. wrong: what is wrong
    with the answer after the night, in words. right and right_before: None if it is not known."""

    question: str
    wanted: str
    before: str
    after: str
    right: bool | None
    right_before: bool | None
    wrong: tuple[str, ...] = ()


def table(samples: Iterable[Sample], golden: Iterable[GoldenAnswer]) -> list[Row]:
    """Wrong ones first, and last those of which it is not known."""
    rows = [of_golden(row) for row in golden]
    rows += [of_sample(sample) for sample in samples if sample.taught]
    return sorted(rows, key=lambda row: (row.right is None, bool(row.right)))


def of_golden(row: GoldenAnswer) -> Row:
    after, before = row.wrong["candidate"], row.wrong["current"]
    before_said, said = (row.answers.get(side, "") for side in ("current", "candidate"))
    return Row(row.question, "", before_said, said, not after, not before, tuple(after))


def of_sample(sample: Sample) -> Row:
    before, after = sample.current.text.strip(), sample.candidate.text.strip()
    wanted = values(sample.wanted) - values(sample.question)
    right, right_before = (wanted <= values(text) if wanted else None for text in (after, before))
    missing = sorted(wanted - values(after))
    wrong = (f"it does not say {', '.join(missing)}",) if missing else ()
    return Row(sample.question, sample.wanted, before, after, right, right_before, wrong)


def values(text: str) -> set[str]:
    """Its numbers and codes."""
    return set(VALUE.findall(text.casefold()))


def figures(rows: Iterable[Row]) -> dict[str, float]:
    """Of the questions whose right answer is known; empty without any."""
    known = [row for row in rows if row.right is not None]
    if not known:
        return {}
    return {
        "asked": len(known),
        "right": sum(bool(row.right) for row in known),
        "right_before": sum(bool(row.right_before) for row in known),
    }
