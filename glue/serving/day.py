"""The day: chat answers on the adapter that serves. Ensures; safe at any time, twice, and after any
crash."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from glue.clients import chat_volume, host
from glue.clients.docker import MOUNTED
from glue.clients.site import Site
from glue.core import desired_state, journal, lock, upgrade_note
from glue.core import services as observed
from glue.core.desired_state import Turn, Wanted
from glue.core.errors import DayNotServing, GlueError, PreconditionFailed
from glue.core.services import Mode
from glue.machine import doctor, tls
from glue.serving import model as serving_model
from glue.serving import recovery, watch

ATTEMPTS = (  # when the watch tried to mend the day; whoever says day begins the count anew
    "attempts.json"
)
STAYS_DOWN = "a person stopped everything, and it stays so until a person says: make day"


def ensure(
    site: Site,
    judging: bool = False,
    insist: bool = False,
    night: str = "",
    scheduled: bool = False,
    keep_form: bool = False,
) -> dict[str, Any]:
    """Brings the day up, or finds it up, and returns what serves. A trainer that still runs is
    stopped: morning goes first.

    judging: the base model with adapters beside it, also where a checkpoint serves; until the next
    call without it.
    night: the one that calls, and so holds the night's lock; Preempted is raised if it wants to
    judge and lost its turn.
    keep_form: a vLLM that serves in the form for judging stays in it until the next call without
    this.
    scheduled: a timer says it, not a person: what a person stopped stays so, and the mode that is
    returned is "down".
    insist: tried whatever the doctor says, because it is down already. Else PreconditionFailed is
    raised, for what is certain
    to be missing, before anything is touched. Raises DayNotServing if it did not come up.
    """
    if scheduled and stays_down(site):
        return summary(site) | {"mode": Mode.DOWN.value}
    try:
        doctor.require(site, doctor.DAY)
    except PreconditionFailed as missing:
        if not observed.not_serving(site.stacks.services("day")):
            site.tell(
                f"the day serves and is left as it is; it could not be started again: {missing.saw}"
            )
            return summary(site)
        if not insist:
            raise
        site.tell(f"started all the same: {missing.saw}")
    with lock.hold(site.state, lock.MOVE, "bring up the day", serving_model.MOVE_WAIT_SECONDS):
        (site.state / ATTEMPTS).unlink(missing_ok=True)
        (upgrade_note.require_none if scheduled else upgrade_note.require_none_died)(site.state)
        if scheduled and stays_down(site):  # a person's stop may have been what it waited for
            return summary(site) | {"mode": Mode.DOWN.value}
        if take_turn(site, judging, night):
            keep_form = (
                keep_form
                and site.releases.judging()
                and not observed.not_serving(site.stacks.services("day"))
            )
            bring_up(site, judging or keep_form)
    return summary(site)


def stays_down(site: Site) -> bool:
    found = desired_state.read(site.state)
    if found is None or found.wanted is not Wanted.DOWN:
        return False
    site.tell(STAYS_DOWN)
    return True


def take_turn(site: Site, judging: bool, night: str) -> bool:
    """Under the lock: it is day from now on, and what a night that died or failed left is undone.
    False if all is left as it is.

    That is where a night judges beside a day that serves, and where a person stopped everything
    while a night ended.
    Raises DayNotServing where a restore was broken off, or the chat's volume was lost: it would
    come up without its people.
    """
    desired_state.require_whole(site.state)
    chat_volume.require_not_lost(site.settings, site.stacks)
    found = desired_state.read(site.state)
    if judging:
        desired_state.take(
            site.state, replace(desired_state.require(site.state, night), wanted=Wanted.JUDGING)
        )
        return True
    if night:
        recovery.take_back(site, night)
    if night and stays_down(site):
        return False
    others_alive = not night and lock.held(site.state, lock.NIGHT)
    if (
        others_alive
        and found
        and found.wanted is Wanted.JUDGING
        and not observed.not_serving(site.stacks.services("day"))
    ):
        site.tell(f"the day serves, and night {found.night} judges its adapter beside it")
        return False
    if not (night and found and found.night == night):
        recovery.undo(site, others_alive)
    desired_state.take(site.state, Turn(Wanted.DAY))
    return True


def bring_up(site: Site, judging: bool = False) -> None:
    """Under the lock. Raises DayNotServing if it did not come up."""
    journal.note(site.state, event="day", phase="begin")
    try:
        if site.stacks.trainer() is not None:
            site.tell("stopping the trainer")
            site.stacks.remove_trainer()
        site.releases.judge(judging)
        start(site)
    except (GlueError, OSError) as fault:
        error = in_words(fault)
        journal.note(site.state, event="day", phase="failed", reason=f"{error.what}: {error.saw}")
        raise port_taken(error) or DayNotServing(error.what, error.saw, error.do) from fault
    journal.note(site.state, event="day", phase="done", adapter=site.releases.current())


def in_words(error: GlueError | OSError) -> GlueError:
    """Docker's own errors, and the disk's, are OSErrors."""
    return (
        error
        if isinstance(error, GlueError)
        else GlueError("the day broke off", f"{type(error).__name__}: {error}", "make doctor")
    )


def https(site: Site) -> dict[str, Any]:
    """The day, reached over HTTPS. Raises PreconditionFailed where no name is set for it, or the
    site's own certificate ends."""
    if not site.settings.https_origins:
        do = (
            "set HTTPS_NAMES=<every name and address that people type> in env/site.env, then make"
            " https"
        )
        raise PreconditionFailed("the chat has no name for HTTPS", "HTTPS_NAMES is not set", do)
    tls.require_own(site)
    ensure(site)
    tls.ensure(site)  # raises where the day kept a better certificate than the site's own
    own = site.settings.values.get("HTTPS_CERTIFICATE")
    return {
        "urls": site.settings.https_origins,
        "trust": own or str(site.state / "tls" / "authority.pem"),
    }


def stop(site: Site) -> dict[str, Any]:
    """Everything of both stacks stops, and stays so until a person says day; a night that runs ends
    without promoting."""
    with lock.hold(site.state, lock.MOVE, "stop everything", serving_model.MOVE_WAIT_SECONDS):
        desired_state.take(site.state, Turn(Wanted.DOWN))
        journal.record(site.state, event="stop")
        site.stacks.remove_trainer()
        site.stacks.compose("day", "stop")
    return {"mode": observed.mode(site.stacks.services("day"), site.stacks.trainer()).value}


def summary(site: Site) -> dict[str, Any]:
    return {
        "mode": "day",
        "url": (site.settings.https_origins or [site.settings.chat_url])[0],
        "adapter": site.releases.current(),
    }


def port_taken(error: GlueError) -> GlueError | None:
    """Nothing was serving and nothing is broken if somebody else has the chat's port."""
    return error if isinstance(error, PreconditionFailed) and "port" in error.what else None


def start(site: Site) -> None:
    """Under the lock: containers up and healthy, the door on the model, the current adapter behind
    the assistant."""
    serving_model.notice(site, "restart", None)
    stop_what_hangs(site)
    site.stacks.ensure_volumes(
        "serving-cache"
    )  # no other: what the rest held does not come back by itself
    model = site.stacks.services("day").get("vllm")
    if model is None or model.state != "running":
        serving_model.make_room(site, "DAY_FREE_BYTES")
    renewed = tls.refresh(site)
    host.open_to_containers(MOUNTED)
    site.stacks.up()
    if renewed:
        site.stacks.compose(
            "day", "restart", observed.HTTPS_PROXY
        )  # it reads its certificate when it starts
    serving_model.wait_until_it_serves(site)
    serving_model.ensure_form(site)
    serving_model.wait_for_door(site, "vllm")
    serving_model.settle(site)


def stop_what_hangs(site: Site) -> None:
    """What does not come back by itself, and a vLLM that looks well and writes no token."""
    services = site.stacks.services("day")
    sick = {name: services[name].words for name in watch.must_restart(services)}
    if services.get("vllm", observed.ABSENT).serves and not site.vllm().answers():
        sick["vllm"] = "no token comes"
    for name, why in sick.items():
        site.tell(f"restarting {name}: {why}")
        site.stacks.stop("day", name)
