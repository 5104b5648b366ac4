"""One night, from the team's ratings to a promoted adapter or a reason why not. Whatever happens,
the day serves after it."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from glue.clients.site import Site
from glue.core import commands, desired_state, journal, lock, upgrade_note
from glue.core.errors import DayNotServing, GateRefused, PreconditionFailed
from glue.machine import hours
from glue.night import collect, promote, train
from glue.night.tonight import Night, NothingNew
from glue.serving import day, recovery

NAME = "%Y%m%dT%H%M%SZ"
STEPS: dict[str, Callable[[Night], None]] = {
    # while the day still serves
    "collect": collect.collect,
    "check": collect.check,
    # the night itself
    "hand over": train.hand_over,
    "train": train.train,
    "publish": train.publish,
    # the day again
    "start day": promote.start_day,
    "judge": promote.judge_candidate,
    "promote": promote.promote,
    "smoke": promote.smoke,
    "report": promote.report,
}


def run(site: Site, until_time: float | None = None) -> dict[str, Any]:
    """The whole night. until_time: a Unix time by which training must have ended; not given, by the
    site's hours.

    Returns its summary, with "outcome": promoted or nothing new. Raises GateRefused, with the day
    serving, when the gate
    said no; Locked when another night runs; PreconditionFailed before anything was stopped;
    GlueError when it failed.
    """
    recipe = site.recipe()
    with lock.hold(site.state, lock.NIGHT, "a night"):
        upgrade_note.require_none(site.state)
        longest = time.time() + recipe.longest_minutes * 60
        night = Night(site, new_name(site), recipe, min(longest, until_time or training_end(site)))
        after_a_death(night)
        started = time.monotonic()
        outcome, reason = "failed", ""
        try:
            outcome, reason = live(night)
        except BaseException as error:
            reason = f"{type(error).__name__}: {error}"
            outcome = "preempted" if isinstance(error, desired_state.Preempted) else outcome
            raise
        finally:
            night.reserve.unlink(missing_ok=True)
            try:
                bring_back_the_day(night, reason)
            finally:
                seconds = round(time.monotonic() - started)
                end = {
                    "outcome": outcome,
                    "reason": reason,
                    "seconds": seconds,
                    "adapter": night.release or None,
                }
                journal.note(site.state, night=night.name, **end)
                promote.tell(site, night.name)
    if outcome == "refused":
        raise GateRefused(
            "the night's adapter was refused; the day serves as before",
            reason,
            f"see {night.folder}/verdict.json",
        )
    return {"night": night.name, **end}


def live(night: Night) -> tuple[str, str]:
    """The ten steps in order. Returns (outcome, reason)."""
    for number, (name, act) in enumerate(STEPS.items(), 1):
        night.site.tell(f"night {night.name}: {number} of {len(STEPS)}, {name}")
        try:
            with journal.step(night.site.state, night.name, name):
                act(night)
        except NothingNew as words:
            return "nothing new", str(words)
    assert night.verdict is not None
    return ("promoted" if night.verdict.promote else "refused"), "; ".join(night.verdict.reasons)


def training_end(site: Site) -> float:
    """When training must end, so that the candidate is judged before the office opens. A Unix time.

    If that moment has passed already, the opening itself: a person who begins a night just before
    the morning means it.
    """
    found, now = hours.of(site.settings), datetime.now()
    opening = found.next_opening(now)
    ends = found.training_ends(opening)
    return (ends if ends > now else opening).timestamp()


def scheduled_end(site: Site) -> float:
    """When training must end tonight, by the site's hours. Raises PreconditionFailed outside them.

    A timer may start late: after a sleep, or by hand. A night never falls into the day for it.
    """
    now = datetime.now()
    found = hours.of(site.settings).night(now)
    if found is None or found[1] - now < hours.LEAST_NIGHT:
        saw = (
            f"it is {now:%a %H:%M}, and nights begin at {site.settings['NIGHT_AT']} on"
            f" {site.settings['NIGHT_DAYS']}"
        )
        raise PreconditionFailed(
            "it is no time for a night", saw, "make night, to begin one now all the same"
        )
    return found[1].timestamp()


def new_name(site: Site) -> str:
    """The moment, and if a clock that was set back, or a second start within a second, gives one
    that is taken, the next free."""
    moment = datetime.now(UTC)
    while (site.state / "nights" / f"{moment:{NAME}}").exists():
        moment += timedelta(seconds=1)
    return f"{moment:{NAME}}"


def after_a_death(night: Night) -> None:
    """Every night before this one is over, for this one holds the lock: what a dead one left is
    undone first."""
    left = desired_state.read(night.site.state)
    if left is not None and left.night:
        day.ensure(night.site, insist=True, night=night.name)
    recovery.close_books(night.site.state)


def bring_back_the_day(night: Night, reason: str) -> None:
    """Not to be interrupted. Raises DayNotServing, with the night's own reason, if the day does not
    come back.

    After the office has opened, a model that serves is not restarted for its form: the next morning
    does that.
    """
    if not night.moved:
        return
    with commands.uninterrupted():
        try:
            day.ensure(
                night.site,
                insist=True,
                night=night.name,
                keep_form=desired_state.late(night.site.state),
            )
        except Exception as error:
            saw = f"{error}; the night: {reason or 'went well'}"
            raise DayNotServing(
                "the day did not come back after the night", saw, "make day"
            ) from error
