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
    """Without any answers the screen alone decides. Where too few examples have a fact in their
    passages, and too few a style, it decides what was learned, and answers what was forgotten."""
    if not evidence.answered:
        return noted(gate.verdict(evidence, limits), evidence, limits, "not judged by answers")
    answers_tell = answers.kept(rows_against(evidence, "base"), limits.most_lost_answers)
    screen = gate.verdict(evidence, limits, answers_tell=bool(answers_tell))
    found = both(screen, answered(evidence, limits))
    if answers.gain_rows(rows_against(evidence, "current"), limits.fewest_facts):
        return found
    return noted(found, evidence, limits, "what was taught is judged by likelihoods")


def noted(found: Verdict, evidence: Evidence, limits: Limits, what: str) -> Verdict:
    saw = f"{evidence.facts} examples have facts in their passages"
    note = f"{what}: {saw}, {limits.fewest_facts} are needed"
    return replace(found, notes=(*found.notes, note))


def answered(evidence: Evidence, limits: Limits) -> Verdict:
    """Better than the current one, and than neither it nor the base model worse at anything."""
    rows = rows_against(evidence, "current")
    found = answers.verdict(rows, limits.fewest_facts)
    against_base = rows_against(evidence, "base")
    complaints = dict(beyond_base(against_base, found.faults))
    if not {"worse: reading", "worse: general"} & {*found.faults, *complaints}:
        complaints |= dict(answers.forgets(against_base, limits.most_lost_answers))
    reasons = (*(() if found.promote else found.reasons), *complaints.values())
    figures = found.figures | counts(answers.gain_rows(rows, limits.fewest_facts))
    faults = (*found.faults, *complaints)
    return Verdict(not reasons, reasons or found.reasons, figures, faults)


def counts(judged: Sequence[Row]) -> dict[str, float]:
    """In place of the counts that the screen makes of sampled answers; none where it decides."""
    if not judged:
        return {}
    right, before = answers.right(judged)
    return {"right": right, "right_after": right, "right_before": before, "asked": len(judged)}


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
