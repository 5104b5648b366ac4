"""Steps 6 to 10, the day again: the candidate is judged in the vLLM that serves, then promoted or
refused."""

from __future__ import annotations

from dataclasses import asdict
from statistics import fmean

from glue.clients import knowledge
from glue.clients.site import Site
from glue.clients.webui_connection import Answer
from glue.core import desired_state, files, waiting
from glue.core.errors import GlueError
from glue.core.names import BASE, MARK
from glue.core.waiting import Seen
from glue.night.tonight import Night
from glue.serving import adapters, day, last_night
from learning.evaluation import evaluate

SMOKE_SECONDS = 30


def start_day(night: Night) -> None:
    """The current adapter serves again, in the form in which a candidate can be loaded beside
    it."""
    day.ensure(night.site, judging=True, insist=True, night=night.name)


def judge_candidate(night: Night) -> None:
    """A release keeps what was said of it. An artifact that was broken when it was made is no
    release, and was judged then."""
    if night.verdict is None:
        night.verdict, seen = evaluate.judge(night.site, night.release, night.dataset, night.recipe)
        files.write_json(night.folder / "evidence.json", asdict(seen), mode=0o600)
        night.site.releases.note_verdict(night.release, asdict(night.verdict))
    files.write_json(night.folder / "recipe.json", asdict(night.recipe))
    files.write_json(night.folder / "verdict.json", asdict(night.verdict))


def promote(night: Night) -> None:
    assert night.verdict is not None
    if night.verdict.promote:
        # people work by then, and a checkpoint would restart vLLM; the next promotion may
        adapters.promote(
            night.site,
            night.release,
            "adapter" if desired_state.late(night.site.state) else None,
            night.name,
        )


def smoke(night: Night) -> None:
    """A question of the team's through the front gets an answer of the model, with sources. If not:
    roll back."""
    site = night.site
    try:
        confirm_merged(night)
        ask_for_smoke(site, night.dataset.learned[0].question)
    except BaseException:
        if night.verdict is not None and night.verdict.promote:
            site.tell("the smoke question failed: rolling back")
            adapters.rollback(site)
        raise


def confirm_merged(night: Night) -> None:
    """A checkpoint runs on other kernels than the adapter that was judged: its answers must be as
    likely as that one's were."""
    if (
        night.verdict is None
        or not night.verdict.promote
        or not night.site.releases.serves_merged()
    ):
        return
    found = fmean(
        evaluate.score(night.site, night.site.vllm(), BASE, night.dataset.held_out, "held-out")
    )
    judged = night.verdict.figures["held_out_candidate"]
    if found < judged - night.recipe.most_forgetting:
        saw = f"{found:.3f} a token, the adapter came to {judged:.3f}"
        raise GlueError(
            "the merged checkpoint answers worse than what was judged",
            saw,
            "serve it as an adapter",
        )


def ask_for_smoke(site: Site, question: str) -> None:
    """One answer of the night desk's is no fault yet: the door may have found the model busy just
    then."""
    person = site.administrator()

    def look() -> Seen[Answer]:
        answer = person.ask([{"role": "user", "content": question}])
        # not its words: they are of the team's documents
        saw = (
            "the night desk answered"
            if answer.text.startswith(MARK)
            else "an answer"
            if answer.text.strip()
            else "nothing"
        )
        return Seen(saw == "an answer", saw, answer)

    answer = waiting.until(
        "the model's answer", look, SMOKE_SECONDS, every_seconds=2, do="make logs SERVICE=vllm"
    ).value
    assert answer is not None
    collection = knowledge.current(person, site.state)
    if not answer.sources and knowledge.held(person, collection):
        raise GlueError(
            "the answer came without sources",
            "Open WebUI dropped retrieval",
            "make logs SERVICE=open-webui",
        )


def report(night: Night) -> None:
    """A line for people, and everything for machines, in the night's folder."""
    assert night.verdict is not None
    summary = {
        "night": night.name,
        "adapter": night.release,
        "training": night.result,
        "verdict": asdict(night.verdict),
    }
    files.write_json(night.folder / "report.json", summary)
    night.site.tell("; ".join(night.verdict.reasons))


def tell(site: Site, night: str) -> None:
    """Never the reason why a night fails: what could not be told is said, and that is all."""
    try:
        found = last_night.write(site.state, night, site.settings.chat_url)
        last_night.keep_banner(site.state, found)
        if found.outcome == "promoted":
            site.administrator().ensure_banner(
                **last_night.kept_banner(site.state, site.releases.current())
            )
        site.tell(f"{found.headline} The page: {site.state / 'nights' / night / 'report.html'}")
    except (
        Exception
    ) as error:  # whatever it is, the day serves and the night has its end in the journal
        site.tell(f"the morning page could not be written: {error}")
