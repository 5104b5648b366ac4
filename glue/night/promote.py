"""Steps 7 to 9, while the day serves: evaluate the adapter, and promote or refuse it."""

from __future__ import annotations

from dataclasses import asdict

from glue.clients import knowledge
from glue.clients.site import Site
from glue.clients.webui_connection import Answer
from glue.core import desired_state, files, journal, waiting
from glue.core.errors import GlueError
from glue.core.names import BASE, MARK
from glue.core.waiting import Seen
from glue.night import evaluate
from glue.night.tonight import Night
from glue.serving import adapters

SMOKE_SECONDS = 30


def judge_candidate(night: Night) -> None:
    """Stores the verdict with the adapter. A broken adapter was never stored, and has a verdict."""
    if night.verdict is None:
        night.verdict = evaluate.judge(
            night, lambda: desired_state.require(night.site.state, night.name)
        )
        night.site.store.note_verdict(night.release, asdict(night.verdict))
    files.write_json(night.folder / "verdict.json", asdict(night.verdict))
    night.site.tell("; ".join(night.verdict.reasons))


def promote(night: Night) -> None:
    assert night.verdict is not None
    if night.verdict.promote:
        # after opening never as a checkpoint, because that restarts vLLM while people use it
        late = desired_state.night_is_late(night.site.state)
        form = "adapter" if late and not night.site.store.only_merged(night.release) else None
        adapters.promote(night.site, night.release, form, night.name)
    elif night.site.store.only_merged(night.release):
        night.site.store.forget_checkpoint(night.release)  # 19 GB that no one will need


def smoke(night: Night) -> None:
    """Asks a question in the chat, which the model must answer with sources. Rolls back if it does
    not, or if the result cannot be recorded."""
    site = night.site
    try:
        confirm_merged(night)
        ask_for_smoke(site, night.dataset["question"])
        journal.record(site.state, night=night.name, event=journal.CONFIRMED)
    except BaseException:
        if night.verdict and night.verdict.promote:
            site.tell("the smoke question failed: rolling back")
            adapters.rollback(site)
        raise


def confirm_merged(night: Night) -> None:
    """Compares the checkpoint's answers with the adapter's, since it runs on other kernels."""
    judged = night.verdict
    store = night.site.store
    if not (judged and judged.promote and store.serves_merged()):
        return
    if store.only_merged(night.release):  # it is what was judged
        return
    found = evaluate.score(night, BASE)
    adapter = judged.figures["held_out_candidate"]
    if found < adapter - night.recipe.most_forgetting:
        saw = f"{found:.3f} nats a token, the adapter {adapter:.3f}"
        what = "the merged checkpoint answers worse than the judged adapter"
        raise GlueError(what, saw, "serve it as an adapter")


def ask_for_smoke(site: Site, question: str) -> None:
    """Asks again after an answer of the night desk: the model may be busy."""
    person = site.administrator()

    def look() -> Seen[Answer]:
        answer = person.ask([{"role": "user", "content": question}])
        of_desk = answer.text.startswith(MARK)
        good = bool(answer.text.strip()) and not of_desk
        # never its text, which may quote the team's documents
        words = "an answer" if good else "the night desk answered" if of_desk else "an empty answer"
        return Seen(good, words, answer)

    do = "make logs SERVICE=vllm"
    answer = waiting.until("the model's answer", look, SMOKE_SECONDS, 2, do).value
    assert answer is not None
    if not answer.sources and knowledge.held(person, knowledge.current(person, site.state)):
        what, saw = "the answer came without sources", "Open WebUI retrieved no document"
        raise GlueError(what, saw, "make logs SERVICE=open-webui")
