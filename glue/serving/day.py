"""Starts and stops the day. It can be started at any time, twice, and after any crash."""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum
from typing import Any

from glue.clients import chat_volume, host
from glue.clients.docker import MOUNTED
from glue.clients.site import Site
from glue.core import desired_state, journal, lock, services, upgrade_note
from glue.core.desired_state import DesiredState, Wanted
from glue.core.errors import DayNotServing, GlueError, PortInUse, PreconditionFailed
from glue.core.services import Mode
from glue.machine import doctor, models, tls
from glue.serving import model, recovery, watch

ATTEMPTS = "attempts.json"  # when the watch tried to start the day; every other start clears it


class Caller(StrEnum):
    """Who starts the day. The watch calls start_locked instead, since it holds the lock."""

    PERSON = "person"
    TIMER = "timer"  # leaves stopped what a person stopped; refused during an upgrade
    NIGHT = "night"  # holds the training lock; tries it whatever the doctor says


def start(site: Site, caller: Caller = Caller.PERSON, night: str = "") -> dict[str, Any]:
    """Starts the day, or finds it serving. Stops a running trainer: the day takes precedence.

    night: the calling night, for Caller.NIGHT. Returns mode, url and adapter; mode is "down" if a
    timer leaves it stopped. Raises PreconditionFailed, with nothing changed, if something is
    missing, and DayNotServing if it does not start.
    """
    if caller is Caller.TIMER and stays_down(site):
        return summary(site, Mode.DOWN)
    if not may_start(site, caller):
        return summary(site)
    with lock.hold(site.state, lock.SWITCH, "start the day", model.SWITCH_WAIT_SECONDS):
        (site.state / ATTEMPTS).unlink(missing_ok=True)
        if caller is not Caller.TIMER:
            upgrade_note.require_none_died(site.state)
        else:
            upgrade_note.require_none(site.state)
            if stays_down(site):  # it may have waited for a person's stop
                return summary(site, Mode.DOWN)
        start_locked(site, night)
    return summary(site)


def start_for_judging(site: Site, night: str) -> None:
    """Starts the day with the base model and adapters beside it, until the next start. Raises
    Preempted if the desired state is no longer this night's."""
    with lock.hold(site.state, lock.SWITCH, "start the day", model.SWITCH_WAIT_SECONDS):
        require_chat_data(site)
        own = desired_state.require(site.state, night)
        desired_state.write(site.state, replace(own, wanted=Wanted.JUDGING))
        bring_up(site, judging=True)


def start_locked(site: Site, night: str = "") -> None:
    """Under the switch lock. After the opening a night keeps a vLLM that serves, even if it is in
    the form for judging, since people would notice a restart. Not where the form answers otherwise
    than the current adapter."""
    late = is_of(site, night) and desired_state.night_is_late(site.state)
    keeps_form = late and site.store.judging() and serves(site) and answers_as_current(site)
    if take_over(site, night):
        bring_up(site, judging=keeps_form)


def may_start(site: Site, caller: Caller) -> bool:
    """Whether to start it. False if the day serves and something is missing. Raises
    PreconditionFailed if it does not serve and something is missing, except for a night."""
    try:
        doctor.require(site, doctor.DAY)
    except PreconditionFailed as missing:
        if serves(site):
            why = f"because a restart would fail: {missing.saw}"
            site.tell(f"the chat is up and was not restarted, {why}")
            return False
        if caller is not Caller.NIGHT:
            raise
        site.tell(f"starting the day despite a failed check: {missing.saw}")
    return True


def stays_down(site: Site) -> bool:
    found = desired_state.read(site.state)
    if found is None or found.wanted is not Wanted.DOWN:
        return False
    site.tell(watch.STAYS_DOWN)
    return True


def is_of(site: Site, night: str) -> bool:
    """Whether the desired state is this night's."""
    found = desired_state.read(site.state)
    return bool(night) and found is not None and found.night == night


def require_chat_data(site: Site) -> None:
    """Raises DayNotServing if the chat's data is lost or incomplete."""
    desired_state.require_no_unfinished_restore(site.state)
    chat_volume.require_not_lost(site.settings, site.stacks)


def take_over(site: Site, night: str = "") -> bool:
    """Under the switch lock: sets the desired state to day, and undoes what a dead or failed night
    left. night: the night that calls.

    Returns False, with nothing changed, while a night works beside a day that serves, and if a
    person stopped everything.
    """
    require_chat_data(site)
    found = desired_state.read(site.state)
    if night:
        recovery.take_back(site, night)
        if stays_down(site):
            return False
    other_runs = not night and lock.held(site.state, lock.TRAINING)
    if other_runs and found and found.wanted is Wanted.JUDGING and serves(site):
        site.tell(f"the day serves, and night {found.night} works beside it")
        return False
    if not is_of(site, night):
        recovery.undo(site, other_runs)
    desired_state.write(site.state, DesiredState(Wanted.DAY))
    return True


def serves(site: Site) -> bool:
    return not services.not_serving(site.stacks.services("day"))


def answers_as_current(site: Site) -> bool:
    """Whether vLLM, in the form for judging, answers as what serves: a candidate's checkpoint does
    not, nor the base model for an adapter that answers from its checkpoint only."""
    return site.store.runs() is None and not site.store.only_merged(site.store.current())


def bring_up(site: Site, judging: bool = False) -> None:
    """Under the switch lock. Raises DayNotServing."""
    journal.note(site.state, event="day", phase="begin")
    try:
        if site.stacks.trainer() is not None:
            site.tell("stopping the trainer")
            site.stacks.remove_trainer()
        site.store.set_judging(judging)
        start_services(site)
    except (GlueError, OSError) as fault:
        error = fault if isinstance(fault, GlueError) else docker_or_disk(fault)
        journal.note(site.state, event="day", phase="failed", reason=f"{error.what}: {error.saw}")
        if isinstance(error, PortInUse):
            raise error from fault
        raise DayNotServing(error.what, error.saw, error.do) from fault
    journal.note(site.state, event="day", phase="done", adapter=site.store.current())


def docker_or_disk(error: OSError) -> GlueError:
    saw = f"{type(error).__name__}: {error}"
    return GlueError("the start of the day failed", saw, "make doctor")


def https(site: Site) -> dict[str, Any]:
    """Starts the day with HTTPS. Raises PreconditionFailed without names or a valid certificate."""
    if not site.settings.https_origins:
        do = "set HTTPS_NAMES=<each name and address that people type> in env/site.env; make https"
        raise PreconditionFailed("the chat has no name for HTTPS", "HTTPS_NAMES is not set", do)
    tls.require_own(site)
    start(site)
    tls.ensure(site)  # raises where the day kept a better certificate than the site's own
    own = site.settings.values.get("HTTPS_CERTIFICATE")
    trust = own or str(site.state / "tls" / "authority.pem")
    return {"urls": site.settings.https_origins, "trust": trust}


def stop(site: Site) -> dict[str, Any]:
    """Stops everything until make day. A running night ends and promotes nothing."""
    with lock.hold(site.state, lock.SWITCH, "stop everything", model.SWITCH_WAIT_SECONDS):
        desired_state.write(site.state, DesiredState(Wanted.DOWN))
        journal.record(site.state, event="stop")
        site.stacks.remove_trainer()
        site.stacks.compose("day", "stop")
    return {"mode": services.mode(site.stacks.services("day"), site.stacks.trainer()).value}


def summary(site: Site, mode: Mode = Mode.DAY) -> dict[str, Any]:
    url, adapter = site.settings.people_url, site.store.current()
    return {"mode": mode.value, "url": url, "adapter": adapter}


def start_services(site: Site) -> None:
    """Under the switch lock."""
    model.write_notice(site, "restart", None)
    stop_what_hangs(site)
    # the only volume whose loss costs nothing; the others are never created empty
    site.stacks.ensure_volumes("serving-cache")
    vllm = site.stacks.services("day").get("vllm", services.ABSENT)
    if vllm.state != "running":
        model.wait_for_memory(site, "DAY_FREE_BYTES", site.settings.number("DAY_FREE_BYTES"))
    ensure_adapter_fits(site)
    certificate_is_new = tls.refresh(site)
    host.open_to_containers(MOUNTED)
    site.stacks.up()
    if certificate_is_new:  # the proxy reads it at its start
        site.stacks.compose("day", "restart", services.HTTPS_PROXY)
    model.wait_until_it_serves(site)
    model.ensure_form(site)
    model.wait_for_door(site, "vllm")
    model.set_up_assistant(site)


def ensure_adapter_fits(site: Site) -> None:
    """The base model serves instead of an adapter of another model, which vLLM may not start with,
    or which may answer worse than none; and of one whose merged checkpoint is gone. It stays
    stored."""
    current = site.store.current()
    if current is None:
        return
    again = f"make day, make promote ADAPTER={current}"
    why, do = models.made_for_another(site, current), f"set the model back, make setup, {again}"
    if not why and site.store.lacks_checkpoint(current):
        why, do = "its merged checkpoint is gone, as after a restore", again
    if why:
        do = f"to return: {do}"
        site.tell(f"the base model serves instead of {current}: {why}; {do}")
        journal.note(site.state, event=journal.DROPPED, adapter=current, reason=f"{why}; {do}")
        site.store.retreat([*site.store.served(), None])


def stop_what_hangs(site: Site) -> None:
    """Stops services that do not recover by themselves, and a vLLM that generates no token."""
    found = site.stacks.services("day")
    sick = {name: found[name].words for name in watch.must_restart(found)}
    if found.get("vllm", services.ABSENT).serves and not site.vllm().answers():
        sick["vllm"] = "generates no token"
    for name, why in sick.items():
        site.tell(f"restarting {name}: {why}")
        site.stacks.stop("day", name)
