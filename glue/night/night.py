"""A night: from ratings to a promoted adapter, or a reason why not. Afterwards the day serves."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

from glue.clients.site import Site
from glue.core import beside_plan, commands, desired_state, journal, lock, upgrade_note
from glue.core.errors import DayNotServing, PreconditionFailed
from glue.machine import hours
from glue.night import collect, elsewhere, promote, report, train
from glue.night.tonight import Night, NothingNew
from glue.operations import backup
from glue.serving import day, recovery
from glue.serving.day import Caller
from glue.serving.last_night import NightRefused, Report

STEPS: dict[str, Callable[[Night], None]] = {
    # while the day still serves
    "collect": collect.collect,
    "check": collect.check,
    # the night itself
    "hand over": train.hand_over,
    "train": train.train,
    "publish": train.publish,
    # the day again
    "start day": lambda night: day.start_for_judging(night.site, night.name),
    "judge": promote.judge_candidate,
    "promote": promote.promote,
    "smoke": promote.smoke,
}
# with ROLE=serve
ELSEWHERE = {"train": elsewhere.train_there, "start day": elsewhere.start_judging}


def steps(site: Site) -> dict[str, Callable[[Night], None]]:
    """With ROLE=serve a peer trains, so nothing is handed over. With NIGHT=beside vLLM serves all
    night as well, and no day starts."""
    if site.settings["ROLE"] == "serve":
        return {
            name: ELSEWHERE.get(name, act) for name, act in STEPS.items() if name != "hand over"
        }
    if not beside_plan.chosen(site.settings):
        return STEPS
    later = ("train", "publish", "judge", "promote", "smoke")
    return {
        **{name: STEPS[name] for name in ("collect", "check")},
        "begin beside the day": train.begin_beside,
        **{name: STEPS[name] for name in later},
    }


def run(site: Site, until_time: float | None = None) -> dict[str, Any]:
    """Runs a night. until_time: the Unix time by which training ends; default: by the site's hours.

    Returns how it ended. Raises GateRefused if the gate refused the adapter, Locked if another
    night runs, PreconditionFailed before anything was stopped, and GlueError if the night failed.
    """
    recipe = site.recipe()
    if site.settings["ROLE"] == "train":
        do = "nights are run by the machine with ROLE=serve; or set ROLE=both in env/site.env"
        raise PreconditionFailed("this machine trains for its peers only", "ROLE=train", do)
    with lock.hold(site.state, lock.TRAINING, "a night"):
        upgrade_note.require_none(site.state)
        name = backup.free_name(site.state / "nights")
        longest = time.time() + recipe.longest_minutes * 60
        night = Night(site, name, recipe, min(longest, until_time or training_end(site)))
        undo_dead_nights(night)
        found = run_to_its_end(night)
    if found.outcome == "refused":
        raise NightRefused(found, night.folder)
    return {"night": night.name, **found.end}


def run_to_its_end(night: Night) -> Report:
    """The day is started and the report written even if a step fails."""
    started = time.monotonic()
    outcome, reason = "failed", ""
    try:
        outcome, reason = run_steps(night)
    except BaseException as error:
        reason = f"{type(error).__name__}: {error}"
        outcome = "preempted" if isinstance(error, desired_state.Preempted) else outcome
        raise
    finally:
        night.reserve.unlink(missing_ok=True)
        try:
            bring_back_the_day(night, reason)
        finally:
            found = report.build(night, outcome, reason, time.monotonic() - started)
            report.close(night, found)
    return found


def run_steps(night: Night) -> tuple[str, str]:
    """Returns (outcome, reason)."""
    tonight = steps(night.site)
    for number, (name, act) in enumerate(tonight.items(), 1):
        night.site.tell(f"night {night.name}: step {number} of {len(tonight)}, {name}")
        started = time.monotonic()
        try:
            with journal.step(night.site.state, night.name, name):
                act(night)
        except NothingNew as words:
            return "nothing new", str(words)
        finally:
            night.steps[name] = round(time.monotonic() - started, 1)
    assert night.verdict is not None
    return ("promoted" if night.verdict.promote else "refused"), "; ".join(night.verdict.reasons)


def training_end(site: Site) -> float:
    """The Unix time by which training ends, so that the evaluation ends before the opening. If that
    has passed, the opening itself: a person may start a night just before it."""
    found, now = hours.of(site.settings), datetime.now()
    opening = found.next_opening(now)
    ends = found.training_ends(opening)
    return (ends if ends > now else opening).timestamp()


def scheduled_end(site: Site) -> float:
    """training_end for a timer, which may be late. Raises PreconditionFailed outside the hours."""
    now = datetime.now()
    found = hours.of(site.settings).night(now)
    if found is None or found[1] - now < hours.LEAST_NIGHT:
        what, days = "no scheduled night starts now", site.settings["NIGHT_DAYS"]
        if not days:
            do = "sudo make schedule, which removes their timer; to start one: make night"
            raise PreconditionFailed(what, "NIGHT_DAYS is empty, which is no nights", do)
        saw = f"it is {now:%a %H:%M}; nights start at {site.settings['NIGHT_AT']}, {days}"
        raise PreconditionFailed(what, saw, "to start one: make night")
    return found[1].timestamp()


def undo_dead_nights(night: Night) -> None:
    """This night holds the training lock, so an earlier one without an end has died."""
    left = desired_state.read(night.site.state)
    if left is not None and left.night:
        day.start(night.site, Caller.NIGHT, night.name)
    recovery.record_dead_nights(night.site.state)


def bring_back_the_day(night: Night, reason: str) -> None:
    """Ignores interrupts. Raises DayNotServing, with the night's reason, if it does not start."""
    if not night.switched:
        return
    with commands.uninterrupted():
        try:
            day.start(night.site, Caller.NIGHT, night.name)
        except Exception as error:
            saw = f"{error}; the night: {reason or 'went well'}"
            what = "the day did not start after the night"
            raise DayNotServing(what, saw, "make day") from error
