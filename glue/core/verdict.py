"""What the gate says of a night's adapter."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Verdict:
    """reasons: in words. figures: the numbers behind them. faults: a short name for each refusal,
    for machines. notes: what could not be judged, and why, in words."""

    promote: bool
    reasons: tuple[str, ...]
    figures: dict[str, float] = field(default_factory=dict)
    faults: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
