"""Steps 3 to 5: switch to the night desk, train, and store the adapter."""

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
from glue.core import desired_state, files, lock, model_files, waiting
from glue.core.desired_state import DesiredState, Wanted
from glue.core.errors import GlueError
from glue.core.waiting import Seen
from glue.machine import hours, models
from glue.night import beside, evaluate
from glue.night.tonight import Night
from glue.serving import adapters, model

DRAIN_SECONDS = 120  # the longest that a running answer is waited for
ENGINES = {"grouped": "training.train", "unsloth": "training.train_unsloth"}
# of an adapter that training can continue
SHAPE = ("rank", "alpha", "target_modules", "target_parameters", "layers")
# of the recipe, what the trainer is told besides
SCHEDULE = (
    *("steps", "most_passes", "rows_per_step", "tokens_per_step"),
    *("learning_rate", "longest_tokens", "preferences"),
)
LOOK_SECONDS = 1.0
# loading 63 GB took the case study 7 minutes; no step takes longer
SILENT_TRAINER_SECONDS = 1200
# systemd-oomd acts at 60, after half a minute in which a GB10 may hang; a machine that has memory
# stays near 0.
MOST_STALL_PERCENT = 20.0
# With three times its reserve free a stall is no danger: reading 63 GB of weights evicts pages that
# the disk can give back.
PRESSURE_RESERVES = 3


def hand_over(night: Night) -> None:
    """Switches to the night desk, waits for running answers, and stops vLLM."""
    site = night.site
    with lock.hold(site.state, lock.SWITCH, "hand over to the night", model.SWITCH_WAIT_SECONDS):
        begin(night, Wanted.NIGHT)
        model.write_notice(site, "night", back_at(night))
        model.wait_for_door(site, "night-desk")
        drain(site)
        site.stacks.stop("day", "vllm")
    wait_for_memory(night)


def begin_beside(night: Night) -> None:
    """vLLM goes on serving. Like every night, it ends with a start of the day, which then serves
    already."""
    purpose = "begin a night beside the day"
    with lock.hold(night.site.state, lock.SWITCH, purpose, model.SWITCH_WAIT_SECONDS):
        begin(night, Wanted.JUDGING)
    wait_for_memory(night)


def begin(night: Night, wanted: Wanted) -> None:
    desired = DesiredState(wanted, night.name, until_time(night))
    desired_state.begin(night.site.state, desired, "make day; the next night trains again")
    night.switched = True


def wait_for_memory(night: Night) -> None:
    wanted = night.site.settings.night_bytes("NIGHT_FREE_BYTES", night.recipe.base)
    model.wait_for_memory(night.site, "NIGHT_FREE_BYTES", wanted)


def back_at(night: Night) -> str:
    """When the chat is back, for people: the latest end of this night, at most the opening."""
    latest = night.deadline_time + night.site.settings.number("DAY_DEADLINE_SECONDS")
    return datetime.fromtimestamp(min(latest, opening(night))).strftime("%H:%M")


def opening(night: Night) -> float:
    return hours.of(night.site.settings).next_opening(datetime.now()).timestamp()


def until_time(night: Night) -> float:
    """The Unix time from which the day takes precedence, so that it serves at the opening. If that
    has passed, the opening itself: a person may start a night just before it."""
    starts = opening(night) - night.site.settings.number("DAY_DEADLINE_SECONDS")
    return starts if starts > time.time() else opening(night)


def drain(site: Site) -> None:
    served = site.vllm()

    def look() -> Seen[None]:
        running = served.running_requests()
        return Seen(running == 0, f"{running} answers still running")

    try:
        waiting.until("the last answers", look, DRAIN_SECONDS, tell=site.tell)
    except GlueError as error:
        site.tell(f"stopping the model anyway: {error.saw}")


def train(night: Night) -> None:
    """Runs the trainer. Raises GlueError if it leaves no adapter."""
    site = night.site
    files.write_json(night.folder / "job.json", job(night))
    with lock.hold(site.state, lock.SWITCH, "start the trainer", model.SWITCH_WAIT_SECONDS):
        desired_state.require(site.state, night.name)
        site.stacks.start_trainer(ENGINES[night.recipe.engine], f"/nights/{night.name}/job.json")
    with host.measured() as night.energy:
        wait_for_trainer(night)
    desired_state.require(site.state, night.name)  # without the lock: promotion requires it again
    lines = site.stacks.last_log_lines("night", "trainer")
    site.stacks.remove_trainer()
    take_result(night, lines)


def take_result(night: Night, lines: str) -> None:
    """lines: the trainer's last ones. Raises GlueError if it left no adapter."""
    night.result = files.read_json_if_whole(night.folder / "result.json", {})
    if not night.result:
        raise GlueError("the trainer left no result", lines, f"see {night.folder}")
    if night.result.get("outcome") != "trained":
        reason = str(night.result.get("reason"))
        raise GlueError("the training failed", reason, f"see {night.folder}")


def job(night: Night) -> dict[str, Any]:
    """What images/trainer/training/train.py reads; paths as the container sees them."""
    settings = night.site.settings
    inside = f"/nights/{night.name}"
    return {
        "base_model": settings.base_model(night.recipe.base),
        "served_model": settings["SERVED_MODEL"],
        "train_file": f"{inside}/dataset/train.jsonl",
        "output_folder": inside,
        "deadline_time": night.deadline_time,
        "memory_bytes": settings.night_bytes("TRAINING_MEMORY_BYTES", night.recipe.base),
        "begin_from": begin_from(night),
        "search": asdict(night.recipe.search) if night.recipe.search else None,
        "merged": night.recipe.trains_merged,
        "preference_file": f"{inside}/dataset/preferences.jsonl",
        **{name: getattr(night.recipe, name) for name in (*SHAPE, *SCHEDULE)},
    }


def begin_from(night: Night) -> str:
    """The adapter that training continues, as a path in the container. Empty to train a new one,
    also if the current one has another shape or base model."""
    current = night.site.store.current()
    if night.recipe.begin_from == "base" or current is None:
        return ""
    before = night.site.store.manifest(current)
    wanted = {key: getattr(night.recipe, key) for key in SHAPE} | base(night)
    other = [key for key in wanted if (before.get("recipe", {}) | before).get(key) != wanted[key]]
    if other:
        why = f"{current} has another {', '.join(other)}"
        night.site.tell(f"{why}; the night trains a new adapter")
        return ""
    return f"{model.ADAPTERS_IN_CONTAINER}/{current}"


def wait_for_trainer(night: Night) -> None:
    """Waits for its end. Stops it after the deadline, if it is silent, if memory runs low, or if
    the day that it trains beside does not serve."""
    site, last = night.site, {"phase": "starting"}
    heard = time.monotonic()  # not the clock, which can be set

    def look() -> Seen[None]:
        nonlocal last, heard
        trainer = site.stacks.trainer()
        rows = files.read_lines(night.folder / "progress.jsonl")
        if rows and rows[-1] != last:
            last, heard = rows[-1], time.monotonic()
        if fault := trainer_fault(
            host.available_bytes(),
            host.memory_stall_percent(),
            site.settings.number("MEMORY_RESERVE_BYTES"),
            time.monotonic() - heard,
            SILENT_TRAINER_SECONDS,
        ) or beside.day_fault(night):
            # at once: its result is not needed, and it takes gigabytes of memory a second
            site.stacks.remove_trainer(patience_seconds=0)
            saw = f"{fault}; its last line: {last}"
            raise GlueError("the trainer was stopped", saw, f"see {night.folder}")
        ended = trainer is None or trainer.state not in ("created", "running")
        beside.let_people_first(night, ended)
        return Seen(ended, progress_words(last))

    # it ends by itself at the deadline, after its current step and saving
    patience = night.deadline_time - time.time() + SILENT_TRAINER_SECONDS
    waiting.until("the trainer", look, patience, LOOK_SECONDS, tell=night.site.tell)


def trainer_fault(
    available_bytes: int,
    stall_percent: float,
    reserve_bytes: int,
    silent_seconds: float,
    most_silent_seconds: float,
) -> str:
    """Why a running trainer must be stopped now, before the machine hangs; empty if it may go on.

    stall_percent: see host.memory_stall_percent. Two signs of low memory, since each alone was seen
    to miss: a GB10 failed with 22 GiB of MemAvailable
    (https://github.com/vllm-project/vllm/issues/56824), and one hung in reclaim with 8.7 GiB free
    (https://github.com/MiaAI-Lab/DeepSeek-v4.1-Flash-DGX-Sparks/issues/23).
    """
    if available_bytes < reserve_bytes:
        left, least = f"{available_bytes / 1e9:.1f} GB", f"{reserve_bytes / 1e9:.1f} GB"
        return f"{left} of memory left, less than the machine's reserve of {least}"
    if stall_percent > MOST_STALL_PERCENT and available_bytes < PRESSURE_RESERVES * reserve_bytes:
        return f"all processes waited for memory during {stall_percent:.0f} % of the last 10 s"
    if silent_seconds > most_silent_seconds:
        return f"no progress for {silent_seconds:.0f} s"
    return ""


def progress_words(row: dict[str, Any]) -> str:
    if row["phase"] == "search":
        return f"trainer: setting {row['trial']}, step {row['step']} of {row['steps']}"
    if row["phase"] != "train" or "loss" not in row:
        return f"trainer: {row['phase']}"
    return f"trainer: step {row['step']} of {row['steps']}, loss {row['loss']:.3f}"


def publish(night: Night) -> None:
    """Stores the adapter, which does not serve yet. A broken one gets a verdict instead."""
    problems = adapters.problems(night.site, night.folder / "adapter")
    if problems:
        night.verdict = evaluate.broken(problems)
        return
    night.reserve.unlink(missing_ok=True)
    night.release = night.site.store.publish(night.folder / "adapter", manifest(night))
    for name in ("scratch", "adapter"):  # the release holds it; more copies would fill the disk
        shutil.rmtree(night.folder / name, ignore_errors=True)


def manifest(night: Night) -> dict[str, Any]:
    """Facts about the adapter. The store adds its name and checksums."""
    settings = night.site.settings
    images = {key: settings.image(key) for key in ("VLLM_IMAGE", "TRAINER_IMAGE")}
    return {
        "night": night.name,
        "recipe": asdict(night.recipe) | chosen(night.result),
        **base(night),
        **models.served(night.site),
        "dataset": night.card,
        "training": night.result,
        "versions": {"glue": glue.__version__, "images": images},
        "counts": night.dataset["card"]["parts"],
        "examples": night.dataset["fingerprints"],
        "origins": origins(night),
    }


def chosen(result: dict[str, Any]) -> dict[str, Any]:
    """The recipe's keys that the search set."""
    keys = ("learning_rate", "most_passes", "rank", "alpha")
    setting = result.get("search", {}).get("setting", {})
    return {key: setting[key] for key in keys if key in setting}


def base(night: Night) -> dict[str, str]:
    """The weights that an adapter is trained on."""
    name = night.site.settings.base_model(night.recipe.base)
    commit = model_files.commit_of(night.site.state, name) or models.MADE_HERE
    return {"base_model": name, "base_revision": commit}


def origins(night: Night) -> list[str]:
    """The origins of its own examples and of the adapter that it continued."""
    trained = files.read_json_if_whole(night.folder / "job.json", {})
    before = Path(trained.get("begin_from", "")).name
    inherited = night.site.store.manifest(before).get("origins", []) if before else []
    return sorted({*night.dataset["origins"], *inherited})
