"""Every few minutes, and at boot: one look, and the one step that brings the machine nearer to what
is wanted."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from glue.clients.site import Site
from glue.core import desired_state, files, journal, lock, upgrade_note
from glue.core.errors import DayNotServing, Locked
from glue.serving import day, model, notify, watch
from glue.serving.watch import Step, World


def reconcile(site: Site) -> dict[str, Any]:
    """Returns the step and its reason. Somebody who is at it is left alone. Raises DayNotServing
    when it gives up."""
    try:
        with lock.hold(site.state, lock.MOVE, "reconcile"):
            upgrade_note.require_none(site.state)
            step, why = watch.next_step(desired_state.read(site.state), observe(site), time.time())
            if step is not Step.NOTHING:
                site.tell(f"{step}: {why}")
                act(site, step, why)
    except Locked as busy:
        step, why = Step.NOTHING, f"another command is running: {busy.saw}"
        if (
            max(lock.held_seconds(site.state, name) for name in (lock.MOVE, lock.UPGRADE))
            > model.MOVE_WAIT_SECONDS
        ):
            notify.closed(site, why)  # a shorter one is a restart, or a promotion
    return {"step": step.value, "why": why}


def observe(site: Site) -> World:
    return World(
        services=site.stacks.services("day"),
        trainer=site.stacks.trainer(),
        night_alive=lock.held(site.state, lock.NIGHT),
        attempts=attempts(site.state),
        day_failed=journal.day_failed(site.state),
    )


def act(site: Site, step: Step, why: str) -> None:
    """Under the lock for moves. On a full disk too: attempts are then not counted, and made at
    every look."""
    if step is Step.GIVE_UP:
        raise DayNotServing(
            "the day does not come back", why, "make logs SERVICE=vllm, then make day"
        )
    with suppress(OSError):
        files.write_json(
            site.state / day.ATTEMPTS, [*attempts(site.state), time.time()][-watch.MOST_ATTEMPTS :]
        )
    journal.note(site.state, event="reconcile", step=step.value, reason=why)
    if step is Step.RESTART:
        notify.once(site, notify.NOT_SERVING, f"{why}; it is being restarted")
    if day.take_turn(site, judging=False, night=""):
        day.bring_up(site)


def attempts(state: Path) -> tuple[float, ...]:
    """When the watch acted since a person, or a timer, last said day; none where that cannot be
    read."""
    with suppress(OSError):
        return tuple(
            moment
            for moment in files.read_json_if_whole(state / day.ATTEMPTS, [])
            if isinstance(moment, int | float)
        )
    return ()
