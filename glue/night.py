"""One night, from the team's ratings to a promoted adapter or a reason why not. Whatever happens, the day serves after it."""

from __future__ import annotations

import json
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import fmean
from typing import Any

from glue import adapters, day, doctor, files, journal, judge, lock, plan, vllm, waiting
from glue.learning import dataset, feedback
from glue.learning.feedback import PromptForm
from glue.night_desk import MARK
from glue.recipes import Recipe
from glue.site import Site
from glue.types import Dataset, DayNotServing, Example, GateRefused, GlueError, PreconditionFailed, Verdict
from glue.waiting import Seen

DRAIN_SECONDS = 120  # the longest that a running answer is waited for
ENGINES = {"grouped": "training.night", "unsloth": "training.unsloth_night"}
SILENT_TRAINER_SECONDS = 1200  # loading 63 GB took the case study 7 minutes; no step takes longer than that


@dataclass
class Night:
    """What one night knows so far; each step adds to it."""

    site: Site
    name: str
    recipe: Recipe
    deadline_time: float
    dataset: Dataset = field(default_factory=lambda: Dataset((), (), ()))
    result: dict[str, Any] = field(default_factory=dict)
    release: str = ""
    verdict: Verdict | None = None
    moved: bool = False

    @property
    def folder(self) -> Path:
        return self.site.state / "nights" / self.name


class NothingNew(Exception):
    """Too little to learn from; the day was never touched."""


def run(site: Site, until_time: float | None = None) -> dict[str, Any]:
    """The whole night. until_time: a Unix time by which training must have ended.

    Returns its summary, with "outcome": promoted or nothing new. Raises GateRefused, with the day serving, when the gate
    said no; Locked when another night runs; PreconditionFailed before anything was stopped; GlueError when it failed.
    """
    recipe = site.recipe()
    with lock.hold(site.state, lock.NIGHT, "a night"):
        longest = time.time() + recipe.longest_minutes * 60
        night = Night(site, f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}", recipe, min(longest, until_time or longest))
        started = time.monotonic()
        outcome, reason = "failed", ""
        try:
            outcome, reason = live(night)
        except BaseException as error:
            reason = f"{type(error).__name__}: {error}"
            raise
        finally:
            try:
                bring_back_the_day(night, reason)
            finally:
                seconds = round(time.monotonic() - started)
                end = {"outcome": outcome, "reason": reason, "seconds": seconds, "adapter": night.release or None}
                journal.record(site.state, night=night.name, **end)
    if outcome == "refused":
        raise GateRefused("the night's adapter was refused; the day serves as before", reason, f"see {night.folder}/verdict.json")
    return {"night": night.name, **end}


def bring_back_the_day(night: Night, reason: str) -> None:
    """Not to be interrupted. Raises DayNotServing, with the night's own reason, if the day does not come back."""
    if not night.moved:
        return
    with uninterrupted():
        try:
            day.ensure(night.site, insist=True)
        except Exception as error:
            saw = f"{error}; the night: {reason or 'went well'}"
            raise DayNotServing("the day did not come back after the night", saw, "make day") from error


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Signals that end a program are ignored meanwhile, and mean what they meant before afterwards."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def live(night: Night) -> tuple[str, str]:
    """The ten steps in order. Returns (outcome, reason)."""
    steps: dict[str, Callable[[Night], None]] = {
        "collect": collect,
        "check": check,
        "hand over": hand_over,
        "train": train,
        "publish": publish,
        "start day": start_day,
        "judge": judge_candidate,
        "promote": promote,
        "smoke": smoke,
        "report": report,
    }
    for number, (name, act) in enumerate(steps.items(), 1):
        night.site.tell(f"night {night.name}: {number} of {len(steps)}, {name}")
        try:
            with journal.step(night.site.state, night.name, name):
                act(night)
        except NothingNew as words:
            return "nothing new", str(words)
    assert night.verdict is not None
    return ("promoted" if night.verdict.promote else "refused"), "; ".join(night.verdict.reasons)


# ---------------------------------------------------------------------- 1, 2: while the day still serves


def collect(night: Night) -> None:
    """Ratings become a dataset. Raises NothingNew if there is too little that no earlier night has had."""
    site, recipe = night.site, night.recipe
    form = PromptForm(site.settings["SYSTEM_PROMPT"], site.settings["RAG_TEMPLATE"])
    collected = feedback.collect(site.administrator().ratings(), form)
    known = learned_before(site)
    new = [row for row in collected.examples if dataset.fingerprint(row) not in known]
    site.tell(f"{len(collected.examples)} rated answers, {len(new)} of them new; left out: {collected.rejected or 'none'}")
    if len(new) < recipe.fewest_new_examples:
        raise NothingNew(f"{len(new)} new examples, a night wants {recipe.fewest_new_examples}")
    replay = read_replay(site.state / recipe.replay_file) if recipe.replay_file else ()
    night.dataset = dataset.build(collected.examples, replay, recipe.held_out_share, recipe.general_rows, recipe.replay_rows)
    if not night.dataset.held_out:
        raise NothingNew("no rated answer can be held out to judge by; two conversations are the least")
    write_dataset(night)


def learned_before(site: Site) -> set[str]:
    """Fingerprints of what any adapter was trained on and judged by: one that was refused or rolled back stays so."""
    releases = site.releases
    return {fingerprint for name in releases.names() for fingerprint in releases.manifest(name).get("examples", [])}


def read_replay(path: Path) -> tuple[Example, ...]:
    """Raises PreconditionFailed, naming the line, for a file that is not there or a row that is no example."""
    if not path.exists():
        raise PreconditionFailed("the recipe's replay file is not there", str(path), 'put it there, or set replay_file = ""')
    rows: list[Example] = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            rows.append(dataset.from_row(json.loads(line)))
        except (ValueError, KeyError, TypeError, IndexError) as error:
            saw = f"{path}, line {number}: {type(error).__name__}: {error}"
            raise PreconditionFailed("the replay file has a row that is no example", saw, "correct or remove the line") from error
    return tuple(rows)


def write_dataset(night: Night) -> None:
    folder = night.folder / "dataset"
    folder.mkdir(parents=True)
    parts = {
        "train": night.dataset.train + night.dataset.replay,
        "held_out": night.dataset.held_out,
        "general": night.dataset.general,
    }
    for name, rows in parts.items():
        lines = "".join(json.dumps(dataset.as_row(row), ensure_ascii=False) + "\n" for row in rows)
        files.write(folder / f"{name}.jsonl", lines, mode=0o600)


def check(night: Night) -> None:
    """Everything that the night and the morning will need is there. Raises PreconditionFailed; nothing was stopped yet."""
    site = night.site
    doctor.require(site, doctor.NIGHT)
    if not (site.state / "base_model.json").exists():
        raise PreconditionFailed("the base model's facts are not there", "no base_model.json", "make setup")
    late = plan.not_serving(site.stacks.services("day"))
    if late:
        raise PreconditionFailed("the day is not whole, so no night begins", str(late), "make day")


# ---------------------------------------------------------------------- 3 to 5: the night itself


def hand_over(night: Night) -> None:
    """The desk answers; what runs in vLLM ends in peace; vLLM stops; its memory is really free."""
    site = night.site
    with lock.hold(site.state, lock.MOVE, "hand over to the night", day.MOVE_WAIT_SECONDS):
        night.moved = True
        day.notice(site, "night", back_at(night))
        day.wait_for_door(site, "night-desk")
        drain(site)
        site.stacks.stop("day", "vllm")
    day.make_room(site, "NIGHT_FREE_BYTES")


def back_at(night: Night) -> str:
    """The time of day that people are told: the latest end of this night, or the start of the day if that is sooner."""
    settings = night.site.settings
    latest = night.deadline_time + settings.number("DAY_DEADLINE_SECONDS")
    return datetime.fromtimestamp(min(latest, waiting.next_moment(settings["DAY_AT"]))).strftime("%H:%M")


def drain(site: Site) -> None:
    """Waits for the answers that run, and no longer than DRAIN_SECONDS: a user who waits beats one answer that never ends."""
    served = site.vllm()

    def look() -> Seen[None]:
        running = served.running_requests()
        return Seen(running == 0, f"{running} answers still running")

    try:
        waiting.until("the last answers", look, DRAIN_SECONDS, tell=site.tell)
    except GlueError as error:
        site.tell(f"stopping the model all the same: {error.saw}")


def train(night: Night) -> None:
    """Runs the trainer to its end, its deadline, or its silence. Raises GlueError with its reason if nothing came of it."""
    site = night.site
    files.write_json(night.folder / "job.json", job(night))
    with lock.hold(site.state, lock.MOVE, "start the trainer", day.MOVE_WAIT_SECONDS):
        model = site.stacks.services("day").get("vllm")
        if model is not None and model.state in ("running", "restarting"):
            raise GlueError("the day was brought back meanwhile", f"vllm is {model.state}", "make night, when it may")
        site.stacks.start_trainer(ENGINES[night.recipe.engine], f"/nights/{night.name}/job.json")
    wait_for_trainer(night)
    result_file = night.folder / "result.json"
    if not result_file.exists():
        lines = site.stacks.last_log_lines("night", "trainer")
        site.stacks.remove_trainer()
        raise GlueError("the trainer left no result", lines, f"see {night.folder}")
    site.stacks.remove_trainer()
    night.result = json.loads(result_file.read_text(encoding="utf-8"))
    if night.result.get("outcome") != "trained":
        raise GlueError("the training failed", str(night.result.get("reason")), f"see {night.folder}")


def job(night: Night) -> dict[str, Any]:
    """What glue/training/night.py reads; paths as the container sees them."""
    recipe, settings = night.recipe, night.site.settings
    inside = f"/nights/{night.name}"
    return {
        "base_model": settings["TRAINED_MODEL"],
        "served_model": settings["SERVED_MODEL"],
        "train_file": f"{inside}/dataset/train.jsonl",
        "output_folder": inside,
        "deadline_time": night.deadline_time,
        "steps": recipe.steps,
        "rows_per_step": recipe.rows_per_step,
        "tokens_per_step": recipe.tokens_per_step,
        "memory_bytes": settings.number("TRAINING_MEMORY_BYTES"),
        "learning_rate": recipe.learning_rate,
        "rank": recipe.rank,
        "alpha": recipe.alpha,
        "longest_tokens": recipe.longest_tokens,
        "target_modules": recipe.target_modules,
        "target_parameters": recipe.target_parameters,
        "layers": recipe.layers,
        "begin_from": begin_from(night),
    }


def begin_from(night: Night) -> str:
    """The folder of the adapter that is trained on, or empty for a new one: also where that one trained other weights."""
    current = night.site.releases.current()
    if night.recipe.begin_from == "base" or current is None:
        return ""
    before = night.site.releases.manifest(current).get("recipe", {})
    if any(before.get(key) != getattr(night.recipe, key) for key in ("rank", "target_modules", "target_parameters", "layers")):
        night.site.tell(f"{current} was trained by another recipe; the night begins a new adapter")
        return ""
    return f"{day.ADAPTERS_IN_CONTAINER}/{current}"


def wait_for_trainer(night: Night) -> None:
    """Returns when it has ended. A trainer that is past the deadline or has been silent for long is stopped."""
    started = time.time()

    def look() -> Seen[None]:
        trainer = night.site.stacks.trainer()
        rows = files.read_lines(night.folder / "progress.jsonl")
        last: dict[str, Any] = rows[-1] if rows else {"phase": "starting", "time": started}
        if time.time() - last["time"] > SILENT_TRAINER_SECONDS:
            night.site.stacks.remove_trainer()
            raise GlueError("the trainer fell silent and was stopped", str(last), f"see {night.folder}")
        return Seen(trainer is None or trainer.state not in ("created", "running"), progress_words(last))

    # the trainer ends by itself at the deadline; the rest is for the step that it is in, and for saving
    patience = night.deadline_time - started + SILENT_TRAINER_SECONDS
    waiting.until("the trainer", look, patience, 1.0, tell=night.site.tell)


def progress_words(row: dict[str, Any]) -> str:
    if row["phase"] != "train" or "loss" not in row:
        return f"trainer: {row['phase']}"
    return f"trainer: step {row['step']} of {row['steps']}, loss {row['loss']:.3f}"


def publish(night: Night) -> None:
    """The adapter becomes a release, whole or not at all. It does not serve yet."""
    adapters.require_good(night.site, night.folder / "adapter")
    manifest = {
        "night": night.name,
        "recipe": asdict(night.recipe),
        "base_model": night.site.settings["TRAINED_MODEL"],
        "training": night.result,
        "counts": {part: len(getattr(night.dataset, part)) for part in ("train", "held_out", "general", "replay")},
        "examples": sorted(dataset.fingerprint(row) for row in night.dataset.learned),
    }
    night.release = night.site.releases.publish(night.folder / "adapter", manifest)
    for name in ("scratch", "adapter"):  # the release holds it now; three copies a night fill a disk
        shutil.rmtree(night.folder / name, ignore_errors=True)


# ---------------------------------------------------------------------- 6 to 10: the day again


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
