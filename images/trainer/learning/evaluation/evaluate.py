"""Judging what is served: candidate, current adapter and base model side by side, in the vLLM that
the office will use."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

from glue.clients.open_webui import WebUI
from glue.clients.site import Site
from glue.clients.vllm import Vllm
from glue.core.errors import GlueError
from glue.core.names import ADAPTER, BASE, CANDIDATE
from glue.core.recipes import Recipe
from glue.serving import model as serving_model
from learning.evaluation import gate, golden, measurements
from learning.evaluation.gate import Limits
from learning.evaluation.measurements import SIDES, Evidence, GoldenAnswer, Reply, Sample, Scored
from learning.examples import Dataset, Example, Message, Verdict

# how each side is asked through the chat, with retrieval; removed again after the judging
ASKED_AS = {side: f"judging-{side}" for side in SIDES}
JSON_PROBE = (Message("user", 'Reply with this JSON and nothing else: {"status": "ok"}'),)
TOOL_PROBE = (Message("user", "What time is it in Oslo? Use the tool."),)
TOOL: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "get_time",
        "description": "The time of day in a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}
PROBE_TOKENS = 96
# Each row is read by up to four: three sides and a decoy. 200 are minutes on a Spark; more would
# narrow the interval by little
# and take the morning's time.
MOST_ROWS = 200


@dataclass(frozen=True)
class Judges:
    """Where the three sides are asked. names: of SIDES, as vLLM knows them."""

    site: Site
    served: Vllm
    names: dict[str, str]


def broken(problems: Sequence[str]) -> Verdict:
    """The verdict on an artifact that cannot serve at all."""
    more = f" (and {len(problems) - 3} more)" if len(problems) > 3 else ""
    return Verdict(
        False, (f"the adapter is broken: {'; '.join(problems[:3])}{more}",), {}, ("broken",)
    )


def judge(site: Site, release: str, dataset: Dataset, recipe: Recipe) -> tuple[Verdict, Evidence]:
    """Loads the release beside what serves, under a name that only glue asks, and takes it away
    again.

    A candidate that vLLM refuses is a verdict; a vLLM that dies of it is a GlueError.
    """
    site.releases.verify(release)
    try:
        site.vllm().serve(CANDIDATE, f"{serving_model.ADAPTERS_IN_CONTAINER}/{release}")
    except GlueError as error:
        if not site.vllm().answers():
            raise
        return broken([f"vLLM does not load it: {error.saw}"]), Evidence()
    try:
        found = look(site, dataset, recipe)
    finally:
        if site.vllm().answers():
            site.vllm().forget(CANDIDATE)
    return gate.verdict(found, limits(recipe)), found


def limits(recipe: Recipe) -> Limits:
    return Limits(**{field.name: getattr(recipe, field.name) for field in fields(Limits)})


def look(site: Site, dataset: Dataset, recipe: Recipe) -> Evidence:
    current = ADAPTER if site.releases.current() else BASE
    judges = Judges(site, site.vllm(), {"candidate": CANDIDATE, "current": current, "base": BASE})
    return Evidence(
        held_out=replace(
            scored(judges, dataset.held_out, "held-out"), decoy=decoy_scores(judges, dataset)
        ),
        earlier=scored(judges, dataset.earlier, "earlier held-out", ("candidate", "current")),
        general=scored(judges, dataset.general, "general"),
        samples=sampled(judges, dataset, recipe.sampled_answers),
        golden=ask_golden(judges),
        forms=forms(judges),
    )


# ---------------------------------------------------------------------- how likely the right
# answers are


def chosen(rows: tuple[Example, ...]) -> tuple[Example, ...]:
    """At most MOST_ROWS of them, evenly from all, and the same ones whenever it is asked."""
    if len(rows) <= MOST_ROWS:
        return rows
    return tuple(rows[number * len(rows) // MOST_ROWS] for number in range(MOST_ROWS))


def scored(
    judges: Judges, rows: tuple[Example, ...], part: str, sides: Sequence[str] = SIDES
) -> Scored:
    scores: dict[str, tuple[float, ...]] = {}
    for side, name in ((side, judges.names[side]) for side in sides):
        same = next((done for done in scores if judges.names[done] == name), None)
        scores[side] = (
            scores[same] if same else tuple(score(judges.site, judges.served, name, rows, part))
        )
    return Scored(**scores, units=measurements.units(chosen(rows)))


def decoy_scores(judges: Judges, dataset: Dataset) -> tuple[float, ...]:
    rows = measurements.decoys(chosen(dataset.held_out))
    return tuple(score(judges.site, judges.served, CANDIDATE, rows, "mismatched"))


def score(site: Site, served: Vllm, name: str, rows: tuple[Example, ...], part: str) -> list[float]:
    """Of the chosen rows. NaN where the candidate cannot be scored and vLLM lives: it has no
    likelihood to give."""
    rows = chosen(rows)
    site.tell(f"judging {name} on {len(rows)} {part} answers")
    scores = []
    for row in rows:
        try:
            scores.append(served.likelihood(name, row))
        except GlueError:
            if name != CANDIDATE or not served.answers():
                raise
            scores.append(math.nan)
    return scores


# ---------------------------------------------------------------------- what is answered


def sampled(judges: Judges, dataset: Dataset, count: int) -> tuple[Sample, ...]:
    """Questions about what was taught and about what was known, in turn; candidate and current take
    turns too."""
    asked = [
        row
        for pair in zip_longest(dataset.held_out, dataset.general)
        for row in pair
        if row is not None
    ][:count]
    if not asked:
        return ()
    most = judges.site.settings.number("MAX_ANSWER_TOKENS")
    for side in ("candidate", "current"):  # the first answer after a load is slower
        answered(judges, side, asked[0].prompt, most)
    judges.site.tell(f"comparing {len(asked)} answers")
    samples = []
    for number, row in enumerate(asked):
        order = ("candidate", "current") if number % 2 else ("current", "candidate")
        replies = {side: answered(judges, side, row.prompt, most) for side in order}
        samples.append(Sample(row.question, row.answer, **replies, taught=row in dataset.held_out))
    return tuple(samples)


def answered(
    judges: Judges,
    side: str,
    prompt: tuple[Message, ...],
    most: int,
    tools: Sequence[dict[str, Any]] = (),
) -> Reply:
    """Nothing, which is a fault of its answers, where the candidate alone cannot answer and vLLM
    lives."""
    try:
        return judges.served.answer(judges.names[side], prompt, most, list(tools))
    except GlueError:
        if side != "candidate" or not judges.served.answers():
            raise
        return Reply("")


def forms(judges: Judges) -> dict[str, tuple[bool, bool]]:
    """Whether candidate and current write JSON, and a tool call, when asked for it."""

    def write(side: str) -> tuple[bool, bool]:
        text = answered(judges, side, JSON_PROBE, PROBE_TOKENS).text
        return (
            is_json(text),
            answered(judges, side, TOOL_PROBE, PROBE_TOKENS, [TOOL]).call == "get_time",
        )

    return dict(
        zip(
            ("JSON", "a tool call"),
            zip(write("candidate"), write("current"), strict=True),
            strict=True,
        )
    )


def is_json(text: str) -> bool:
    bare = text.strip().removeprefix("```json").removeprefix("```").removesuffix("```")
    try:
        return isinstance(json.loads(bare), dict)
    except ValueError:
        return False


# ---------------------------------------------------------------------- golden questions, as people
# ask


def ask_golden(judges: Judges) -> tuple[GoldenAnswer, ...]:
    questions = golden.load(golden_file(judges.site))
    if not questions:
        return ()
    with asked_through_chat(judges) as person:
        judges.site.tell(f"asking {len(questions)} golden questions through the chat")
        return tuple(golden_answer(person, question) for question in questions)


def golden_answer(person: WebUI, question: golden.Golden) -> GoldenAnswer:
    answers: dict[str, str] = {}
    wrong: dict[str, tuple[str, ...]] = {}
    for side, model in ASKED_AS.items():
        try:
            answers[side] = person.ask(
                [{"role": "user", "content": question.question}], model=model, temperature=0
            ).text.strip()
            wrong[side] = golden.wrong(answers[side], question)
        except GlueError as error:
            answers[side], wrong[side] = "", (f"it is no answer: {error.saw}",)
    return GoldenAnswer(question.question, answers, wrong)


@contextmanager
def asked_through_chat(judges: Judges) -> Iterator[WebUI]:
    person: WebUI = judges.site.administrator()
    person.ensure_judging(
        judges.site.settings, {ASKED_AS[side]: name for side, name in judges.names.items()}
    )
    try:
        yield person
    finally:
        person.forget_models(ASKED_AS.values())


def golden_file(site: Site) -> Path:
    return site.state / "golden.toml"
