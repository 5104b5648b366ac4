"""The job that builds a data set of everything that the team taught: ratings, documents and terms.

Its order: folder (in the state folder), name, recipe, known (fingerprints that earlier nights had),
for_night, knowledge, system_prompt, rag_template, earlier_prompts (as in PROMPTS), rag_top_k,
phone_region, chat (its address).
"""

from __future__ import annotations

import json
import tomllib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from glue.core.errors import GlueError, Misconfigured, PreconditionFailed
from glue.core.names import BASE, GLOSSARY, GOLDEN
from learning import job as jobs
from learning.dataset import (
    as_seen,
    asked,
    card,
    documents,
    files,
    forget,
    glossary,
    paraphrases,
    prepare,
    ratings,
    split,
    style,
    support,
    taught,
    text_rules,
    unrelated,
    voices,
)
from learning.dataset.prepare import Prepared
from learning.dataset.prompt import PromptForm
from learning.dataset.taught import Taught
from learning.dataset.variants import Variant, Ways
from learning.dataset.wording import Wording
from learning.evaluation import golden, measurements
from learning.examples import Dataset, Example, Message
from learning.job import Job
from learning.model import rendered

ROW = 'correct the line, as {"prompt": [...], "completion": [...]}, or remove it'


@dataclass(frozen=True)
class Lessons:
    """new: examples that no earlier night has had. left_out: (why, example) of those that need a
    person's decision. asked: what the night's adapter will be asked about."""

    prepared: Prepared
    dataset: Dataset
    card: dict[str, Any]
    new: int
    left_out: tuple[tuple[str, Example], ...] = ()
    asked: tuple[Variant, ...] = ()


def build(job: Job) -> dict[str, Any]:
    """Writes the data set, unless a night has too little to learn. Returns its card and what the
    night needs to know of it."""
    found = gather(job)
    result = {
        "card": found.card,
        "new": found.new,
        "too_little": too_little(found, job.order["recipe"]) if job.order["for_night"] else "",
    }
    if result["too_little"]:
        return result
    if job.order["for_night"]:  # one that cannot be read is better known before the night
        golden.load(job.state / GOLDEN)
    folder = job.state / job.order["folder"]
    had = sorted(map(split.fingerprint, found.prepared.examples))  # not their variants
    about, parts = notes(job, had), (found.prepared, found.dataset, found.card)
    files.write(folder, *parts, job.order["name"], about, found.left_out, found.asked)
    return result | facts(found.dataset) | {"fingerprints": had}


def facts(dataset: Dataset) -> dict[str, Any]:
    """What a night needs to know of its data set, beside the card."""
    learned = dataset.learned
    return {
        "question": learned[0].question if learned else "",
        "fingerprints": sorted(map(split.fingerprint, learned)),
        "origins": split.origins(learned),
    }


def notes(job: Job, had: list[str]) -> card.Notes:
    """Of all people; the page keeps those whose rows it shows."""
    known = set(job.order["known"])
    new = sorted(set(had) - known)
    people = {str(one["id"]): str(one["name"]) for one in job.chat.people()}
    return card.Notes(people, new, job.order["chat"])


def too_little(found: Lessons, recipe: dict[str, Any]) -> str:
    """Why no night can begin with it, in words; empty if one can."""
    units = len(set(measurements.units(found.dataset.held_out)))
    if found.new < recipe["fewest_new_examples"]:
        return f"{found.new} new examples, a night wants {recipe['fewest_new_examples']}"
    if not found.dataset.held_out:
        return "no rated answer can be held out to judge by; two conversations are the least"
    if units < recipe["fewest_units"]:
        wanted = recipe["fewest_units"]
        return f"{units} facts can be held out to judge by, the gate wants {wanted}"
    return ""


def gather(job: Job) -> Lessons:
    """Reads Open WebUI, the glossary and, if the recipe asks for them, the documents, and other
    ways to ask that the day model writes."""
    recipe, region = job.order["recipe"], job.order["phone_region"]
    form = PromptForm(job.order["system_prompt"], job.order["rag_template"])
    collected = ratings.collect(job.chat.ratings(), form, known(job))
    rejected = Counter(collected.rejected)
    rated, edited = prepare.edited(collected.examples, files.earlier_preferences(job.state), region)
    examples = [*rated, *terms(job, form)]
    if recipe["document_questions"]:
        from_documents = documents.collect(job, form, recipe["document_questions"])
        examples += from_documents.examples
        rejected += Counter(from_documents.rejected)
    said = voices.heard(examples)
    rejected += Counter(said.left_out)
    disputed = (*collected.disputed, *said.disputed)
    left_out = tuple((why, prepare.without_secrets(row, region)[0]) for why, row in disputed)
    preferences = [*collected.preferences, *edited]
    ready = prepare.prepare(said.kept, preferences, fitting(job), region)
    found = taught.sort(as_retrieved_now(job, form, ready.examples), recipe)
    rejected += Counter(why for why, _ in found.left_out)
    left_out += tuple(taught.to_decide(*one) for one in found.left_out)
    ready = replace(ready, examples=found.kept)
    earlier = frozenset(job.order["known"])
    written = paraphrases.collect(job, ready.examples)
    rejected += Counter(written.rejected)
    questions = asked.held_out(ready.examples, earlier, fitting(job), wording_of(job), written.ways)
    built = divided(job, form, found, written.ways)
    built = taught.judged(built, questions, found, earlier, recipe["fewest_units"])
    questions += style.held_out(built)
    new = sum(split.fingerprint(row) not in earlier for row in ready.examples)
    counts = card.card(ready, built, dict(rejected), collected.rows, new)
    counts |= {
        "needs_a_decision": len(left_out),
        "deleted_accounts": collected.deleted_accounts,
        "paraphrases": written.count,
    }
    return Lessons(ready, built, counts, new, left_out, questions)


def divided(job: Job, form: PromptForm, found: Taught, ways: Ways) -> Dataset:
    recipe = job.order["recipe"]
    replay = read_replay(job.state / recipe["replay_file"]) if recipe["replay_file"] else ()
    built = split.build(
        found.plain,
        replay,
        recipe["held_out_share"],
        recipe["general_rows"],
        recipe["replay_rows"],
        tuple(filter(fitting(job), taught.trained(found, recipe, wording_of(job), ways))),
    )
    # beside whatever the night learns: a night of style alone reads other documents worse without
    count = recipe["unrelated_rows"] if recipe["sort_by_support"] else 0
    beside = unrelated.examples(form, count, asked.SEED)
    return replace(built, replay=built.replay + beside)


def as_retrieved_now(
    job: Job, form: PromptForm, examples: tuple[Example, ...]
) -> tuple[Example, ...]:
    """Those that their passages do not support, with what the day finds now, if that supports them:
    a note, or a document that was changed."""

    def now(row: Example) -> Example:
        if not row.origin.user or support.of(row) == support.SUPPORTED:
            return row
        found = Message("system", form.render(job.look_up(row.asked)))
        again = replace(row, prompt=(found, *row.prompt[1:]))
        again, _ = prepare.without_secrets(again, job.order["phone_region"])
        return again if support.of(again) == support.SUPPORTED else row

    return tuple(map(now, examples)) if job.order.get("notes") else examples


def wording_of(job: Job) -> Wording:
    return Wording(notes=job.order.get("notes") or "")


def known(job: Job) -> ratings.Known:
    people = frozenset(str(person["id"]) for person in job.chat.people())
    forms = tuple(PromptForm(**row) for row in job.order["earlier_prompts"])
    return ratings.Known(forget.forgotten(job.state), people, counting(job), forms)


def counting(job: Job) -> as_seen.Count:
    """vLLM's count of a prompt's tokens; None for all if it does not answer now."""
    try:
        job.model.models()
    except GlueError as error:
        job.tell(f"the prompts of ratings are not compared with what the model was given: {error}")
        return lambda prompt: None

    def count(prompt: tuple[Message, ...]) -> int | None:
        try:
            return len(job.model.tokens(BASE, list(map(rendered, prompt)), generate=True))
        except GlueError:
            return None

    return count


def terms(job: Job, form: PromptForm) -> list[Example]:
    """The glossary's, each with the passages that the day finds for it. None without the file."""
    path = job.state / GLOSSARY
    if not path.exists():
        return []
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Misconfigured(
            f"{GLOSSARY} is not valid TOML", str(error), f"correct that line of {GLOSSARY}"
        ) from error
    return glossary.examples(table, GLOSSARY, lambda question: form.render(job.look_up(question)))


def fitting(job: Job) -> Callable[[Example], bool]:
    """Whether an example is as short as the recipe trains. vLLM counts where bytes cannot tell, or
    a rule where vLLM is down."""
    longest = int(job.order["recipe"]["longest_tokens"])

    def fits(example: Example) -> bool:
        if prepare.most_tokens(example) <= longest:
            return True
        try:
            return job.model.count_tokens(BASE, example) <= longest
        except GlueError:
            return prepare.likely_tokens(example) <= longest

    return fits


def read_replay(path: Path) -> tuple[Example, ...]:
    """Raises PreconditionFailed, with the line, for a missing file or an invalid row."""
    if not path.exists():
        raise PreconditionFailed(
            "the recipe's replay file is missing",
            path.name,
            'put it into the state folder, or set replay_file = "" in the recipe',
        )
    rows: list[Example] = []
    for number, line in enumerate(path.read_bytes().split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            row = split.from_row(json.loads(line))
            if text_rules.CONTROL_WORDS.search(row.answer):
                raise ValueError("the answer holds control words of a model, such as <think>")
            rows.append(replace(row, origin=replace(row.origin, kind="general")))
        except (ValueError, KeyError, TypeError, IndexError) as error:
            what = f"invalid row in {path.name}, line {number}"
            raise PreconditionFailed(what, f"{type(error).__name__}: {error}", ROW) from error
    return tuple(rows)


if __name__ == "__main__":
    jobs.run(build)
