"""The day: chat answers on the adapter that serves. Ensures; safe at any time, twice, and after any crash."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from glue import chat_volume, doctor, files, host, journal, lock, morning, plan, recovery, tls, turn, vllm, waiting
from glue.plan import Turn, Wanted
from glue.site import Site
from glue.stacks import MOUNTED
from glue.types import DayNotServing, GlueError, Mode, PreconditionFailed
from glue.vllm import Vllm
from glue.waiting import Seen

MOVE_WAIT_SECONDS = 900
MEMORY_SECONDS = 180
DOOR_SECONDS = 30
ATTEMPTS = "attempts.json"  # when the watch tried to mend the day; whoever says day begins the count anew
STAYS_DOWN = "a person stopped everything, and it stays so until a person says: make day"
ADAPTERS_IN_CONTAINER = "/adapters"


def ensure(
    site: Site, judging: bool = False, insist: bool = False, night: str = "", scheduled: bool = False, keep_form: bool = False
) -> dict[str, Any]:
    """Brings the day up, or finds it up, and returns what serves. A trainer that still runs is stopped: morning goes first.

    judging: the base model with adapters beside it, also where a checkpoint serves; until the next call without it.
    night: the one that calls, and so holds the night's lock; Preempted is raised if it wants to judge and lost its turn.
    keep_form: a vLLM that serves in the form for judging stays in it until the next call without this.
    scheduled: a timer says it, not a person: what a person stopped stays so, and the mode that is returned is "down".
    insist: tried whatever the doctor says, because it is down already. Else PreconditionFailed is raised, for what is certain
    to be missing, before anything is touched. Raises DayNotServing if it did not come up.
    """
    if scheduled and stays_down(site):
        return summary(site) | {"mode": Mode.DOWN.value}
    try:
        doctor.require(site, doctor.DAY)
    except PreconditionFailed as missing:
        if not plan.not_serving(site.stacks.services("day")):
            site.tell(f"the day serves and is left as it is; it could not be started again: {missing.saw}")
            return summary(site)
        if not insist:
            raise
        site.tell(f"started all the same: {missing.saw}")
    with lock.hold(site.state, lock.MOVE, "bring up the day", MOVE_WAIT_SECONDS):
        (site.state / ATTEMPTS).unlink(missing_ok=True)
        if scheduled:
            lock.require_no_upgrade(site.state)
        if scheduled and stays_down(site):  # a person's stop may have been what it waited for
            return summary(site) | {"mode": Mode.DOWN.value}
        if take_turn(site, judging, night):
            keep_form = keep_form and site.releases.judging() and not plan.not_serving(site.stacks.services("day"))
            bring_up(site, judging or keep_form)
    return summary(site)


def stays_down(site: Site) -> bool:
    found = turn.read(site.state)
    if found is None or found.wanted is not Wanted.DOWN:
        return False
    site.tell(STAYS_DOWN)
    return True


def take_turn(site: Site, judging: bool, night: str) -> bool:
    """Under the lock: it is day from now on, and what a night that died or failed left is undone. False if all is left as it is.

    That is where a night judges beside a day that serves, and where a person stopped everything while a night ended.
    Raises DayNotServing where a restore was broken off, or the chat's volume was lost: it would come up without its people.
    """
    chat_volume.require_whole(site.state)
    chat_volume.require_not_lost(site.settings, site.stacks)
    found = turn.read(site.state)
    if judging:
        turn.take(site.state, replace(turn.require(site.state, night), wanted=Wanted.JUDGING))
        return True
    if night:
        recovery.take_back(site, night)
    if night and stays_down(site):
        return False
    others_alive = not night and lock.held(site.state, lock.NIGHT)
    if others_alive and found and found.wanted is Wanted.JUDGING and not plan.not_serving(site.stacks.services("day")):
        site.tell(f"the day serves, and night {found.night} judges its adapter beside it")
        return False
    if not (night and found and found.night == night):
        recovery.undo(site, others_alive)
    turn.take(site.state, Turn(Wanted.DAY))
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
    """The day, reached over HTTPS. Raises PreconditionFailed where no name is set for it, or the site's own certificate ends."""
    if not site.settings.https_origins:
        do = "set HTTPS_NAMES=<every name and address that people type> in env/site.env, then make https"
        raise PreconditionFailed("the chat has no name for HTTPS", "HTTPS_NAMES is not set", do)
    tls.require_own(site)
    ensure(site)
    tls.ensure(site)  # raises where the day kept a better certificate than the site's own
    own = site.settings.values.get("HTTPS_CERTIFICATE")
    return {"urls": site.settings.https_origins, "trust": own or str(site.state / "tls" / "authority.pem")}


def stop(site: Site) -> dict[str, Any]:
    """Everything of both stacks stops, and stays so until a person says day; a night that runs ends without promoting."""
    with lock.hold(site.state, lock.MOVE, "stop everything", MOVE_WAIT_SECONDS):
        turn.take(site.state, Turn(Wanted.DOWN))
        journal.record(site.state, event="stop")
        site.stacks.remove_trainer()
        site.stacks.compose("day", "stop")
    return {"mode": plan.mode(site.stacks.services("day"), site.stacks.trainer()).value}


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
    """Under the lock: containers up and healthy, the door on the model, the current adapter behind the assistant."""
    notice(site, "restart", None)
    stop_what_hangs(site)
    site.stacks.ensure_volumes("serving-cache")  # no other: what the rest held does not come back by itself
    model = site.stacks.services("day").get("vllm")
    if model is None or model.state != "running":
        make_room(site, "DAY_FREE_BYTES")
    renewed = tls.refresh(site)
    host.open_to_containers(MOUNTED)
    site.stacks.up()
    if renewed:
        site.stacks.compose("day", "restart", plan.GATE)  # it reads its certificate when it starts
    wait_until_it_serves(site)
    ensure_form(site)
    wait_for_door(site, "vllm")
    settle(site)


def stop_what_hangs(site: Site) -> None:
    """What does not come back by itself, and a vLLM that looks well and writes no token."""
    services = site.stacks.services("day")
    sick = {name: services[name].words for name in plan.must_restart(services)}
    if services.get("vllm", plan.ABSENT).serves and not site.vllm().answers():
        sick["vllm"] = "no token comes"
    for name, why in sick.items():
        site.tell(f"restarting {name}: {why}")
        site.stacks.stop("day", name)


def make_room(site: Site, key: str) -> None:
    """Memory for what starts next: on a GB10 a start without it can hang the whole machine."""
    wanted = site.settings.number(key)
    if not site.settings.rehearsal:
        host.drop_page_cache()

    def look() -> Seen[None]:
        free = host.available_bytes()
        return Seen(free >= wanted, f"{host.readable(free)} of memory available, {host.readable(wanted)} wanted ({key})")

    waiting.until("free memory", look, MEMORY_SECONDS, tell=site.tell, do="see what holds it: docker stats, top")


def ensure_form(site: Site) -> None:
    """vLLM runs the model that the files say: the base model, or the current release's checkpoint. Else it is restarted.

    Raises GlueError if it does not come up, or comes up with another model.
    """
    wanted = site.settings["SERVED_MODEL"]
    if site.releases.serves_merged():
        wanted = f"{ADAPTERS_IN_CONTAINER}/{site.releases.current()}/checkpoint"
    if running_model(site) != wanted:
        site.tell(f"restarting vLLM with {wanted}")
        restart_model(site)
        running = running_model(site)
        if running != wanted:
            raise GlueError("vLLM does not run what serves", f"{running}, wanted {wanted}", "make logs SERVICE=vllm")


def running_model(site: Site) -> str:
    """What vLLM was started on; one that does not answer runs nothing."""
    try:
        return site.vllm().models()[vllm.BASE]
    except GlueError as error:
        return f"nothing: {error.saw}"


def restart_model(site: Site) -> None:
    """The night desk answers meanwhile; people are back with the model when this returns."""
    site.stacks.stop("day", "vllm")
    site.stacks.up()
    wait_until_it_serves(site)
    wait_for_door(site, "vllm")


def wait_until_it_serves(site: Site) -> None:
    """Healthy in Docker's eyes, and vLLM answers now: Docker's view of a model that died is up to ten seconds old."""

    before = {name: service.restarts for name, service in site.stacks.services("day").items()}

    def look() -> Seen[None]:
        late = site.stacks.late(plan.expected(site.stacks.services("day")), before)
        if not late and not site.vllm().answers():
            late = ["vllm to answer"]
        return Seen(not late, f"waiting for {', '.join(late)}" if late else "all services are healthy")

    deadline = site.settings.number("DAY_DEADLINE_SECONDS")
    waiting.until("the day's services", look, deadline, tell=site.tell, do="make logs")


def wait_for_door(site: Site, owner: str) -> None:
    """Until the door sends people to owner: "vllm" or "night-desk", as each calls itself in its list of models."""
    door = Vllm(site.stacks.address("door"), site.settings["MODEL_API_KEY"])

    def look() -> Seen[None]:
        try:
            answering = door.owner()
        except GlueError as error:
            answering = error.saw
        return Seen(answering == owner, f"the door sends people to {answering}")

    waiting.until(f"the door to {owner}", look, DOOR_SECONDS, 0.2, tell=site.tell, do="make logs SERVICE=door")


def settle(site: Site) -> None:
    """Open WebUI and vLLM agree with the link `current`."""
    site.tell("setting up the assistant in Open WebUI")
    current = site.releases.current()
    if current is not None and not site.releases.serves_merged():
        site.vllm().serve(vllm.ADAPTER, f"{ADAPTERS_IN_CONTAINER}/{current}")
    person = site.administrator()
    person.ensure_filter()
    person.ensure_assistant(site.settings, vllm.ADAPTER if current else vllm.BASE)
    person.ensure_banner(**morning.kept_banner(site.state, current))


def notice(site: Site, reason: str, back_at: str | None) -> None:
    """What the night desk tells people while it answers."""
    path = site.state / "desk" / "notice.json"
    try:
        files.write_json(path, {"reason": reason, "back_at": back_at})
    except OSError:
        if reason == "night":
            raise
        path.unlink(missing_ok=True)  # a full disk: no notice counts as a restart, and the door opens
