"""Steps 6 to 10, the day again: the candidate is judged in the vLLM that serves, then promoted or refused."""

from __future__ import annotations

from dataclasses import asdict
from statistics import fmean

from glue import adapters, day, files, judge, vllm
from glue.night_desk import MARK
from glue.nights.tonight import Night
from glue.site import Site
from glue.types import GlueError


def start_day(night: Night) -> None:
    """The current adapter serves again, and the candidate is loaded beside it under its own name."""
    site = night.site
    day.ensure(site, judging=True, insist=True)
    site.vllm().serve(night.release, f"{day.ADAPTERS_IN_CONTAINER}/{night.release}")


def judge_candidate(night: Night) -> None:
    night.verdict = judge.judge(night.site, night.release, night.dataset, night.recipe)
    files.write_json(night.folder / "verdict.json", asdict(night.verdict))
    night.site.vllm().forget(night.release)


def promote(night: Night) -> None:
    assert night.verdict is not None
    if night.verdict.promote:
        adapters.promote(night.site, night.release)


def smoke(night: Night) -> None:
    """A question of the team's through the front gets an answer of the model, with sources. If not: roll back."""
    site = night.site
    try:
        confirm_merged(night)
        ask_for_smoke(site, night.dataset.learned[0].question)
    except Exception:
        if night.verdict is not None and night.verdict.promote:
            site.tell("the smoke question failed: rolling back")
            adapters.rollback(site)
        raise


def confirm_merged(night: Night) -> None:
    """A checkpoint runs on other kernels than the adapter that was judged: its answers must be as likely as that one's were."""
    if night.verdict is None or not night.verdict.promote or not night.site.releases.serves_merged():
        return
    found = fmean(judge.score(night.site, night.site.vllm(), vllm.BASE, night.dataset.held_out, "held-out"))
    judged = night.verdict.figures["candidate"]
    if found < judged - night.recipe.most_forgetting:
        saw = f"{found:.3f} a token, the adapter came to {judged:.3f}"
        raise GlueError("the merged checkpoint answers worse than what was judged", saw, "serve it as an adapter")


def ask_for_smoke(site: Site, question: str) -> None:
    person = site.administrator()
    answer = person.ask([{"role": "user", "content": question}])
    if not answer.text.strip() or answer.text.startswith(MARK):
        raise GlueError("the model does not answer", repr(answer.text[:200]), "make logs SERVICE=vllm")
    if not answer.sources and person.knowledge_files(person.ensure_knowledge()):
        raise GlueError("the answer came without sources", "Open WebUI dropped retrieval", "make logs SERVICE=open-webui")


def report(night: Night) -> None:
    """A line for people, and everything for machines, in the night's folder."""
    assert night.verdict is not None
    summary = {"night": night.name, "adapter": night.release, "training": night.result, "verdict": asdict(night.verdict)}
    files.write_json(night.folder / "report.json", summary)
    night.site.tell("; ".join(night.verdict.reasons))
