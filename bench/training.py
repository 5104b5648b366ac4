"""`python -m bench training`: times training steps of a plan in the trainer's container and
shows them beside the case study's."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from bench import swap, training_page, training_plan
from bench.training_plan import Plan
from glue.clients import host
from glue.clients.site import Site
from glue.core import desired_state, files, lock, waiting
from glue.core.desired_state import DesiredState, Preempted, Wanted
from glue.core.errors import GlueError, PreconditionFailed
from glue.core.waiting import Seen
from glue.serving import day, model

LONGEST_SECONDS = (
    12 * 3600
)  # 500 steps of the published loop on a Spark take under an hour; a plan may have a dozen settings
INSIDE = "/bench/training"


def verb(site: Site, options: dict[str, Any], command: str) -> dict[str, Any]:
    """Runs the command line's options. Returns the paths of the table and the pictures."""
    if options["result_file"]:
        result = json.loads(options["result_file"].read_text(encoding="utf-8"))
    else:
        plan = (
            training_plan.read(options["plan_file"])
            if options["plan_file"]
            else planned(site, options)
        )
        result = run(site, plan, options["anew"])
    return publish(result, options["out"] or site.state / "bench", options["stem"], command)


def planned(site: Site, options: dict[str, Any]) -> Plan:
    asked = {
        key: options[key]
        for key in ("engines", "checkpointing", "tokens", "packing", "steps", "layers")
    }
    recipe, budget_bytes = (
        site.recipe(options["recipe"]),
        site.settings.night_bytes("TRAINING_MEMORY_BYTES", "bf16"),
    )
    plan = training_plan.of_options(recipe, **asked, budget_bytes=budget_bytes)
    return plan | {"base_model": options["model"], "train_file": options["train_file"]}


def in_between(site: Site, command: str, keep: Callable[[dict[str, Any]], object]) -> None:
    """A few steps of the published engine and of ours. Stops the day's model meanwhile if there is
    no room for both.

    The caller holds the training lock. keep gets the result, as `python -m bench training` writes
    it. Raises as run() does.
    """
    plan = training_plan.few(site.recipe(site.settings["RECIPE"]), site.settings)
    with swap.the_day_after(site):
        if host.available_bytes() < site.settings.night_bytes("NIGHT_FREE_BYTES", "bf16"):
            swap.to_night(site, "")
        keep({"command": command, **measure(site, plan, anew=True)})
        day.start(site, day.Caller.NIGHT, swap.BENCH_NIGHT)


def run(site: Site, plan: Plan, anew: bool) -> dict[str, Any]:
    """Runs the part of the plan that is not measured yet and returns all of it. anew discards
    earlier results.

    Continues an interrupted run, or follows it if it still runs. Raises PreconditionFailed if the
    day uses the memory that training needs, Preempted if the day took over, and GlueError with the
    last lines if the bench failed.
    """
    with lock.hold(site.state, lock.TRAINING, "a training bench"):
        return measure(site, plan, anew)


def measure(site: Site, plan: Plan, anew: bool) -> dict[str, Any]:
    """As run(), with the training lock held."""
    folder = site.state / "bench" / "training"
    folder.mkdir(parents=True, exist_ok=True)
    with whose_turn(site) as ours:
        trainer = site.stacks.trainer()
        if trainer is None or trainer.state != "running":
            start(site, plan, folder, anew)
        follow(site, folder, plan)
        ended = site.stacks.trainer()
        if ended is None or desired_state.read(site.state) != ours:
            raise Preempted(
                "the bench was stopped",
                "the day went first",
                "run it again: it continues where it stopped",
            )
        lines = site.stacks.last_log_lines("night", "trainer")
        site.stacks.remove_trainer()
    if ended.exit_code != 0:
        raise GlueError(
            "the bench failed",
            lines,
            "lower tokens_per_step, or run it again: it continues where it stopped",
        )
    result: dict[str, Any] = json.loads((folder / "RESULT.json").read_text(encoding="utf-8"))
    return result


@contextmanager
def whose_turn(site: Site) -> Iterator[DesiredState]:
    """For the watch a bench is a night: the watch leaves the model stopped while it runs."""
    before, ours = (
        desired_state.read(site.state),
        DesiredState(Wanted.NIGHT, "bench", time.time() + LONGEST_SECONDS),
    )
    with lock.hold(site.state, lock.SWITCH, "begin a bench", model.SWITCH_WAIT_SECONDS):
        desired_state.write(site.state, ours)
    try:
        yield ours
    finally:
        with lock.hold(site.state, lock.SWITCH, "end a bench", model.SWITCH_WAIT_SECONDS):
            if desired_state.read(site.state) == ours:
                desired_state.write(site.state, before or DesiredState(Wanted.DAY))


def start(site: Site, plan: Plan, folder: Path, anew: bool) -> None:
    require_room(site)
    if anew:
        (folder / "RESULT.json").unlink(missing_ok=True)
    (folder / "PROGRESS.jsonl").unlink(missing_ok=True)
    files.write_json(folder / "PLAN.json", plan)
    site.stacks.start_trainer("training.bench.run", f"{INSIDE}/PLAN.json", f"{INSIDE}/RESULT.json")


def require_room(site: Site) -> None:
    wanted = site.settings.night_bytes("NIGHT_FREE_BYTES", "bf16")  # its weights are not packed
    free = host.available_bytes()
    if free < wanted:
        saw = f"{host.readable(free)} available, {host.readable(wanted)} wanted (NIGHT_FREE_BYTES)"
        raise PreconditionFailed(
            "there is not enough free memory for training",
            saw,
            "make stop, then the bench again, then make day",
        )


def follow(site: Site, folder: Path, plan: Plan) -> None:
    """Shows a progress bar until the container has ended."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, transient=True, console=Console(stderr=True)) as bars:
        bar = bars.add_task("starting", total=None)

        def look() -> Seen[None]:
            trainer = site.stacks.trainer()
            rows = files.read_lines(folder / "PROGRESS.jsonl")
            if rows:
                bars.update(
                    bar,
                    description=words(rows[-1], plan),
                    completed=rows[-1]["step"],
                    total=rows[-1]["steps"],
                )
            ended = trainer is None or trainer.state not in ("created", "running")
            return Seen(ended, words(rows[-1], plan) if rows else "loading the model")

        waiting.until("the bench", look, LONGEST_SECONDS, 1.0, tell=site.tell)


def words(row: dict[str, Any], plan: Plan) -> str:
    setting = plan["settings"][row["setting"] - 1]
    return (
        f"{row['setting']} of {row['settings']}: {setting['engine']},"
        f" {setting['tokens_per_step']:,} tokens a step"
    )


def publish(result: dict[str, Any], folder: Path, stem: str, command: str) -> dict[str, Any]:
    """Writes STEM.json, STEM.html and the pictures into folder and returns their paths."""
    result = {"command": command} | result  # the command that measured it, if the result has it
    made = training_page.write(result, folder, stem)
    files.write_json(folder / f"{stem}.json", result)
    return {
        "json": str(folder / f"{stem}.json"),
        "page": str(made[0]),
        "pictures": [str(path) for path in made[1:]],
    }
