"""Evaluates a night's adapter in the vLLM that serves the day."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

from glue.clients import jobs
from glue.clients.jobs import Job
from glue.core import desired_state, files, lock
from glue.core.errors import GlueError
from glue.core.names import ADAPTER, BASE, CANDIDATE, GOLDEN
from glue.core.verdict import Verdict
from glue.night.tonight import Night
from glue.serving import export, model

# how each side is asked through the chat, with retrieval; removed again after the evaluation
ASKED_AS = {side: f"judging-{side}" for side in ("candidate", "current", "base")}
# vLLM would restart while people use it
LATE_WORDS = "people are at work, and a merged checkpoint can be judged at night only"
TOO_LATE = Verdict(False, (LATE_WORDS,), {}, ("late",))
# minutes on a Spark; a job that takes longer hangs
DEADLINE_SECONDS = 4 * 3600


def broken(problems: Sequence[str]) -> Verdict:
    return Verdict(False, (f"the adapter is broken: {files.names(problems)}",), {}, ("broken",))


def judge(night: Night, still_wanted: Callable[[], object] = lambda: None) -> Verdict:
    """Evaluates the adapter beside the base model, or by the merged checkpoint that it was trained
    for. One that vLLM refuses is broken.

    Raises GlueError if vLLM dies of it, PreconditionFailed if its checkpoint cannot be made, and
    what still_wanted raises.
    """
    site = night.site
    site.store.verify(night.release)
    if site.store.only_merged(night.release):
        if desired_state.night_is_late(site.state):
            return TOO_LATE
        export.ensure(site, night.release, "merged")
        return judged(night, still_wanted)
    try:
        site.vllm().serve(CANDIDATE, f"{model.ADAPTERS_IN_CONTAINER}/{night.release}")
    except GlueError as error:
        if not site.vllm().answers():
            raise
        return broken([f"vLLM does not load it: {error.saw}"])
    try:
        return judged(night, still_wanted)
    finally:
        if site.vllm().answers() and not site.store.serves_merged():
            site.vllm().forget(CANDIDATE)


def judged(night: Night, still_wanted: Callable[[], object]) -> Verdict:
    """Asks the sides that one vLLM serves together, form by form; none after the opening."""
    left = forms(night)
    several, found = len(left) > 1, {}
    for number, (checkpoint_of, here) in enumerate(left.items(), 1):
        turn = {"here": here, "last": number == len(left)} if several else {}
        if several and desired_state.night_is_late(night.site.state):
            return TOO_LATE
        if several:
            run_form(night, checkpoint_of)
        with asked_through_chat(night, here) as asked_as:
            found = run(
                night, "evaluate", order(night) | {"asked_as": asked_as} | turn, still_wanted
            )
    words = {key: tuple(found[key]) for key in ("reasons", "faults", "notes")}
    return Verdict(found["promote"], figures=found["figures"], **words)


def forms(night: Night) -> dict[str, dict[str, str]]:
    """By the adapter whose checkpoint vLLM must run, the names of the sides that it answers for,
    with what vLLM calls them. First "", the base model with adapters: others are asked about its
    answers."""
    found: dict[str, dict[str, str]] = {}
    store = night.site.store
    adapters = {"base": None, "current": store.current(), "candidate": night.release}
    for side, adapter in adapters.items():
        merged = store.only_merged(adapter) and store.checkpoint(str(adapter))
        name = sides(night)[side]
        found.setdefault(str(adapter) if merged else "", {})[name] = BASE if merged else name
    return found


def run_form(night: Night, checkpoint_of: str) -> None:
    site = night.site
    with lock.hold(site.state, lock.SWITCH, "judge", model.SWITCH_WAIT_SECONDS):
        desired_state.require(site.state, night.name)
        site.store.set_judging(True, checkpoint_of)
        model.ensure_form(site)


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
def asked_through_chat(night: Night, here: dict[str, str]) -> Iterator[dict[str, str]]:
    """Assistants for the golden questions while the block runs; none without such questions. here:
    see forms."""
    site = night.site
    if not (site.state / GOLDEN).exists():
        yield {}
        return
    person = site.administrator()
    asked = {ASKED_AS[side]: here[name] for side, name in sides(night).items() if name in here}
    person.ensure_judging(site.settings, asked)
    try:
        yield ASKED_AS
    finally:
        person.forget_models(ASKED_AS.values())
