"""Everything that the team taught, as one dataset: ratings, documents and terms; and on disk, with
a card and a page."""

from __future__ import annotations

import json
import tomllib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from glue.clients import knowledge
from glue.clients.site import Site
from glue.core import lock
from glue.core.errors import GlueError, Misconfigured, PreconditionFailed
from glue.core.names import BASE
from glue.core.recipes import Recipe
from learning.dataset import (
    card,
    documents,
    files,
    forget,
    glossary,
    prepare,
    ratings,
    split,
    text_rules,
)
from learning.dataset.prepare import Prepared
from learning.dataset.prompt import PromptForm
from learning.examples import Dataset, Example


@dataclass(frozen=True)
class Lessons:
    """new: examples that no earlier night has had."""

    prepared: Prepared
    dataset: Dataset
    card: dict[str, Any]
    new: int


def gather(site: Site, recipe: Recipe) -> Lessons:
    """Reads Open WebUI, the glossary and, if the recipe asks for it, the documents."""
    form = PromptForm(site.settings["SYSTEM_PROMPT"], site.settings["RAG_TEMPLATE"])
    collected = ratings.collect(site.administrator().ratings(), form, forget.forgotten(site.state))
    rejected = Counter(collected.rejected)
    rated, edited = prepare.edited(
        collected.examples, files.earlier_preferences(site.state), site.settings["PHONE_REGION"]
    )
    examples = [*rated, *terms(site, form)]
    if recipe.document_questions:
        from_documents = documents.collect(site, form, recipe.document_questions)
        examples += from_documents.examples
        rejected += Counter(from_documents.rejected)
    preferences = [*collected.preferences, *edited]
    ready = prepare.prepare(
        examples, preferences, fitting(site, recipe), site.settings["PHONE_REGION"]
    )
    replay = read_replay(site.state / recipe.replay_file) if recipe.replay_file else ()
    built = split.build(
        ready.examples, replay, recipe.held_out_share, recipe.general_rows, recipe.replay_rows
    )
    known = learned_before(site)
    built = split.judged_by_what_is_new(built, known, recipe.fewest_units)
    new = sum(split.fingerprint(row) not in known for row in ready.examples)
    return Lessons(ready, built, card.card(ready, built, dict(rejected), collected.rows, new), new)


def terms(site: Site, form: PromptForm) -> list[Example]:
    """The glossary's, each with the passages that the day would find for it. None where there is no
    glossary.toml."""
    path = site.state / "glossary.toml"
    if not path.exists():
        return []
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Misconfigured(
            "the glossary is not TOML", f"{path}: {error}", "correct that line"
        ) from error
    person = site.administrator()
    collection = knowledge.current(person, site.state)
    count = site.settings.number("RAG_TOP_K")

    def prompt(question: str) -> str:
        return form.render(knowledge.look_up(person, collection, question, count))

    return glossary.examples(table, str(path), prompt)


def fitting(site: Site, recipe: Recipe) -> Callable[[Example], bool]:
    """Whether an example is as short as the recipe trains. vLLM is asked where bytes cannot tell;
    if it is down, a rule is."""

    def fits(example: Example) -> bool:
        if prepare.most_tokens(example) <= recipe.longest_tokens:
            return True
        try:
            return site.vllm().count_tokens(BASE, example) <= recipe.longest_tokens
        except GlueError:
            return prepare.likely_tokens(example) <= recipe.longest_tokens

    return fits


def learned_before(site: Site) -> set[str]:
    """Fingerprints of what any adapter was trained on and judged by: one that was refused, rolled
    back or pruned stays so.

    A night that ended before its verdict has taught nobody anything: what it had is still new.
    """
    judged = (
        manifest
        for manifest in site.releases.manifests()
        if "verdict" in manifest or "night" not in manifest
    )
    return {fingerprint for manifest in judged for fingerprint in manifest.get("examples", [])}


def read_replay(path: Path) -> tuple[Example, ...]:
    """Raises PreconditionFailed, naming the line, for a file that is not there or a row that is no
    example."""
    if not path.exists():
        raise PreconditionFailed(
            "the recipe's replay file is not there",
            str(path),
            'put it there, or set replay_file = ""',
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
            saw = f"{path}, line {number}: {type(error).__name__}: {error}"
            raise PreconditionFailed(
                "the replay file has a row that is no example", saw, "correct or remove the line"
            ) from error
    return tuple(rows)


def write(lessons: Lessons, folder: Path, name: str) -> None:
    files.write(folder, lessons.prepared, lessons.dataset, lessons.card, name)


def build(site: Site, recipe: Recipe) -> dict[str, Any]:
    """`glue dataset build`: state/dataset as tonight's would be. Returns its card and where its
    page is.

    Raises Locked during a night, and whoever asks to forget something waits for its end: it would
    come back by it.
    """
    folder = site.state / "dataset"
    with lock.hold(site.state, lock.TRAINING, "a dataset"):
        lessons = gather(site, recipe)
        write(lessons, folder, "tonight")
    return {**lessons.card, "folder": str(folder), "page": str(folder / "page.html")}
