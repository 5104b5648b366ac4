"""vLLM runs what the files say; the door, the assistant and the banner agree with it."""

from __future__ import annotations

from glue.clients import host, knowledge
from glue.clients.adapter_store import Release, shown
from glue.clients.open_webui import WebUI
from glue.clients.site import Site
from glue.clients.vllm import Vllm
from glue.core import files, journal, waiting
from glue.core import services as observed
from glue.core.errors import GlueError
from glue.core.names import ADAPTER, BASE
from glue.core.waiting import Seen
from glue.serving import last_night

MOVE_WAIT_SECONDS = 900
MEMORY_SECONDS = 180
DOOR_SECONDS = 30
ADAPTERS_IN_CONTAINER = "/adapters"


def make_room(site: Site, key: str) -> None:
    """Memory for what starts next: on a GB10 a start without it can hang the whole machine."""
    wanted = site.settings.number(key)
    if not site.settings.rehearsal:
        host.drop_page_cache()

    def look() -> Seen[None]:
        free = host.available_bytes()
        return Seen(
            free >= wanted,
            f"{host.readable(free)} of memory available, {host.readable(wanted)} wanted ({key})",
        )

    waiting.until(
        "free memory",
        look,
        MEMORY_SECONDS,
        tell=site.tell,
        do="see what holds it: docker stats, top",
    )


def ensure_form(site: Site) -> None:
    """vLLM runs the model that the files say: the base model, or the current release's checkpoint.
    Else it is restarted.

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
            raise GlueError(
                "vLLM does not run what serves",
                f"{running}, wanted {wanted}",
                "make logs SERVICE=vllm",
            )


def running_model(site: Site) -> str:
    """What vLLM was started on; one that does not answer runs nothing."""
    try:
        return site.vllm().models()[BASE]
    except GlueError as error:
        return f"nothing: {error.saw}"


def restart_model(site: Site) -> None:
    """The night desk answers meanwhile; people are back with the model when this returns."""
    site.stacks.stop("day", "vllm")
    site.stacks.up()
    wait_until_it_serves(site)
    wait_for_door(site, "vllm")


def wait_until_it_serves(site: Site) -> None:
    """Healthy in Docker's eyes, and vLLM answers now: Docker's view of a model that died is up to
    ten seconds old."""

    before = {name: service.restarts for name, service in site.stacks.services("day").items()}

    def look() -> Seen[None]:
        late = site.stacks.late(observed.expected(site.stacks.services("day")), before)
        if not late and not site.vllm().answers():
            late = ["vllm to answer"]
        return Seen(
            not late, f"waiting for {', '.join(late)}" if late else "all services are healthy"
        )

    deadline = site.settings.number("DAY_DEADLINE_SECONDS")
    waiting.until("the day's services", look, deadline, tell=site.tell, do="make logs")


def wait_for_door(site: Site, owner: str) -> None:
    """Until the door sends people to owner: "vllm" or "night-desk", as each calls itself in its
    list of models."""
    door = Vllm(site.stacks.address("door"), site.settings["MODEL_API_KEY"])

    def look() -> Seen[None]:
        try:
            answering = door.owner()
        except GlueError as error:
            answering = error.saw
        return Seen(answering == owner, f"the door sends people to {answering}")

    waiting.until(
        f"the door to {owner}", look, DOOR_SECONDS, 0.2, tell=site.tell, do="make logs SERVICE=door"
    )


def settle(site: Site) -> None:
    """Open WebUI and vLLM agree with the link `current`."""
    site.tell("setting up the assistant in Open WebUI")
    current = site.releases.current()
    if current is not None and not site.releases.serves_merged():
        site.vllm().serve(ADAPTER, f"{ADAPTERS_IN_CONTAINER}/{current}")
    person = site.administrator()
    person.ensure_filter()
    set_assistant(site, person, current)
    person.ensure_banner(**last_night.kept_banner(site.state, current))


def set_assistant(site: Site, person: WebUI, release: Release) -> None:
    """Without documents, and said so, where people deleted the collection in the page."""
    collection = knowledge.ensure(person, site.state)
    if collection is None:
        site.tell(f"{knowledge.DELETED}: {knowledge.INGEST}")
    person.ensure_assistant(site.settings, ADAPTER if release else BASE, collection)


def notice(site: Site, reason: str, back_at: str | None) -> None:
    """What the night desk tells people while it answers."""
    path = site.state / "desk" / "notice.json"
    try:
        files.write_json(path, {"reason": reason, "back_at": back_at})
    except OSError:
        if reason == "night":
            raise
        path.unlink(
            missing_ok=True
        )  # a full disk: no notice counts as a restart, and the door opens


def load(site: Site, release: Release) -> None:
    if release is not None:
        site.vllm().serve(ADAPTER, f"{ADAPTERS_IN_CONTAINER}/{release}")


def answer_with(site: Site, release: Release) -> None:
    """The name behind the assistant: the adapter's, or the base model's."""
    person = site.administrator()
    set_assistant(site, person, release)
    person.ensure_banner(**last_night.kept_banner(site.state, release))
    journal.note(site.state, event="serve", adapter=release)
    site.tell(f"{shown(release)} serves")
