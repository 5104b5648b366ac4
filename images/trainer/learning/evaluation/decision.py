"""Both judgements together: likelihoods are the screen, right answers decide. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from glue.core.verdict import Verdict
from learning.evaluation import answers, gate
from learning.evaluation.answers import Row
from learning.evaluation.gate import Limits
from learning.evaluation.measurements import Evidence, Graded


def verdict(evidence: Evidence, limits: Limits) -> Verdict:
    """Where too few examples have a fact in their passages, the screen alone decides."""
    screen = gate.verdict(evidence, limits)
    if evidence.facts < limits.fewest_facts:
        saw = f"{evidence.facts} examples have facts in their passages"
        note = f"not judged by answers: {saw}, {limits.fewest_facts} are needed"
        return replace(screen, notes=(*screen.notes, note))
    decides = answers.kept(rows_against(evidence, "base"), limits.most_lost_answers).decides
    return both(second_opinion(screen) if decides else screen, answered(evidence, limits))


def second_opinion(screen: Verdict) -> Verdict:
    """How likely the base model's own answers still are says how far the model's voice has moved.
    Where right answers tell what is forgotten, that is a note."""
    complaints = list(zip(screen.faults, screen.reasons, strict=False))
    left = [one for one in complaints if one[0] != gate.OWN]
    if len(left) == len(complaints):
        return screen
    moved = tuple(words for name, words in complaints if name == gate.OWN)
    faults, reasons = tuple(name for name, _ in left), tuple(words for _, words in left)
    return Verdict(not left, reasons, screen.figures, faults, (*screen.notes, *moved))


def answered(evidence: Evidence, limits: Limits) -> Verdict:
    """Better than the current one, and than neither it nor the base model worse at anything."""
    rows = rows_against(evidence, "current")
    found = answers.verdict(rows, limits.fewest_facts)
    against_base = rows_against(evidence, "base")
    complaints = dict(beyond_base(against_base, found.faults))
    if not {"worse: reading", "worse: general"} & {*found.faults, *complaints}:
        complaints |= dict(answers.forgets(against_base, limits.most_lost_answers))
    reasons = (*(() if found.promote else found.reasons), *complaints.values())
    figures = found.figures | counts(answers.taught(rows))
    faults = (*found.faults, *complaints)
    return Verdict(not reasons, reasons or found.reasons, figures, faults)


def counts(taught: Sequence[Row]) -> dict[str, float]:
    """In place of the counts that the screen makes of sampled answers."""
    right, before = answers.right(taught)
    return {"right": right, "right_after": right, "right_before": before, "asked": len(taught)}


def beyond_base(rows: Sequence[Row], known: Sequence[str]) -> Iterator[answers.Complaint]:
    """What is worse than the base model, but for what is worse than the current one already."""
    for name, words in (*answers.worse(rows), *answers.memorises(rows)):
        if name not in known:
            yield name, f"against the base model, {words}"


def both(screen: Verdict, judged: Verdict) -> Verdict:
    promote = screen.promote and judged.promote
    said = [one.reasons for one in (judged, screen) if promote or not one.promote]
    return Verdict(
        promote,
        tuple(reason for reasons in said for reason in reasons),
        screen.figures | judged.figures,
        (*screen.faults, *judged.faults),
        screen.notes,
    )


def rows_against(evidence: Evidence, before: str) -> list[Row]:
    """before: "current" or "base"."""
    rows = [
        Row(one.kind, one.fact, one.grades["candidate"], one.grades[before])
        for one in evidence.answered
    ]
    return rows + [
        Row(
            answers.GOLDEN,
            f"golden {number}",
            *(Graded(not one.wrong[side]) for side in ("candidate", before)),
        )
        for number, one in enumerate(evidence.golden, 1)
    ]
