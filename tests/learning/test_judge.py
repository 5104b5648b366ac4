"""The evaluation with a vLLM that fails. It is a stub: the real one does not fail on demand."""

import json
from dataclasses import fields, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from glue.clients import jobs
from glue.clients.adapter_store import AdapterStore
from glue.core import desired_state, files, recipes
from glue.core.desired_state import DesiredState, Wanted
from glue.core.errors import GlueError
from glue.core.names import ADAPTER, BASE, CANDIDATE, MARK
from glue.core.settings import REPOSITORY
from glue.core.verdict import Verdict
from glue.night import evaluate, promote
from glue.serving import export, model
from learning.dataset import asked as asked_rows
from learning.dataset import files as dataset_files
from learning.dataset.facts import Fact
from learning.dataset.prompt import PromptForm
from learning.dataset.variants import Variant
from learning.evaluation import evaluate as job
from learning.evaluation import reading, score
from learning.evaluation.measurements import Reply
from learning.examples import Dataset, Example, Message
from learning.job import Job
from tests.core.test_state import make_checkpoint, publish, serve

RECIPE = replace(recipes.load(REPOSITORY / "env" / "recipes", "rehearsal"), general_rows=2)
ROWS = tuple(
    Example((Message("user", f"Which code, {n}?"),), f"The code is B{n}.", "", f"{n}")
    for n in range(10, 18)
)
DATASET = Dataset(train=(), held_out=ROWS[:6], general=ROWS[6:])


class StubVllm:
    """Gives every answer the likelihood in the model's name; refuses or dies on demand."""

    def __init__(self, refuses: bool = False, dies: bool = False, mute: bool = False) -> None:
        self.refuses, self.dies, self.mute = refuses, dies, mute
        self.alive = True
        self.loaded: dict[str, str] = {}
        self.scored: list[str] = []

    def answers(self) -> bool:
        return self.alive

    def serve(self, name: str, path: str) -> None:
        if self.refuses or self.dies:
            self.alive = not self.dies
            raise GlueError(
                "vLLM refused /v1/load_lora_adapter", "500 contains fused weights", "make logs"
            )
        self.loaded[name] = path

    def forget(self, name: str) -> None:
        self.loaded.pop(name, None)

    def likelihood(self, name: str, example: Example) -> float:
        self.scored.append(name)
        if self.mute and name == CANDIDATE:
            raise GlueError(
                "vLLM refused /v1/chat/completions", "500 nan is not JSON compliant", "make logs"
            )
        learned = 0.5 if name == CANDIDATE and example in DATASET.held_out else 0.0
        return -1.0 + learned - (0.0 if example in ROWS else 3.0)

    def answer(self, name: str, prompt: Any, most_tokens: int, tools: Any = None) -> Reply:
        return Reply("The code is B10.", 6, 0.1)


FORM = "Passages:\n{{CONTEXT}}"
READ = {one.prompt[-1].content: one.right for one in reading.asked(PromptForm("", FORM))}


class Settings(dict[str, str]):
    def number(self, key: str) -> int:
        return 32


class Reader(StubVllm):
    """Each model reads as well as other people's passages need; knows: what the candidate answers
    right, of what was taught. forgets: nats a token on the base model's own answers."""

    def __init__(self, knows: int = 12, reads: bool = True, forgets: float = 0.0) -> None:
        super().__init__()
        self.knows, self.reads, self.forgets = knows, reads, forgets

    def answer(self, name: str, prompt: Any, most_tokens: int, tools: Any = None) -> Reply:
        asked = prompt[-1].content
        if asked in READ and (self.reads or name != CANDIDATE):
            return Reply(f"It is {READ[asked].value}.", 6, 0.1)
        known = name == CANDIDATE and asked in TAUGHT[: self.knows]
        return Reply(f"The code is B{asked[-3:-1]}." if known else "The code is A1.", 6, 0.1)

    def likelihood(self, name: str, example: Example) -> float:
        lost = self.forgets if name == CANDIDATE and example.source == "own" else 0.0
        return super().likelihood(name, example) - lost


TAUGHT = [f"Which code, {n}?" for n in range(20, 32)]


def asked_about(count: int) -> list[Variant]:
    return [
        Variant("phrased", Example((Message("user", q),), "", "", q), q, Fact(f"B{q[-3:-1]}"))
        for q in TAUGHT[:count]
    ]


@pytest.fixture
def site(tmp_path: Path) -> Any:
    (tmp_path / "adapters").mkdir()
    settings = Settings({"SYSTEM_PROMPT": "You are the team's assistant.", "RAG_TEMPLATE": FORM})
    return SimpleNamespace(
        store=AdapterStore(tmp_path / "adapters"), state=tmp_path, tell=print, settings=settings
    )


def night_of(
    site: Any, release: str, dataset: Dataset = DATASET, facts: int = 0, recipe: Any = RECIPE
) -> Any:
    """A night whose data set is on disk."""
    folder = site.state / "nights" / "tonight"
    dataset_files.write_parts(folder / "dataset", dataset)
    rows = map(asked_rows.as_row, asked_about(facts))
    dataset_files.write_lines(folder / "dataset" / "asked.jsonl", rows)
    parts = {field.name: len(getattr(dataset, field.name)) for field in fields(dataset)}
    (folder / "dataset" / "card.json").write_text(json.dumps({"parts": parts}))
    return SimpleNamespace(
        site=site, release=release, recipe=recipe, folder=folder, name="tonight", verdict=None
    )


def ask(
    site: Any,
    served: StubVllm,
    dataset: Dataset = DATASET,
    facts: int = 0,
    recipe: Any = RECIPE,
) -> tuple[Verdict, Any]:
    """The verdict and the evidence. The job runs in this process."""
    site.vllm = lambda: served

    def run(site: Any, asked: jobs.Job, still_wanted: Any) -> dict[str, Any]:
        order = json.loads(json.dumps(asked.order))
        return job.judge(Job(order, site.state, cast(Any, served), cast(Any, None), print))

    night = night_of(site, publish(site.store, "candidate"), dataset, facts, recipe)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jobs, "run", run)
        found = evaluate.judge(night)
    return found, files.read_json(night.folder / "evidence.json", {})


def test_a_good_candidate_is_accepted_and_unloaded(site: Any) -> None:
    served = StubVllm()
    verdict, seen = ask(site, served)
    assert verdict.promote, verdict.reasons
    assert not served.loaded and len(seen["samples"]) == RECIPE.sampled_answers
    assert ADAPTER not in served.scored, "the base model is the current one: it is asked once"
    assert served.scored.count(BASE) == len(ROWS)


def test_candidate_current_and_base_are_asked_side_by_side_where_an_adapter_serves(
    site: Any,
) -> None:
    serve(site.store, publish(site.store, "current"))
    served = StubVllm()
    ask(site, served)
    assert served.scored.count(ADAPTER) == served.scored.count(BASE) == len(ROWS)


def test_a_candidate_that_vllm_does_not_load_is_refused_as_broken_with_its_words(site: Any) -> None:
    verdict, _ = ask(site, StubVllm(refuses=True))
    assert verdict.faults == ("broken",) and "fused weights" in verdict.reasons[0]


def test_a_vllm_crash_by_the_candidate_is_an_error_without_a_verdict(site: Any) -> None:
    with pytest.raises(GlueError, match="refused"):
        ask(site, StubVllm(dies=True))


def test_a_candidate_that_cannot_be_scored_has_no_likelihood(site: Any) -> None:
    served = StubVllm(mute=True)
    verdict, _ = ask(site, served)
    assert verdict.faults == ("not finite",) and not served.loaded


def test_a_candidate_that_cannot_answer_is_refused_without_an_error(site: Any) -> None:
    class Speechless(StubVllm):
        def answer(self, name: str, prompt: Any, most_tokens: int, tools: Any = None) -> Reply:
            if name == CANDIDATE:
                raise GlueError("vLLM refused /v1/chat/completions", "500", "make logs")
            return super().answer(name, prompt, most_tokens, tools)

    verdict, _ = ask(site, Speechless())
    assert not verdict.promote and "empty" in verdict.faults


def test_a_candidate_changed_on_disk_is_not_judged(site: Any) -> None:
    name = publish(site.store, "candidate")
    (site.store.folder / name / "adapter_model.safetensors").write_text("other")
    with pytest.raises(GlueError, match="do not match its manifest"):
        evaluate.judge(night_of(site, name))


def test_of_many_rows_the_same_200_are_scored_each_time(site: Any) -> None:
    many = tuple(
        Example((Message("user", f"Which code, {n}?"),), f"The code is B{n}.", "", f"{n}")
        for n in range(450)
    )
    _, seen = ask(site, StubVllm(), replace(DATASET, held_out=many))
    sizes = {len(seen["held_out"][key]) for key in ("candidate", "base", "units", "decoy")}
    assert sizes == {job.MOST_ROWS}
    chosen = job.chosen(many)
    assert chosen == job.chosen(many) == job.chosen(chosen) and len(set(chosen)) == job.MOST_ROWS
    assert chosen[0] == many[0] and many.index(chosen[-1]) > 440


# ---------------------------------------------------------------------- trained for a checkpoint


def publish_merged(store: AdapterStore, content: str) -> str:
    """An adapter that was trained through the quantiser."""
    source = store.folder.parent / f"merged-{content}"
    source.mkdir()
    (source / "adapter_config.json").write_text('{"trained_through_quantiser": true}')
    (source / "adapter_model.safetensors").write_text(content)
    return store.publish(source, {"night": content})


class Restarted(StubVllm):
    """Answers for the base model with adapters, or for a checkpoint, as the store says; notes who
    was asked in which form."""

    def __init__(self, store: AdapterStore, candidate: str) -> None:
        super().__init__()
        self.store, self.candidate = store, candidate
        self.running = store.runs()
        self.asked: list[tuple[str | None, str]] = []

    def restart(self, _: Any) -> None:
        self.running = self.store.runs()

    def side(self, name: str) -> str:
        assert name == BASE or (self.running is None and name in (ADAPTER, *self.loaded)), name
        if (self.running, name) not in self.asked:
            self.asked.append((self.running, name))
        if self.running is None:
            return name
        return CANDIDATE if self.running == self.candidate else ADAPTER

    def likelihood(self, name: str, example: Example) -> float:
        return super().likelihood(self.side(name), example)

    def answer(self, name: str, prompt: Any, most_tokens: int, tools: Any = None) -> Reply:
        return super().answer(self.side(name), prompt, most_tokens, tools)


def judge_restarted(
    site: Any, candidate: str, monkeypatch: pytest.MonkeyPatch, late: bool = False
) -> tuple[Verdict, Restarted, Any]:
    served = Restarted(site.store, candidate)
    site.vllm = lambda: served
    until = 0.0 if late else 1e12
    desired_state.begin(site.state, DesiredState(Wanted.JUDGING, "tonight", until), "")
    site.store.set_judging(True)

    def run(site: Any, asked: jobs.Job, still_wanted: Any) -> dict[str, Any]:
        order = json.loads(json.dumps(asked.order))
        return job.judge(Job(order, site.state, cast(Any, served), cast(Any, None), print))

    def export_it(site: Any, release: str, form: str) -> None:
        make_checkpoint(site.store, release, f"of-{release}")

    monkeypatch.setattr(jobs, "run", run)
    monkeypatch.setattr(export, "ensure", export_it)
    monkeypatch.setattr(model, "ensure_form", served.restart)
    night = night_of(site, candidate)
    return evaluate.judge(night), served, night


def test_a_candidate_trained_for_its_checkpoint_is_asked_there_and_never_loaded(
    site: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    candidate = publish_merged(site.store, "merged candidate")
    verdict, served, night = judge_restarted(site, candidate, monkeypatch)
    assert verdict.promote, verdict.reasons
    assert served.asked == [(None, BASE), (candidate, BASE)] and not served.loaded
    assert site.store.runs() == candidate, "promoting it restarts nothing"
    beside, _ = ask(site, StubVllm())
    evidence = files.read_json(night.folder / "evidence.json", {})
    assert verdict.figures == beside.figures, "the same verdict as side by side"
    assert evidence["samples"] and evidence["held_out"]["candidate"]


def test_where_such_an_adapter_serves_it_is_asked_by_its_checkpoint_too(
    site: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    current, candidate = (publish_merged(site.store, one) for one in ("current", "candidate"))
    make_checkpoint(site.store, current, "current")
    serve(site.store, current)
    site.store.serve_as(current, True)
    verdict, served, _ = judge_restarted(site, candidate, monkeypatch)
    assert served.asked == [(None, BASE), (current, BASE), (candidate, BASE)]
    assert verdict.promote, verdict.reasons


def test_a_plain_candidate_is_loaded_beside_the_base_model_and_the_checkpoint_asked_after(
    site: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    current, candidate = publish_merged(site.store, "current"), publish(site.store, "candidate")
    make_checkpoint(site.store, current, "current")
    serve(site.store, current)
    site.store.serve_as(current, True)
    verdict, served, _ = judge_restarted(site, candidate, monkeypatch)
    assert verdict.promote, verdict.reasons
    assert {form for form, _ in served.asked} == {None, current}
    assert (None, CANDIDATE) in served.asked


def test_after_the_opening_no_checkpoint_is_started_for_judging(
    site: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    candidate = publish_merged(site.store, "merged candidate")
    verdict, served, _ = judge_restarted(site, candidate, monkeypatch, late=True)
    assert not verdict.promote and verdict.faults == ("late",) and not served.asked


def test_an_opening_that_passes_while_one_form_is_judged_starts_no_other(
    site: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = iter((False, False, True))
    monkeypatch.setattr(desired_state, "night_is_late", lambda _: next(late))
    candidate = publish_merged(site.store, "merged candidate")
    verdict, served, _ = judge_restarted(site, candidate, monkeypatch)
    assert not verdict.promote and verdict.faults == ("late",)
    assert served.asked == [(None, BASE)] and served.running is None


def test_evidence_is_readable_by_its_owner_only(site: Any) -> None:
    ask(site, StubVllm())
    evidence = site.state / "nights" / "tonight" / "evidence.json"
    assert evidence.stat().st_mode & 0o777 == 0o600


def test_a_merged_checkpoint_is_scored_on_the_night_s_held_out_answers(site: Any) -> None:
    night_of(site, "any")
    order = {"night": "nights/tonight", "name": BASE}
    asked = Job(order, site.state, cast(Any, StubVllm()), cast(Any, None), print)
    assert score.score(asked) == {"mean": -1.0}


# ---------------------------------------------------------------------- judged by answers


def test_without_facts_in_passages_likelihoods_decide_and_the_verdict_says_so(site: Any) -> None:
    found, seen = ask(site, Reader(), facts=9)
    assert found.promote and seen["answered"] == [] and seen["facts"] == 9
    assert found.notes[-1] == (
        "not judged by answers: 9 examples have facts in their passages, 10 are needed"
    )
    assert "replay's own source" in found.notes[0] and "p_better" not in found.figures


@pytest.mark.parametrize(("reads", "faults"), [(True, ()), (False, ("worse: reading",))])
def test_without_facts_a_recipe_that_trains_reading_is_judged_by_it(
    site: Any, reads: bool, faults: tuple[str, ...]
) -> None:
    found, seen = ask(site, Reader(reads=reads), recipe=replace(RECIPE, sort_by_support=True))
    assert found.faults == faults and seen["facts"] == 0
    assert len(seen["answered"]) == len(READ) + len(DATASET.general)
    assert found.notes[-1].startswith("what was taught is judged by likelihoods: 0 examples")


def test_a_night_that_answers_right_is_promoted_with_its_counts(site: Any) -> None:
    served = Reader()
    found, seen = ask(site, served, facts=12)
    assert found.promote and not found.notes, found
    counts = {key: found.figures[key] for key in ("right_before", "right_after", "asked")}
    assert counts == {"right_before": 0, "right_after": 12, "asked": 12}
    assert found.figures["reading_right"] == len(READ)
    assert found.figures["own_rows"] == len(READ) + len(DATASET.general)
    (one,) = (row for row in seen["answered"] if row["question"] == TAUGHT[0])
    assert one["texts"] == {"candidate": "The code is B20."} | dict.fromkeys(
        ("current", "base"), "The code is A1."
    )


@pytest.mark.parametrize(
    ("served", "fault"),
    [
        (Reader(knows=2), "no gain"),
        (Reader(reads=False), "worse: reading"),
    ],
)
def test_likelier_answers_alone_promote_nothing(site: Any, served: Reader, fault: str) -> None:
    found, _ = ask(site, served, facts=12)
    assert not found.promote and found.faults == (fault,)


def test_another_voice_alone_refuses_nothing_and_is_told(site: Any) -> None:
    found, _ = ask(site, Reader(forgets=0.5), facts=12)
    assert found.promote and "its own answers became less likely" in found.notes[-1]


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ('{"status": "ok"}', True),
        ('```json\n{"status": "ok"}\n```', True),
        ("ok", False),
        ('["ok"]', False),
        ("", False),
    ],
)
def test_json_is_recognised(text: str, is_one: bool) -> None:
    assert job.is_json(text) == is_one


@pytest.mark.parametrize(
    ("text", "saw"),
    [(f"{MARK} page 7: Uma's salary", "the night desk answered"), (" ", "an empty answer")],
)
def test_a_smoke_question_that_fails_says_so_without_the_documents_words(
    text: str, saw: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(promote, "SMOKE_SECONDS", 0)
    person = SimpleNamespace(ask=lambda messages: SimpleNamespace(text=text, sources=[]))
    with pytest.raises(GlueError, match="waiting for the model's answer") as error:
        promote.ask_for_smoke(SimpleNamespace(administrator=lambda: person), "Who earns what?")  # type: ignore[arg-type]
    assert error.value.saw == saw
