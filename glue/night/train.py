"""Steps 3 to 5: the night desk takes over, the trainer runs to its end, and its adapter is
stored."""

from __future__ import annotations

import shutil
import time
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

import glue
from glue.clients import host
from glue.clients.site import Site
from glue.core import desired_state, files, lock, waiting
from glue.core.desired_state import DesiredState, Wanted
from glue.core.errors import GlueError
from glue.core.waiting import Seen
from glue.machine import hours
from glue.night import evaluate
from glue.night.tonight import Night
from glue.serving import adapters, model, watch

DRAIN_SECONDS = 120  # the longest that a running answer is waited for
BASES = {"bf16": "TRAINED_MODEL", "served": "SERVED_MODEL"}  # the setting with the weights
ENGINES = {"grouped": "training.train", "unsloth": "training.train_unsloth"}
# of an adapter that training can continue
SHAPE = ("rank", "alpha", "target_modules", "target_parameters", "layers")
# of the recipe, what the trainer is told besides
SCHEDULE = (
    *("steps", "most_passes", "rows_per_step", "tokens_per_step"),
    *("learning_rate", "longest_tokens"),
)
LOOK_SECONDS = 1.0
# loading 63 GB took the case study 7 minutes; no step takes longer
SILENT_TRAINER_SECONDS = 1200


def hand_over(night: Night) -> None:
    """The night desk answers, running answers end, vLLM stops, and its memory is free."""
    site = night.site
    with lock.hold(site.state, lock.SWITCH, "hand over to the night", model.SWITCH_WAIT_SECONDS):
        desired = DesiredState(Wanted.NIGHT, night.name, until_time(night))
        desired_state.begin(site.state, desired, "make day; the next night starts afresh")
        night.switched = True
        model.write_notice(site, "night", back_at(night))
        model.wait_for_door(site, "night-desk")
        drain(site)
        site.stacks.stop("day", "vllm")
    model.wait_for_memory(site, "NIGHT_FREE_BYTES")


def back_at(night: Night) -> str:
    """The time of day that people are told: this night's latest end, or the opening if that is
    sooner."""
    latest = night.deadline_time + night.site.settings.number("DAY_DEADLINE_SECONDS")
    return datetime.fromtimestamp(min(latest, opening(night))).strftime("%H:%M")


def opening(night: Night) -> float:
    return hours.of(night.site.settings).next_opening(datetime.now()).timestamp()


def until_time(night: Night) -> float:
    """When the day takes precedence, so that it serves at the opening. If that time has passed,
    the opening itself: for a night that a person starts just before it."""
    starts = opening(night) - night.site.settings.number("DAY_DEADLINE_SECONDS")
    return starts if starts > time.time() else opening(night)


def drain(site: Site) -> None:
    """Waits for the running answers, at most DRAIN_SECONDS."""
    served = site.vllm()

    def look() -> Seen[None]:
        running = served.running_requests()
        return Seen(running == 0, f"{running} answers still running")

    try:
        waiting.until("the last answers", look, DRAIN_SECONDS, tell=site.tell)
    except GlueError as error:
        site.tell(f"stopping the model anyway: {error.saw}")


def train(night: Night) -> None:
    """Runs the trainer to its end, its deadline or its silence. Raises GlueError if it made no
    adapter."""
    site = night.site
    files.write_json(night.folder / "job.json", job(night))
    with lock.hold(site.state, lock.SWITCH, "start the trainer", model.SWITCH_WAIT_SECONDS):
        desired_state.require(site.state, night.name)
        site.stacks.start_trainer(ENGINES[night.recipe.engine], f"/nights/{night.name}/job.json")
    with host.measured() as night.energy:
        wait_for_trainer(night)
    desired_state.require(site.state, night.name)  # without the lock: promotion requires it again
    result_file = night.folder / "result.json"
    lines = "" if result_file.exists() else site.stacks.last_log_lines("night", "trainer")
    site.stacks.remove_trainer()
    if not result_file.exists():
        raise GlueError("the trainer left no result", lines, f"see {night.folder}")
    night.result = read_result(result_file)
    if night.result.get("outcome") != "trained":
        reason = str(night.result.get("reason"))
        raise GlueError("the training failed", reason, f"see {night.folder}")


def read_result(path: Path) -> dict[str, Any]:
    try:
        return files.read_json(path, {})
    except files.Damaged as error:
        what = "the trainer's result cannot be read"
        raise GlueError(what, error.saw, f"see {path.parent}") from error


def job(night: Night) -> dict[str, Any]:
    """What images/trainer/training/train.py reads; paths as the container sees them."""
    settings = night.site.settings
    inside = f"/nights/{night.name}"
    return {
        "base_model": settings[BASES[night.recipe.base]],
        "served_model": settings["SERVED_MODEL"],
        "train_file": f"{inside}/dataset/train.jsonl",
        "output_folder": inside,
        "deadline_time": night.deadline_time,
        "memory_bytes": settings.number("TRAINING_MEMORY_BYTES"),
        "begin_from": begin_from(night),
        **{name: getattr(night.recipe, name) for name in (*SHAPE, *SCHEDULE)},
    }


def begin_from(night: Night) -> str:
    """The adapter that training continues, as a folder in the container. Empty for a new one,
    also if the current one has another shape or base."""
    current = night.site.store.current()
    if night.recipe.begin_from == "base" or current is None:
        return ""
    before = night.site.store.manifest(current)
    wanted = {key: getattr(night.recipe, key) for key in SHAPE} | base(night)
    other = [key for key in wanted if (before.get("recipe", {}) | before).get(key) != wanted[key]]
    if other:
        words = f"{current} has another {', '.join(other)}; the night trains a new adapter"
        night.site.tell(words)
        return ""
    return f"{model.ADAPTERS_IN_CONTAINER}/{current}"


def wait_for_trainer(night: Night) -> None:
    """Returns when it has ended. Stops one that is past the deadline, silent, or about to use up
    the machine's memory."""
    site, last = night.site, {"phase": "starting"}
    heard = time.monotonic()  # not the clock, which can be set

    def look() -> Seen[None]:
        nonlocal last, heard
        trainer = site.stacks.trainer()
        rows = files.read_lines(night.folder / "progress.jsonl")
        if rows and rows[-1] != last:
            last, heard = rows[-1], time.monotonic()
        if fault := watch.trainer_fault(
            host.available_bytes(),
            host.memory_stall_percent(),
            site.settings.number("MEMORY_RESERVE_BYTES"),
            time.monotonic() - heard,
            SILENT_TRAINER_SECONDS,
        ):
            # at once: its result is not needed, and it takes gigabytes of memory a second
            site.stacks.remove_trainer(patience_seconds=0)
            saw = f"{fault}; its last line: {last}"
            raise GlueError("the trainer was stopped", saw, f"see {night.folder}")
        ended = trainer is None or trainer.state not in ("created", "running")
        return Seen(ended, progress_words(last))

    # it ends by itself at the deadline, after its current step and saving
    patience = night.deadline_time - time.time() + SILENT_TRAINER_SECONDS
    waiting.until("the trainer", look, patience, LOOK_SECONDS, tell=night.site.tell)


def progress_words(row: dict[str, Any]) -> str:
    if row["phase"] != "train" or "loss" not in row:
        return f"trainer: {row['phase']}"
    return f"trainer: step {row['step']} of {row['steps']}, loss {row['loss']:.3f}"


def publish(night: Night) -> None:
    """Stores the adapter, complete or not at all. It does not serve yet. A broken one is
    refused."""
    problems = adapters.problems(night.site, night.folder / "adapter")
    if problems:
        night.verdict = evaluate.broken(problems)
        return
    night.reserve.unlink(missing_ok=True)
    night.release = night.site.store.publish(night.folder / "adapter", manifest(night))
    for name in ("scratch", "adapter"):  # the release holds it; more copies would fill the disk
        shutil.rmtree(night.folder / name, ignore_errors=True)


def manifest(night: Night) -> dict[str, Any]:
    """The release's, to which publishing adds name and checksums."""
    settings = night.site.settings
    models = files.read_json_if_whole(night.site.state / "models.json", {})
    return {
        "night": night.name,
        "recipe": asdict(night.recipe),
        **base(night),
        "served_model": settings["SERVED_MODEL"],
        "served_revision": revision(models, settings["SERVED_MODEL"]),
        "dataset": night.card,
        "training": night.result,
        "versions": {
            "glue": glue.__version__,
            "images": {key: settings.image(key) for key in ("VLLM_IMAGE", "TRAINER_IMAGE")},
        },
        "counts": night.dataset["card"]["parts"],
        "examples": night.dataset["fingerprints"],
        "origins": origins(night),
    }


def base(night: Night) -> dict[str, str]:
    """The weights that an adapter is trained on."""
    name = night.site.settings[BASES[night.recipe.base]]
    models = files.read_json_if_whole(night.site.state / "models.json", {})
    return {"base_model": name, "base_revision": revision(models, name)}


def origins(night: Night) -> list[str]:
    """The origins of its own examples and of the adapter that it continued."""
    before = Path(
        files.read_json_if_whole(night.folder / "job.json", {}).get("begin_from", "")
    ).name
    inherited = night.site.store.manifest(before).get("origins", []) if before else []
    return sorted({*night.dataset["origins"], *inherited})


def revision(models: dict[str, Any], name: str) -> str:
    """The commit that was fetched, if the model was."""
    return str(models.get(name, {}).get("commit") or "made on this machine")
