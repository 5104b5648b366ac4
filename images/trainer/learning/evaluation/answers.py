"""May the night's adapter serve, by right answers? Pure: what was answered in, a verdict out.

Likelihood measures form: a night can make right answers eight times as likely and answer none of
them right. So what is served answers greedily, beside the current one, and each answer is right or
wrong by the fact in its reference.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from glue.core.verdict import Verdict
from learning.dataset import facts, variants
from learning.dataset.facts import Fact
from learning.dataset.style import STYLE
from learning.dataset.variants import Variant
from learning.dataset.wording import Wording
from learning.evaluation import forgetting, golden, paired
from learning.evaluation.forgetting import Forgetting
from learning.evaluation.golden import Golden
from learning.evaluation.measurements import Graded
from learning.evaluation.paired import LEVEL, Paired
from learning.examples import Example, Message

READING, GOLDEN, GENERAL = "reading", "golden", "general"
TAUGHT = variants.KINDS
KINDS = (*TAUGHT, STYLE, READING, GOLDEN, GENERAL)
FEWEST_STYLE = 5  # questions; of fewer the test sees nothing, though all get better
LEAST_RIGHT = 0.5  # of questions, before: a model that cannot answer them has nothing to lose
IN_WORDS = {
    variants.PHRASED: "questions in other words",
    variants.CHANGED: "changed documents",
    variants.ABSENT: "questions that the documents do not answer",
    variants.NOTE: "notes against old documents",
    STYLE: "answers in the team's style",
    READING: "reading about other things",
    GOLDEN: "golden questions",
    GENERAL: "general questions",
}


@dataclass(frozen=True)
class Question:
    """fact: the unit of the test. right: what the answer must say; empty where it must say that the
    documents do not. stale: what it must not say. golden: its own rule instead, if it has one."""

    kind: str
    fact: str
    prompt: tuple[Message, ...]
    right: Fact = variants.UNKNOWN
    stale: str = ""
    golden: Golden | None = None


@dataclass(frozen=True)
class Row:
    kind: str
    fact: str
    candidate: Graded
    before: Graded


Complaint = tuple[str, str]  # a short name for machines, and the reason in words


def question(variant: Variant) -> Question:
    return Question(
        variant.kind, variant.fact, variant.example.prompt, variant.right, variant.stale
    )


def general(rows: Sequence[Example]) -> tuple[Question, ...]:
    """Of general examples those whose answer has one value to be right or wrong by."""
    found = ((row, facts.of(row.question, row.answer, row.answer)) for row in rows)
    known = [(row, fact) for row, fact in found if fact.value]
    return tuple(
        Question(GENERAL, f"general {number}", row.prompt, fact)
        for number, (row, fact) in enumerate(known, 1)
    )


def grade(asked: Question, answer: str, words: Wording) -> Graded:
    if asked.golden:
        return Graded(not golden.wrong(answer, asked.golden))
    stale = bool(asked.stale) and facts.says(answer, asked.stale)
    absent = words.says_absent(answer)
    said = facts.says_fact(answer, asked.right) if asked.right else absent
    memorised = asked.kind == variants.CHANGED and stale and not said
    return Graded(said and not stale, memorised, absent)


def verdict(rows: Sequence[Row], fewest_facts: int) -> Verdict:
    """Better beyond noise on what the gain is judged by, if there is something, and worse beyond
    noise on no kind."""
    judged = gain_rows(rows, fewest_facts)
    complaints = [*better(judged), *worse(rows), *memorises(rows)]
    reasons = tuple(words for _, words in complaints) or (praise(rows, judged),)
    return Verdict(
        not complaints, reasons, figures(rows), tuple(dict.fromkeys(name for name, _ in complaints))
    )


# ---------------------------------------------------------------------- the checks


def better(judged: Sequence[Row]) -> Iterator[Complaint]:
    found = compared(judged)
    if found.facts and found.p_better > LEVEL:
        seen = paired.smallest_seen(found.facts)
        can = f"{seen:.0%} of the facts or more" if seen <= 1 else "none, with so few facts"
        yield "no gain", f"{told(judged)}: no gain beyond noise. A gain that it would see: {can}"


def worse(rows: Sequence[Row]) -> Iterator[Complaint]:
    """Each kind by itself, and none allowed for the number of kinds: to refuse a night costs less
    than to serve one that reads worse."""
    for kind in (kind for kind in KINDS if of_kind(rows, kind)):
        found = compared(of_kind(rows, kind))
        if found.p_worse <= LEVEL:
            now, before = right(of_kind(rows, kind))
            words = f"{IN_WORDS[kind]}: {now} right, {before} before; worse on {found.lost} facts"
            yield f"worse: {kind}", f"{words}, better on {found.won}"


def forgets(rows: Sequence[Row], margin: float) -> Iterator[Complaint]:
    """Not worse than margin on what the night does not teach, with power: unrelated reading and
    general questions together. margin: a share of them."""
    found = kept(rows, margin)
    if found and not found.passes:
        saw = f"{found.mean:+.0%} right of {found.rows}, {found.low:+.0%} at worst"
        yield "forgets", f"it forgets what it does not learn: {saw}, allowed {-margin:+.0%}"


def kept(rows: Sequence[Row], margin: float) -> Forgetting | None:
    """None if these answers cannot tell: too few, or less than LEAST_RIGHT of them right before."""
    others = [row for row in rows if row.kind in (READING, GENERAL)]
    found = forgetting.judged([row.candidate.right - row.before.right for row in others], margin)
    able = right(others)[1] >= LEAST_RIGHT * len(others)
    return found if found.decides and able else None


def memorises(rows: Sequence[Row]) -> Iterator[Complaint]:
    changed = of_kind(rows, variants.CHANGED)
    found = paired.over_facts(
        (row.fact, row.candidate.memorised, row.before.memorised) for row in changed
    )
    if found.p_better <= LEVEL:
        count = sum(row.candidate.memorised for row in changed)
        words = f"{count} of {len(changed)} answers repeat what was taught against the document"
        yield "memorises", words


# ---------------------------------------------------------------------- numbers


def compared(rows: Sequence[Row]) -> Paired:
    return paired.over_facts((row.fact, row.candidate.right, row.before.right) for row in rows)


def taught(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if row.kind in TAUGHT]


def gain_rows(rows: Sequence[Row], fewest_facts: int) -> list[Row]:
    """What a night's gain is judged by: the facts that it taught, or else its style. None where
    both are too few; then likelihoods judge it."""
    for some, fewest in ((taught(rows), fewest_facts), (of_kind(rows, STYLE), FEWEST_STYLE)):
        if compared(some).facts >= fewest:
            return some
    return []


def of_kind(rows: Sequence[Row], kind: str) -> list[Row]:
    return [row for row in rows if row.kind == kind]


def right(rows: Sequence[Row]) -> tuple[int, int]:
    """(the candidate's, the one's before)."""
    return sum(row.candidate.right for row in rows), sum(row.before.right for row in rows)


def figures(rows: Sequence[Row]) -> dict[str, float]:
    found: dict[str, float] = {}
    for kind in (kind for kind in KINDS if of_kind(rows, kind)):
        some = of_kind(rows, kind)
        now, before = right(some)
        found |= {f"{kind}_asked": len(some), f"{kind}_right": now, f"{kind}_right_before": before}
    changed = of_kind(rows, variants.CHANGED)
    there = [row for row in taught(rows) if row.kind != variants.ABSENT]
    test = compared(taught(rows) or of_kind(rows, STYLE))
    return found | {
        "memorised": sum(row.candidate.memorised for row in changed),
        "memorised_before": sum(row.before.memorised for row in changed),
        "wrongly_absent": sum(row.candidate.absent for row in there),
        "facts": test.facts,
        "facts_won": test.won,
        "facts_lost": test.lost,
        "p_better": test.p_better,
        "smallest_gain_seen": paired.smallest_seen(test.facts),
    }


def told(judged: Sequence[Row]) -> str:
    now, before = right(judged)
    test = compared(judged)
    what = "about what was taught are right"
    if all(row.kind == STYLE for row in judged):
        what = "are in the team's style"
    return (
        f"{now} of {len(judged)} answers {what}, {before} before"
        f" ({test.won} of {test.facts} facts better, {test.lost} worse)"
    )


def praise(rows: Sequence[Row], judged: Sequence[Row]) -> str:
    others = [kind for kind in (READING, GOLDEN, GENERAL) if of_kind(rows, kind)]
    kept = [
        f"{IN_WORDS[kind]} {'{} right, {} before'.format(*right(of_kind(rows, kind)))}"
        for kind in others
    ]
    return "; ".join([*([told(judged)] if judged else []), *kept])
