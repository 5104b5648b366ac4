"""The job that judges what is served: candidate, current adapter and base model side by side.

Its order: night (its folder in the state folder), names (SIDES as vLLM knows them), asked_as (SIDES
as the chat knows them; empty without golden questions), recipe, max_answer_tokens, system_prompt,
rag_template. What was seen goes into the night's evidence.json.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, fields, replace
from itertools import zip_longest
from typing import Any

from glue.core import files
from glue.core.errors import GlueError
from glue.core.names import CANDIDATE, GOLDEN
from learning import job as jobs
from learning.dataset import asked as asked_rows
from learning.dataset import files as dataset_files
from learning.dataset.prompt import PromptForm
from learning.dataset.variants import Variant
from learning.dataset.wording import Wording
from learning.evaluation import answers, decision, golden, measurements, passes, reading
from learning.evaluation.answers import Question
from learning.evaluation.gate import Limits
from learning.evaluation.measurements import (
    SIDES,
    Answered,
    Evidence,
    GoldenAnswer,
    Reply,
    Sample,
    Scored,
)
from learning.examples import Dataset, Example, Message
from learning.job import Job

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
# Each row is read by up to four: three sides and a decoy. 200 take minutes on a Spark; more narrow
# the interval by little.
MOST_ROWS = 200
FACT_TOKENS = 256  # an answer says its fact early
ASKED_AT_ONCE = 8
OWN_SIDES = ("candidate", "base")


def judge(job: Job) -> dict[str, Any]:
    """The gate's verdict, as a table; empty after a pass that is not the last."""
    night = job.state / job.order["night"]
    folder = night / "dataset"
    with passes.turn(job, night / "said.json") as asking:
        found = look(asking, dataset_files.read(folder), dataset_files.read_asked(folder))
    if not job.order.get("last", True):
        return {"promote": False}
    files.write_json(night / "evidence.json", asdict(found), mode=0o600)
    return asdict(decision.verdict(found, limits(job.order["recipe"])))


def limits(recipe: dict[str, Any]) -> Limits:
    return Limits(**{field.name: recipe[field.name] for field in fields(Limits)})


def look(job: Job, dataset: Dataset, asked: Sequence[Variant] = ()) -> Evidence:
    wanted = judges_by_answers(job.order["recipe"], asked)
    replies = ask_all(job, questions(job, dataset, asked)) if wanted else []
    return Evidence(
        facts=asked_rows.facts_in(asked),
        answered=tuple(graded(*pair) for pair in replies),
        own=scored(job, own_answers(replies), "own", OWN_SIDES) if wanted else Scored(),
        held_out=replace(
            scored(job, dataset.held_out, "held-out"), decoy=decoy_scores(job, dataset)
        ),
        earlier=scored(job, dataset.earlier, "earlier held-out", ("candidate", "current")),
        general=scored(job, dataset.general, "general"),
        samples=sampled(job, dataset, job.order["recipe"]["sampled_answers"]),
        golden=ask_golden(job),
        forms=forms(job),
    )


def judges_by_answers(recipe: Mapping[str, Any], asked: Sequence[Variant]) -> bool:
    """Every night of a recipe that trains reading, and any other that has enough facts."""
    enough = asked_rows.facts_in(asked) >= recipe["fewest_facts"]
    return bool(recipe["sort_by_support"]) or enough


# ---------------------------------------------------------------------- likelihoods


def chosen(rows: tuple[Example, ...]) -> tuple[Example, ...]:
    """At most MOST_ROWS of them, evenly from all, and the same ones whenever it is asked."""
    if len(rows) <= MOST_ROWS:
        return rows
    return tuple(rows[number * len(rows) // MOST_ROWS] for number in range(MOST_ROWS))


def scored(job: Job, rows: tuple[Example, ...], part: str, sides: Sequence[str] = SIDES) -> Scored:
    names: dict[str, str] = job.order["names"]
    scores: dict[str, tuple[float, ...]] = {}
    for side in sides:
        same = next((done for done in scores if names[done] == names[side]), None)
        scores[side] = scores[same] if same else tuple(score(job, names[side], rows, part))
    return Scored(**scores, units=measurements.units(chosen(rows)))


def decoy_scores(job: Job, dataset: Dataset) -> tuple[float, ...]:
    rows = measurements.decoys(chosen(dataset.held_out))
    return tuple(score(job, CANDIDATE, rows, "mismatched"))


def score(job: Job, name: str, rows: tuple[Example, ...], part: str) -> list[float]:
    """Of the chosen rows. NaN where the candidate cannot be scored and vLLM still answers."""
    rows = chosen(rows)
    job.tell(f"judging {name} on {len(rows)} {part} answers")
    scores = []
    for row in rows:
        try:
            scores.append(job.model.likelihood(name, row))
        except GlueError:
            if name != CANDIDATE or not job.model.answers():
                raise
            scores.append(math.nan)
    return scores


# ---------------------------------------------------------------------- right answers


def questions(job: Job, dataset: Dataset, asked: Sequence[Variant]) -> tuple[Question, ...]:
    """About what was taught, about other things in the day's own form, and general ones."""
    form = PromptForm(job.order["system_prompt"], job.order["rag_template"])
    known = answers.general(dataset.general)
    others = reading.asked(form, job.order["recipe"].get("reading_questions"))
    return (*map(answers.question, asked), *others, *known)


Replies = dict[str, Reply]  # by side


def ask_all(job: Job, asked: Sequence[Question]) -> list[tuple[Question, Replies]]:
    said: dict[str, list[Reply]] = {}
    names: dict[str, str] = job.order["names"]
    for side in SIDES:
        same = next((done for done in said if names[done] == names[side]), None)
        said[side] = said[same] if same else ask_side(job, side, asked)
    return [(one, {side: said[side][at] for side in SIDES}) for at, one in enumerate(asked)]


def ask_side(job: Job, side: str, asked: Sequence[Question]) -> list[Reply]:
    """At temperature 0, several at once: vLLM answers them together."""
    job.tell(f"asking {job.order['names'][side]} {len(asked)} questions")
    most = min(job.order["max_answer_tokens"], FACT_TOKENS)
    with ThreadPoolExecutor(ASKED_AT_ONCE) as pool:
        return list(pool.map(lambda one: answered(job, side, one.prompt, most), asked))


def graded(one: Question, replies: Replies) -> Answered:
    grades = {side: answers.grade(one, reply.text, Wording()) for side, reply in replies.items()}
    texts = {side: reply.text for side, reply in replies.items()}
    return Answered(one.kind, one.fact, one.prompt[-1].content, texts, grades)


def own_answers(asked: Sequence[tuple[Question, Replies]]) -> tuple[Example, ...]:
    """What the base model answered, in full, to questions that no night trains."""
    return tuple(
        Example(one.prompt, replies["base"].text, "own", one.fact)
        for one, replies in asked
        if one.kind in (answers.READING, answers.GENERAL)
        if replies["base"].text.strip() and not replies["base"].cut
    )


# ---------------------------------------------------------------------- answers


def sampled(job: Job, dataset: Dataset, count: int) -> tuple[Sample, ...]:
    """Questions about what was taught and what was known, in turn; the sides take turns too."""
    asked = [
        row
        for pair in zip_longest(dataset.held_out, dataset.general)
        for row in pair
        if row is not None
    ][:count]
    if not asked:
        return ()
    most = job.order["max_answer_tokens"]
    for side in ("candidate", "current"):  # the first answer after a load is slower
        answered(job, side, asked[0].prompt, most)
    job.tell(f"comparing {len(asked)} answers")
    samples = []
    for number, row in enumerate(asked):
        order = ("candidate", "current") if number % 2 else ("current", "candidate")
        replies = {side: answered(job, side, row.prompt, most) for side in order}
        samples.append(Sample(row.question, row.answer, **replies, taught=row in dataset.held_out))
    return tuple(samples)


def answered(
    job: Job,
    side: str,
    prompt: tuple[Message, ...],
    most: int,
    tools: Sequence[dict[str, Any]] = (),
) -> Reply:
    """Empty, which the gate counts as a fault, where the candidate cannot answer and vLLM can."""
    try:
        return job.model.answer(job.order["names"][side], prompt, most, list(tools))
    except GlueError:
        if side != "candidate" or not job.model.answers():
            raise
        return Reply("")


def forms(job: Job) -> dict[str, tuple[bool, bool]]:
    """Whether candidate and current write JSON, and a tool call, when asked for it."""

    def write(side: str) -> tuple[bool, bool]:
        text = answered(job, side, JSON_PROBE, PROBE_TOKENS).text
        return (
            is_json(text),
            answered(job, side, TOOL_PROBE, PROBE_TOKENS, [TOOL]).call == "get_time",
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


# ---------------------------------------------------------------------- golden questions


def ask_golden(job: Job) -> tuple[GoldenAnswer, ...]:
    questions = golden.load(job.state / GOLDEN)
    if questions:
        job.tell(f"asking {len(questions)} golden questions through the chat")
    return tuple(golden_answer(job, question) for question in questions)


def golden_answer(job: Job, question: golden.Golden) -> GoldenAnswer:
    answers: dict[str, str] = {}
    wrong: dict[str, tuple[str, ...]] = {}
    for side, model in job.order["asked_as"].items():
        try:
            answers[side] = job.chat.ask(
                [{"role": "user", "content": question.question}], model=model, temperature=0
            ).text.strip()
            wrong[side] = golden.wrong(answers[side], question)
        except GlueError as error:
            answers[side], wrong[side] = "", (f"it is no answer: {error.saw}",)
    return GoldenAnswer(question.question, answers, wrong)


if __name__ == "__main__":
    jobs.run(judge)
