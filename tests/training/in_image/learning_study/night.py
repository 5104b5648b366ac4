"""Nights of one kind, one after the other, and what is answered afterwards."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from random import Random
from statistics import stdev
from typing import Any

from learning.dataset.asked import facts_in
from learning.dataset.variants import Variant
from learning.evaluation import answers, decision, evaluate, forgetting, measurements, reading
from learning.evaluation.answers import GENERAL, READING, Question
from learning.evaluation.measurements import Answered, Evidence, Graded, Scored
from learning.examples import Dataset, Example, Message
from tests.training.in_image.learning_study import company as companies
from tests.training.in_image.learning_study import dataset, kinds, small_model
from tests.training.in_image.learning_study.company import FORM, WORDS, Company, Said
from tests.training.in_image.learning_study.dataset import TEAM, Built
from tests.training.in_image.learning_study.kinds import Kind
from tests.training.in_image.learning_study.small_model import Model, Setting

ANSWER_TOKENS = 40
SHOWN = 12  # answers of each kind of question in a row's samples
Figures = dict[str, Any]


@dataclass
class Side:
    """What one model answers, and how likely it finds answers; asked once."""

    model: Model
    net: Any
    said: dict[tuple[Message, ...], str] = field(default_factory=dict)
    likely: dict[tuple[tuple[Message, ...], str], float] = field(default_factory=dict)

    def answers(self, prompts: Sequence[tuple[Message, ...]]) -> list[str]:
        new = list(dict.fromkeys(one for one in prompts if one not in self.said))
        self.said |= zip(new, self.model.answers(self.net, new, ANSWER_TOKENS), strict=True)
        return [self.said[one] for one in prompts]

    def likelihoods(self, rows: Sequence[Example]) -> tuple[float, ...]:
        fresh = [row for row in rows if (row.prompt, row.answer) not in self.likely]
        new = list({(row.prompt, row.answer): row for row in fresh}.values())
        scores = self.model.likelihoods(self.net, new)
        self.likely |= {(row.prompt, row.answer): one for row, one in zip(new, scores, strict=True)}
        return tuple(self.likely[row.prompt, row.answer] for row in rows)


@dataclass(frozen=True)
class Plan:
    """What is played: recipe and setting are in the place of team.toml's."""

    company: Company
    kind: Kind
    setting: Setting
    recipe: Mapping[str, Any]


@dataclass(frozen=True)
class Trained:
    """One night. side: none if no night began."""

    row: Figures
    side: Side | None = None
    had: tuple[str, ...] = ()

    @property
    def promoted(self) -> bool:
        return bool(self.row["promoted"])


def play(base: Side, plan: Plan, seed: int) -> Figures:
    """All nights of a kind: what serves before each is what the last promoted one left."""
    began, said, known = time.monotonic(), list[Said](), list[str]()
    current, nights = base, list[Trained]()
    for new in plan.kind.says(plan.company, Random(seed)):
        said += new
        done = one_night(base, current, plan, dataset.built(said, plan.recipe, known), seed)
        nights.append(done)
        known += done.had if done.side else ()
        current = done.side if done.side and done.promoted else current
    shown = current if len(nights) > 1 else nights[-1].side or base
    return {
        "seed": seed,
        "teaches": plan.kind.teaches,
        "nights": [one.row for one in nights],
        **afterwards(base, shown, plan, said, seed),
        "seconds": round(time.monotonic() - began, 1),
    }


def one_night(base: Side, current: Side, plan: Plan, built: Built, seed: int) -> Trained:
    card = {"left_out": built.lessons.card["rejected"], "new": built.lessons.new}
    if built.refused:
        return Trained({"promoted": False, "refused": built.refused} | card)
    whole = plan.kind.trained(built.lessons.dataset)
    rows = [*whole.train, *whole.replay]
    net, loss = base.model.train(rows, plan.setting, seed)
    candidate = Side(base.model, net)
    found = seen({"candidate": candidate, "current": current, "base": base}, whole, built)
    verdict = decision.verdict(found, evaluate.limits(dict(plan.recipe)))
    about = {
        "promoted": verdict.promote,
        "faults": list(verdict.faults),
        "reasons": list(verdict.reasons),
        "notes": list(verdict.notes),
        "figures": rounded(verdict.figures),
        "forgetting": forgot(lost(found), plan.recipe["most_lost_answers"]),
        "own_answers": forgot(own_change(found.own), plan.recipe["most_own_loss"]),
        "rows": len(rows),
        "steps": small_model.steps(rows, plan.setting),
        "loss": round(loss, 3),
    }
    return Trained(about | card, candidate, built.had)


# ---------------------------------------------------------------------- how the product judges it

Sides = Mapping[str, Side]


def seen(sides: Sides, whole: Dataset, built: Built) -> Evidence:
    """As learning.evaluation.evaluate looks at what vLLM serves, but for speed, sampled answers and
    forms, of which a merged model on a GPU says nothing."""
    asked: Sequence[Variant] = built.lessons.asked
    wanted = evaluate.judges_by_answers(TEAM, asked)
    questions = [
        *map(answers.question, asked),
        *reading.asked(FORM),
        *answers.general(whole.general),
    ]
    answered = tuple(graded(sides, questions)) if wanted else ()
    held = evaluate.chosen(whole.held_out)
    decoy = sides["candidate"].likelihoods(measurements.decoys(held))
    scores = {name: side.likelihoods(held) for name, side in sides.items()}
    return Evidence(
        facts=facts_in(asked),
        answered=answered,
        own=scored(sides, own(questions, answered), ("candidate", "base")),
        held_out=Scored(**scores, units=measurements.units(held), decoy=decoy),
        earlier=scored(sides, evaluate.chosen(whole.earlier), ("candidate", "current")),
        general=scored(sides, whole.general),
    )


def scored(
    sides: Sides, rows: Sequence[Example], names: Sequence[str] = measurements.SIDES
) -> Scored:
    found = {name: sides[name].likelihoods(rows) for name in names}
    return Scored(**found, units=measurements.units(rows))


def graded(sides: Sides, questions: Sequence[Question]) -> list[Answered]:
    said = {name: side.answers([one.prompt for one in questions]) for name, side in sides.items()}
    rows = []
    for at, one in enumerate(questions):
        texts = {name: found[at] for name, found in said.items()}
        grades = {name: answers.grade(one, text, WORDS) for name, text in texts.items()}
        rows.append(Answered(one.kind, one.fact, one.prompt[-1].content, texts, grades))
    return rows


def own(questions: Sequence[Question], answered: Sequence[Answered]) -> list[Example]:
    """What the base model says to questions that no night trains."""
    return [
        Example(one.prompt, found.texts["base"], "own", one.fact)
        for one, found in zip(questions, answered, strict=False)
        if one.kind in (READING, GENERAL) and found.texts["base"].strip()
    ]


def lost(found: Evidence) -> list[float]:
    """By unrelated reading and general questions, against the base model: right is one."""
    rows = [one for one in found.answered if one.kind in (READING, GENERAL)]
    return [float(one.grades["candidate"].right) - one.grades["base"].right for one in rows]


def own_change(scores: Scored) -> list[float]:
    return [now - before for now, before in zip(scores.candidate, scores.base, strict=True)]


def forgot(changes: Sequence[float], margin: float) -> Figures:
    if not changes:
        return {}
    found: Figures = asdict(forgetting.judged(changes, margin))
    if all(map(math.isfinite, changes)):
        spread = stdev(changes)
        found |= {
            "sd": spread,
            # nights that lose just the margin, with so many rows of this spread
            "loss_refused": 1 - forgetting.pass_rate(-margin, spread, len(changes), margin),
        }
    return rounded(found)


# ---------------------------------------------------------------------- what is answered afterwards


def afterwards(base: Side, shown: Side, plan: Plan, said: list[Said], seed: int) -> Figures:
    """Other people's words, which neither night nor verdict saw; reading and general questions."""
    taught = kinds.facts_of(plan.company, said) or list(plan.company.facts)
    asked = [*plan.kind.asks(plan.company, taught), *reading.asked(FORM), *companies.general()]
    rows = compared(base, shown, asked)
    ours = [one for one in rows if one.kind in answers.TAUGHT]
    first = {fact["id"] for fact in first_night(plan, seed)}
    test = answers.compared(ours)
    return {
        "asked": rounded(answers.figures(rows)),
        "first_night": rounded(answers.figures([one for one in ours if one.fact in first])),
        "better_beyond_noise": test.p_better <= answers.LEVEL,
        "samples": samples(base, shown, asked),
    }


def first_night(plan: Plan, seed: int) -> list[companies.Row]:
    return kinds.facts_of(plan.company, plan.kind.says(plan.company, Random(seed))[0])


def compared(base: Side, shown: Side, asked: Sequence[Question]) -> list[answers.Row]:
    def grades(side: Side) -> list[Graded]:
        said = side.answers([one.prompt for one in asked])
        return [answers.grade(one, text, WORDS) for one, text in zip(asked, said, strict=True)]

    pairs = zip(asked, grades(shown), grades(base), strict=True)
    return [answers.Row(one.kind, one.fact, now, before) for one, now, before in pairs]


def samples(base: Side, shown: Side, asked: Sequence[Question]) -> list[list[str]]:
    """Wrong ones first: they say what to make better."""
    rows, count = [], dict[str, int]()

    def is_right(one: Question) -> bool:
        return answers.grade(one, shown.said[one.prompt], WORDS).right

    for one in sorted(asked, key=is_right):
        count[one.kind] = count.get(one.kind, 0) + 1
        if count[one.kind] <= SHOWN:
            words, now = one.prompt[-1].content, shown.said[one.prompt]
            rows.append([one.kind, words, base.said[one.prompt], now, one.right.value])
    return rows


def rounded(figures: Mapping[str, Any]) -> Figures:
    """JSON has no infinity."""
    return {
        name: round(value, 4) if isinstance(value, float) else value
        for name, value in figures.items()
        if not isinstance(value, float) or math.isfinite(value)
    }
