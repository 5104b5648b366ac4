"""One night, from the team's ratings to a promoted adapter or a reason why not. Whatever happens, the day serves after it."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from glue import day, journal, lock
from glue.nights import collecting, judging, training
from glue.nights.tonight import Night, NothingNew
from glue.site import Site
from glue.types import DayNotServing, GateRefused

STEPS: dict[str, Callable[[Night], None]] = {
    # while the day still serves
    "collect": collecting.collect,
    "check": collecting.check,
    # the night itself
    "hand over": training.hand_over,
    "train": training.train,
    "publish": training.publish,
    # the day again
    "start day": judging.start_day,
    "judge": judging.judge_candidate,
    "promote": judging.promote,
    "smoke": judging.smoke,
    "report": judging.report,
}


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
