"""Evaluates a night's adapter in the vLLM that serves the day."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

from glue.clients import jobs
from glue.clients.jobs import Job
from glue.core import files
from glue.core.errors import GlueError
from glue.core.names import ADAPTER, BASE, CANDIDATE, GOLDEN
from glue.core.verdict import Verdict
from glue.night.tonight import Night
from glue.serving import model

# how each side is asked through the chat, with retrieval; removed again after the evaluation
ASKED_AS = {side: f"judging-{side}" for side in ("candidate", "current", "base")}
# minutes on a Spark; a job that takes longer hangs
DEADLINE_SECONDS = 4 * 3600


def broken(problems: Sequence[str]) -> Verdict:
    return Verdict(False, (f"the adapter is broken: {files.names(problems)}",), {}, ("broken",))


def judge(night: Night, still_wanted: Callable[[], object] = lambda: None) -> Verdict:
    """Loads the adapter, evaluates it, and unloads it. An adapter that vLLM refuses is broken.

    Raises GlueError if vLLM dies of it, and what still_wanted raises.
    """
    site = night.site
    site.store.verify(night.release)
    try:
        site.vllm().serve(CANDIDATE, f"{model.ADAPTERS_IN_CONTAINER}/{night.release}")
    except GlueError as error:
        if not site.vllm().answers():
            raise
        return broken([f"vLLM does not load it: {error.saw}"])
    try:
        with asked_through_chat(night) as asked_as:
            asked = order(night) | {"asked_as": asked_as}
            found = run(night, "evaluate", asked, still_wanted)
        words = {key: tuple(found[key]) for key in ("reasons", "faults", "notes")}
        return Verdict(found["promote"], figures=found["figures"], **words)
    finally:
        if site.vllm().answers():
            site.vllm().forget(CANDIDATE)


def order(night: Night) -> dict[str, Any]:
    settings = night.site.settings
    return {
        "names": sides(night),
        "recipe": asdict(night.recipe),
        "max_answer_tokens": settings.number("MAX_ANSWER_TOKENS"),
        "system_prompt": settings["SYSTEM_PROMPT"],
        "rag_template": settings["RAG_TEMPLATE"],
    }


def sides(night: Night) -> dict[str, str]:
    """The names of the three models in vLLM."""
    current = ADAPTER if night.site.store.current() else BASE
    return {"candidate": CANDIDATE, "current": current, "base": BASE}


def score(night: Night, name: str) -> float:
    """Mean log-probability, in nats a token, of the night's held-out answers."""
    return float(run(night, "score", {"name": name})["mean"])


def run(
    night: Night,
    module: str,
    asked: dict[str, Any],
    still_wanted: Callable[[], object] = lambda: None,
) -> dict[str, Any]:
    inside = {"night": str(night.folder.relative_to(night.site.state))}
    job = Job(
        f"learning.evaluation.{module}",
        asked | inside,
        reads=(night.site.state / GOLDEN,),
        writes=(night.folder,),
        online=True,
        timeout_seconds=DEADLINE_SECONDS,
    )
    return jobs.run(night.site, job, still_wanted)


@contextmanager
def asked_through_chat(night: Night) -> Iterator[dict[str, str]]:
    """Assistants for the golden questions while the block runs; none without such questions."""
    site = night.site
    if not (site.state / GOLDEN).exists():
        yield {}
        return
    person = site.administrator()
    asked = {ASKED_AS[side]: name for side, name in sides(night).items()}
    person.ensure_judging(site.settings, asked)
    try:
        yield ASKED_AS
    finally:
        person.forget_models(ASKED_AS.values())
