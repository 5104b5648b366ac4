"""Whether the night's adapter may serve. Pure: measurements in, a verdict with reasons out.

It is promoted only if it is better, beyond noise, on answers it was not trained on, and nowhere
worse: on what was known before, against the current adapter and the base model; on the golden
questions; and in the sanity, form and speed of its answers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from glue.core.verdict import Verdict
from learning.evaluation import answer_faults, figures, forgetting
from learning.evaluation.figures import against, gained, interval, pace
from learning.evaluation.forgetting import Forgetting
from learning.evaluation.measurements import Evidence

# nats a token; vLLM computes the same twice to far less, and what a night teaches is a hundred
# thousand times it
SAME = 1e-6
OWN_SPREAD = 0.35  # SD of a row's change, measured (learning-answers.md)

Complaint = tuple[str, str]  # a short name for machines, and the reason in words


@dataclass(frozen=True)
class Limits:
    """The gate's part of a recipe. Gains and losses in nats a token; env/recipes says what each
    is."""

    least_gain: float
    most_forgetting: float
    most_own_loss: float
    most_lost_answers: float
    fewest_units: int
    fewest_facts: int
    general_rows: int
    most_golden_lost: int
    most_new_faults: int
    keeps_form: bool
    most_slowdown: float


def verdict(evidence: Evidence, limits: Limits, answers_tell: bool = False) -> Verdict:
    """answers_tell: right answers tell what is forgotten, so likelihoods of it only make a note."""
    held_out, general = evidence.held_out, evidence.general
    numbers = figures.of(evidence) | figures.of_own(own_answers(evidence, limits))
    if not all(
        map(
            math.isfinite,
            (
                *held_out.candidate,
                *held_out.decoy,
                *evidence.earlier.candidate,
                *general.candidate,
                *evidence.own.candidate,
            ),
        )
    ):
        return Verdict(
            False, ("the adapter gives answers no finite likelihood",), numbers, ("not finite",)
        )
    if changes_nothing(evidence):
        words = (
            "the adapter changes nothing: every answer has the same likelihood as with the base"
            " model"
        )
        return Verdict(False, (words,), numbers, ("changes nothing",))
    checks = [check for check in CHECKS if not (answers_tell and check is remembers)]
    complaints = [complaint for check in checks for complaint in check(evidence, limits)]
    reasons = tuple(words for _, words in complaints) or (praise(evidence),)
    faults = tuple(name for name, _ in complaints)
    moved = tuple(words for _, words in remembers(evidence, limits))
    told = moved if answers_tell else notes(evidence, limits)
    accepted = [] if limits.keeps_form else lost_forms(evidence)
    return Verdict(not complaints, reasons, numbers, faults, (*told, *accepted))


def changes_nothing(evidence: Evidence) -> bool:
    pairs = [
        pair
        for part in (evidence.held_out, evidence.general)
        for pair in zip(part.candidate, part.base, strict=True)
    ]
    return bool(pairs) and all(abs(candidate - base) < SAME for candidate, base in pairs)


# ---------------------------------------------------------------------- the checks


def better(evidence: Evidence, limits: Limits) -> Iterator[Complaint]:
    gain = gained(evidence)
    if gain.units < limits.fewest_units:
        yield (
            "too few",
            f"too few facts to judge it: {gain.units} held out, {limits.fewest_units} needed",
        )
    elif gain.high < 0:
        yield (
            "worse",
            (
                f"worse on what it should have learned: {gain.mean:+.3f} a token, {gain.high:+.3f}"
                " at best"
            ),
        )
    elif (beyond_base := against(evidence.held_out, evidence.held_out.base)).high < 0:
        saw = f"{beyond_base.mean:+.3f} a token, {beyond_base.high:+.3f} at best"
        yield "worse", f"worse than the base model on what it should have learned: {saw}"
    elif gain.low <= limits.least_gain:
        wanted = f"at least {gain.low:+.3f}, wanted over {limits.least_gain:+.3f}"
        yield (
            "no gain",
            (
                f"no gain beyond noise: {gain.mean:+.3f} a token on {gain.units} facts held out,"
                f" {wanted}"
            ),
        )


def fits(evidence: Evidence, limits: Limits) -> Iterator[Complaint]:
    """A model trained on shuffled answers becomes unsure: answers to other questions become more
    likely, too."""
    held_out = evidence.held_out
    margin = (
        interval(held_out.candidate, held_out.decoy, held_out.units) if held_out.decoy else None
    )
    if margin and margin.low <= limits.least_gain:
        saw = f"{margin.mean:+.3f} a token, at least {margin.low:+.3f}"
        yield (
            "does not fit",
            f"it finds a right answer hardly likelier than the answer to another question: {saw}",
        )


def remembers(evidence: Evidence, limits: Limits) -> Iterator[Complaint]:
    general = evidence.general
    if not general.candidate and limits.general_rows:
        yield (
            "nothing general",
            (
                "there are no general examples, so forgetting cannot be measured: see the recipe's"
                " replay_file"
            ),
        )
    own = own_answers(evidence, limits)
    if own.decides:
        if not own.passes:
            saw = (
                f"{own.mean:+.3f} a token on {own.rows} answers of its own, {own.low:+.3f} at worst"
            )
            yield (
                "its own answers",
                f"its own answers became less likely: {saw}, usual {-limits.most_own_loss:+.3f}",
            )
        return
    for words, before in (("the current one", general.current), ("the base model", general.base)):
        change = interval(general.candidate, before, general.units)
        if change.low < -limits.most_forgetting:
            saw = f"{change.mean:+.3f} a token against {words}, {change.low:+.3f} at worst"
            yield (
                "forgets",
                f"it forgets what was known before: {saw}, allowed {-limits.most_forgetting:+.3f}",
            )
            return


def keeps(evidence: Evidence, limits: Limits) -> Iterator[Complaint]:
    """What earlier nights were judged by. The team may have corrected some of it since, so only a
    clear loss counts."""
    change = against(evidence.earlier, evidence.earlier.current)
    if change.high < -limits.most_forgetting:
        saw = f"{change.mean:+.3f} a token against the current one, {change.high:+.3f} at best"
        yield (
            "forgets",
            f"it forgets what earlier nights taught: {saw}, allowed {-limits.most_forgetting:+.3f}",
        )


def golden(evidence: Evidence, limits: Limits) -> Iterator[Complaint]:
    rows = enumerate(evidence.golden, 1)
    lost = [number for number, row in rows if row.wrong["candidate"] and not row.wrong["current"]]
    if len(lost) > limits.most_golden_lost:
        # by number: a reason goes where a support bundle reads it, and a question may tell what the
        # office knows
        numbers = ", ".join(map(str, lost))
        yield (
            "golden",
            (
                f"{len(lost)} golden questions are wrong now that were right; of golden.toml:"
                f" number {numbers}"
            ),
        )


def sane(evidence: Evidence, limits: Limits) -> Iterator[Complaint]:
    for fault, questions in answer_faults.new_faults(evidence.samples).items():
        if len(questions) > limits.most_new_faults:
            # what people asked is quoted in evidence.json only, which can be forgotten
            yield (
                fault,
                (
                    f"{fault}: {len(questions)} of {len(evidence.samples)} answers, where the"
                    " current one's are not"
                ),
            )


def well_formed(evidence: Evidence, limits: Limits) -> Iterator[Complaint]:
    if limits.keeps_form:
        yield from (("form", words) for words in lost_forms(evidence))


def lost_forms(evidence: Evidence) -> list[str]:
    return [
        f"asked for {asked}, it does not give it any more"
        for asked, (candidate, current) in (evidence.forms or {}).items()
        if current and not candidate
    ]


def quick(evidence: Evidence, limits: Limits) -> Iterator[Complaint]:
    candidate, current = pace(evidence.samples)
    if candidate > limits.most_slowdown * current > 0:
        slower = f"{candidate * 1000:.0f} ms a token, the current one {current * 1000:.0f}"
        yield "slow", f"it is too slow: {slower}, allowed {limits.most_slowdown:g} times as much"


CHECKS: tuple[Callable[[Evidence, Limits], Iterator[Complaint]], ...] = (
    better,
    fits,
    remembers,
    keeps,
    golden,
    sane,
    well_formed,
    quick,
)


# ---------------------------------------------------------------------- in words


def own_answers(evidence: Evidence, limits: Limits) -> Forgetting:
    own = evidence.own
    changes = [now - before for now, before in zip(own.candidate, own.base, strict=True)]
    return forgetting.judged(changes, limits.most_own_loss)


def notes(evidence: Evidence, limits: Limits) -> tuple[str, ...]:
    own = own_answers(evidence, limits)
    if own.decides:
        return ()
    needed = own.rows_needed or forgetting.rows_needed(OWN_SPREAD, limits.most_own_loss)
    saw = f"{own.rows} answers of the base model to other questions, {needed} are needed"
    return (f"forgetting is measured on general examples of the replay's own source: {saw}",)


def praise(evidence: Evidence) -> str:
    gain, change = gained(evidence), against(evidence.general, evidence.general.current)
    times = math.exp(min(gain.mean, 100))
    learned = (
        f"better on {gain.units} facts held out: right answers {times:.2f} times as likely, token"
        " by token"
    )
    right = sum(not row.wrong["candidate"] for row in evidence.golden)
    also = f"; {right} of {len(evidence.golden)} golden questions right" if evidence.golden else ""
    return (
        f"{learned} ({gain.mean:+.3f}, at least {gain.low:+.3f}); {change.mean:+.3f} on"
        f" {change.units} facts it knew{also}"
    )
