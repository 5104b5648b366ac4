"""Steps 3 to 5, the night itself: the desk takes over, the trainer runs to its end, what it made
becomes a release."""

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
from glue.core.desired_state import Turn, Wanted
from glue.core.errors import GlueError
from glue.core.waiting import Seen
from glue.machine import hours
from glue.night import evaluate
from glue.night.tonight import Night
from glue.serving import adapters, model, watch

DRAIN_SECONDS = 120  # the longest that a running answer is waited for
ENGINES = {"grouped": "training.train", "unsloth": "training.train_unsloth"}
SHAPE = (
    "rank",
    "alpha",
    "target_modules",
    "target_parameters",
    "layers",
)  # of an adapter that can be gone on with
LOOK_SECONDS = 1.0
SILENT_TRAINER_SECONDS = (
    1200  # loading 63 GB took the case study 7 minutes; no step takes longer than that
)


def hand_over(night: Night) -> None:
    """The desk answers; what runs in vLLM ends in peace; vLLM stops; its memory is really free."""
    site = night.site
    with lock.hold(site.state, lock.MOVE, "hand over to the night", model.MOVE_WAIT_SECONDS):
        desired_state.begin(
            site.state,
            Turn(Wanted.NIGHT, night.name, morning(night)),
            "make day; the next night begins anew",
        )
        night.moved = True
        model.notice(site, "night", back_at(night))
        model.wait_for_door(site, "night-desk")
        drain(site)
        site.stacks.stop("day", "vllm")
    model.make_room(site, "NIGHT_FREE_BYTES")


def back_at(night: Night) -> str:
    """The time of day that people are told: the latest end of this night, or the start of the day
    if that is sooner."""
    latest = night.deadline_time + night.site.settings.number("DAY_DEADLINE_SECONDS")
    return datetime.fromtimestamp(min(latest, opening(night).timestamp())).strftime("%H:%M")


def opening(night: Night) -> datetime:
    return hours.of(night.site.settings).next_opening(datetime.now())


def morning(night: Night) -> float:
    """From when the day goes first: early enough to serve when the office opens."""
    opens = opening(night).timestamp()
    begins = opens - night.site.settings.number("DAY_DEADLINE_SECONDS")
    return (
        begins if begins > time.time() else opens
    )  # a person who begins a night just before the morning means it


def drain(site: Site) -> None:
    """Waits for the answers that run, and no longer than DRAIN_SECONDS: a user who waits beats one
    answer that never ends."""
    served = site.vllm()

    def look() -> Seen[None]:
        running = served.running_requests()
        return Seen(running == 0, f"{running} answers still running")

    try:
        waiting.until("the last answers", look, DRAIN_SECONDS, tell=site.tell)
    except GlueError as error:
        site.tell(f"stopping the model all the same: {error.saw}")


def train(night: Night) -> None:
    """Runs the trainer to its end, its deadline, or its silence. Raises GlueError with its reason
    if nothing came of it."""
    site = night.site
    files.write_json(night.folder / "job.json", job(night))
    with lock.hold(site.state, lock.MOVE, "start the trainer", model.MOVE_WAIT_SECONDS):
        desired_state.require(site.state, night.name)
        site.stacks.start_trainer(ENGINES[night.recipe.engine], f"/nights/{night.name}/job.json")
    with host.measured() as used:
        wait_for_trainer(night)
    files.write_json(night.folder / "energy.json", used)
    desired_state.require(
        site.state, night.name
    )  # a look only: it saves the work that promotion would refuse
    result_file = night.folder / "result.json"
    if not result_file.exists():
        lines = site.stacks.last_log_lines("night", "trainer")
        site.stacks.remove_trainer()
        raise GlueError("the trainer left no result", lines, f"see {night.folder}")
    site.stacks.remove_trainer()
    night.result = read_result(result_file)
    if night.result.get("outcome") != "trained":
        raise GlueError(
            "the training failed", str(night.result.get("reason")), f"see {night.folder}"
        )


def read_result(path: Path) -> dict[str, Any]:
    try:
        return files.read_json(path, {})
    except files.Damaged as error:
        raise GlueError(
            "the trainer left a result that is none", error.saw, f"see {path.parent}"
        ) from error


def job(night: Night) -> dict[str, Any]:
    """What images/trainer/training/train.py reads; paths as the container sees them."""
    recipe, settings = night.recipe, night.site.settings
    inside = f"/nights/{night.name}"
    return {
        "base_model": settings["TRAINED_MODEL"],
        "served_model": settings["SERVED_MODEL"],
        "train_file": f"{inside}/dataset/train.jsonl",
        "output_folder": inside,
        "deadline_time": night.deadline_time,
        "steps": recipe.steps,
        "most_passes": recipe.most_passes,
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
    """The folder of the adapter that is trained on, or empty for a new one: also where that one is
    of another shape or base."""
    current = night.site.releases.current()
    if night.recipe.begin_from == "base" or current is None:
        return ""
    before = night.site.releases.manifest(current)
    wanted = {key: getattr(night.recipe, key) for key in SHAPE} | base(night.site)
    other = [key for key in wanted if (before.get("recipe", {}) | before).get(key) != wanted[key]]
    if other:
        night.site.tell(
            f"{current} was trained with another {', '.join(other)}; the night begins a new adapter"
        )
        return ""
    return f"{model.ADAPTERS_IN_CONTAINER}/{current}"


def wait_for_trainer(night: Night) -> None:
    """Returns when it has ended. One that is past the deadline, silent for long or about to starve
    the machine is stopped."""
    site, last, heard = (
        night.site,
        {"phase": "starting"},
        time.monotonic(),
    )  # not the clock, which can be set

    def look() -> Seen[None]:
        nonlocal last, heard
        trainer = site.stacks.trainer()
        rows = files.read_lines(night.folder / "progress.jsonl")
        if rows and rows[-1] != last:
            last, heard = rows[-1], time.monotonic()
        reserve, silent = site.settings.number("MEMORY_RESERVE_BYTES"), time.monotonic() - heard
        memory = (host.available_bytes(), host.memory_stall_percent())
        wrong = trainer_fault(*memory, reserve, silent, SILENT_TRAINER_SECONDS)
        if wrong:
            site.stacks.remove_trainer(
                patience_seconds=0
            )  # what it has is not used, and memory is lost by gigabytes a second
            raise GlueError(
                "the trainer was stopped", f"{wrong}; last it said {last}", f"see {night.folder}"
            )
        return Seen(
            trainer is None or trainer.state not in ("created", "running"), progress_words(last)
        )

    # the trainer ends by itself at the deadline; the rest is for the step that it is in, and for
    # saving
    patience = night.deadline_time - time.time() + SILENT_TRAINER_SECONDS
    waiting.until("the trainer", look, patience, LOOK_SECONDS, tell=night.site.tell)


def progress_words(row: dict[str, Any]) -> str:
    if row["phase"] != "train" or "loss" not in row:
        return f"trainer: {row['phase']}"
    return f"trainer: step {row['step']} of {row['steps']}, loss {row['loss']:.3f}"


def publish(night: Night) -> None:
    """The adapter becomes a release, whole or not at all. It does not serve yet. One that is broken
    is refused here."""
    problems = adapters.problems(night.site, night.folder / "adapter")
    if problems:
        night.verdict = evaluate.broken(problems)
        return
    night.reserve.unlink(missing_ok=True)
    night.release = night.site.releases.publish(night.folder / "adapter", manifest(night))
    for name in (
        "scratch",
        "adapter",
    ):  # the release holds it now; three copies a night fill a disk
        shutil.rmtree(night.folder / name, ignore_errors=True)


def manifest(night: Night) -> dict[str, Any]:
    """Beside its name and the hash of each file, which publishing adds, and the verdict, which
    judging does."""
    settings, models = (
        night.site.settings,
        files.read_json_if_whole(night.site.state / "models.json", {}),
    )
    return {
        "night": night.name,
        "recipe": asdict(night.recipe),
        **base(night.site),
        "served_model": settings["SERVED_MODEL"],
        "served_revision": revision(models, settings["SERVED_MODEL"]),
        "dataset": files.read_json_if_whole(night.folder / "dataset" / "card.json", {}),
        "training": night.result,
        "versions": {
            "glue": glue.__version__,
            "images": {key: settings.image(key) for key in ("VLLM_IMAGE", "TRAINER_IMAGE")},
        },
        "counts": night.dataset["card"]["parts"],
        "examples": night.dataset["fingerprints"],
        "origins": origins(night),
    }


def base(site: Site) -> dict[str, str]:
    """The weights that an adapter is trained on."""
    name = site.settings["TRAINED_MODEL"]
    return {
        "base_model": name,
        "base_revision": revision(files.read_json_if_whole(site.state / "models.json", {}), name),
    }


def origins(night: Night) -> list[str]:
    """Of its own examples, and of those of the adapter that it went on from, which are in its
    numbers too."""
    before = Path(
        files.read_json_if_whole(night.folder / "job.json", {}).get("begin_from", "")
    ).name
    inherited = night.site.releases.manifest(before).get("origins", []) if before else []
    return sorted({*night.dataset["origins"], *inherited})


def revision(models: dict[str, Any], name: str) -> str:
    """The commit that was fetched; a model that was made on this machine has none."""
    return str(models.get(name, {}).get("commit") or "made on this machine")


def trainer_fault(
    available_bytes: int,
    stall_percent: float,
    reserve_bytes: int,
    silent_seconds: float,
    most_silent_seconds: float,
) -> str:
    """Why a running trainer must be stopped now, in words; empty if it may go on. On a GB10 the
    alternative is a hung machine.

    stall_percent: see host.memory_stall_percent. Two signs, because each alone has been seen to
    miss: a GB10 failed with 22 GiB
    of MemAvailable (https://github.com/vllm-project/vllm/issues/56824), and one hung in reclaim
    with 8.7 GiB free
    (https://github.com/MiaAI-Lab/DeepSeek-v4.1-Flash-DGX-Sparks/issues/23).
    """
    if available_bytes < reserve_bytes:
        return (
            f"{available_bytes / 1e9:.1f} GB of memory left to the machine,"
            f" {reserve_bytes / 1e9:.1f} GB are its own"
        )
    if (
        stall_percent > watch.MOST_STALL_PERCENT
        and available_bytes < watch.PRESSURE_RESERVES * reserve_bytes
    ):
        return f"for {stall_percent:.0f} % of the last 10 s the whole machine waited for memory"
    if silent_seconds > most_silent_seconds:
        return f"silent for {silent_seconds:.0f} s"
    return ""
