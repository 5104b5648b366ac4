"""The watch: every few minutes and at boot, one step towards the desired state."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from glue.clients.site import Site
from glue.core import desired_state, files, journal, lock, upgrade_note
from glue.core.errors import DayNotServing, Locked
from glue.serving import day, model, notify, watch
from glue.serving.watch import Observed, Step


def reconcile(site: Site) -> dict[str, Any]:
    """Returns the step and its reason. Raises DayNotServing when it gives up."""
    try:
        with lock.hold(site.state, lock.SWITCH, "reconcile"):
            upgrade_note.require_none(site.state)
            desired = desired_state.read(site.state)
            step, why = watch.next_step(desired, observe(site), time.time())
            if step is not Step.NOTHING:
                site.tell(f"{step}: {why}")
                act(site, step, why)
    except Locked as busy:
        step, why = Step.NOTHING, f"{busy.what}: {busy.saw}"
        held = max(lock.held_seconds(site.state, name) for name in (lock.SWITCH, lock.UPGRADE))
        if held > model.SWITCH_WAIT_SECONDS:  # a shorter one is a restart, or a promotion
            notify.tell_if_blocked(site, why)
    return {"step": step.value, "why": why}


def observe(site: Site) -> Observed:
    return Observed(
        services=site.stacks.services("day"),
        trainer=site.stacks.trainer(),
        night_alive=lock.held(site.state, lock.TRAINING),
        attempts=attempts(site.state),
        day_failed=journal.day_failed(site.state),
    )


def act(site: Site, step: Step, why: str) -> None:
    """Under the switch lock. On a full disk attempts are not counted."""
    if step is Step.GIVE_UP:
        do = "make logs SERVICE=vllm, then make day"
        raise DayNotServing("the day does not start", why, do)
    made = [*attempts(site.state), time.time()][-watch.MOST_ATTEMPTS :]
    with suppress(OSError):
        files.write_json(site.state / day.ATTEMPTS, made)
    journal.note(site.state, event="reconcile", step=step.value, reason=why)
    if step is Step.RESTART:
        notify.tell_once(site, notify.NOT_SERVING, f"{why}; restarting")
    day.start_locked(site)


def attempts(state: Path) -> tuple[float, ...]:
    """Unix times of its attempts since a person or a timer last started the day."""
    with suppress(OSError):
        found = files.read_json_if_whole(state / day.ATTEMPTS, [])
        return tuple(moment for moment in found if isinstance(moment, int | float))
    return ()
