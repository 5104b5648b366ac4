"""Keeps vLLM, the door, the assistant and the banner in line with the current adapter."""

from __future__ import annotations

from contextlib import suppress

from glue.clients import assistant, host, knowledge, suggestions
from glue.clients.adapter_store import AdapterName, shown
from glue.clients.open_webui import NOTES, WebUI, reference
from glue.clients.site import Site
from glue.clients.vllm import Vllm
from glue.clients.webui_accounts import NoAccount
from glue.core import files, journal, names, services, waiting
from glue.core.errors import GlueError
from glue.core.names import ADAPTER, BASE
from glue.core.waiting import Seen
from glue.serving import last_night, pages

SWITCH_WAIT_SECONDS = 900
MEMORY_SECONDS = 180
DOOR_SECONDS = 30
ADAPTERS_IN_CONTAINER = "/adapters"


def wait_for_memory(site: Site, key: str, wanted: int) -> None:
    """Before a start: without enough memory a GB10 can hang. wanted: bytes, by the setting key."""
    if not site.settings.rehearsal:
        host.drop_page_cache()

    def look() -> Seen[None]:
        free = host.available_bytes()
        words = f"{host.readable(free)} of memory available, {host.readable(wanted)} needed ({key})"
        return Seen(free >= wanted, words)

    do = "find what uses the memory: docker stats, top"
    waiting.until("free memory", look, MEMORY_SECONDS, tell=site.tell, do=do)


def ensure_form(site: Site) -> None:
    """Restarts vLLM unless it runs the base model, or the checkpoint of the adapter that serves or
    is judged."""
    wanted = site.settings["SERVED_MODEL"]
    if (merged := site.store.runs()) is not None:
        wanted = f"{ADAPTERS_IN_CONTAINER}/{merged}/checkpoint"
    if running_model(site) == wanted:
        return
    site.tell(f"restarting vLLM with {wanted}")
    restart_model(site)
    if (running := running_model(site)) != wanted:
        saw = f"{running}, expected {wanted}"
        raise GlueError("vLLM runs the wrong model", saw, "make logs SERVICE=vllm")


def running_model(site: Site) -> str:
    """What vLLM was started with; "nothing: " and the reason if it does not answer."""
    try:
        return site.vllm().models()[BASE]
    except GlueError as error:
        return f"nothing: {error.saw}"


def restart_model(site: Site) -> None:
    """The night desk answers meanwhile."""
    site.stacks.stop("day", "vllm")
    site.stacks.up()
    wait_until_it_serves(site)
    wait_for_door(site, "vllm")


def wait_until_it_serves(site: Site) -> None:
    """Until all services are healthy and vLLM answers. Docker's health is up to ten seconds old."""
    before = {name: service.restarts for name, service in site.stacks.services("day").items()}

    def look() -> Seen[None]:
        late = site.stacks.late(services.expected(site.stacks.services("day")), before)
        if not late and not site.vllm().answers():
            late = ["vllm to answer"]
        words = f"waiting for {', '.join(late)}" if late else "all services are healthy"
        return Seen(not late, words)

    deadline = site.settings.number("DAY_DEADLINE_SECONDS")
    waiting.until("the day's services", look, deadline, tell=site.tell, do="make logs")


def wait_for_door(site: Site, owner: str) -> None:
    """Until the door leads to owner: "vllm" or "night-desk"."""
    door = Vllm(site.stacks.address("door"), site.settings["MODEL_API_KEY"])

    def look() -> Seen[None]:
        try:
            answering = door.owner()
        except GlueError as error:
            answering = error.saw
        return Seen(answering == owner, f"the door leads to {answering}")

    do = "make logs SERVICE=door"
    waiting.until(f"the door to {owner}", look, DOOR_SECONDS, 0.2, do=do, tell=site.tell)


def write_notice(site: Site, reason: str, back_at: str | None) -> None:
    """For the night desk to show. reason: "night" or "restart"."""
    path = site.state / "desk" / "notice.json"
    try:
        files.write_json(path, {"reason": reason, "back_at": back_at})
    except OSError:
        if reason == "night":
            raise
        path.unlink(missing_ok=True)  # a full disk: no notice means a restart


def set_up_assistant(site: Site) -> None:
    """Sets up the adapter in vLLM, and the assistant, banner and pages in the chat."""
    site.tell("setting up the assistant in Open WebUI")
    current = site.store.current()
    if not site.store.serves_merged():
        load(site, current)
    try:
        person = site.administrator()
    except NoAccount as error:  # people can still ask; doctor and status go on saying it
        site.tell(f"the assistant stays as it was: {error}")
        return
    person.ensure_filters()
    ensure_assistant(site, person, current)
    remember_prompt(site)
    try:
        pages.ensure(site)
    except Exception as error:  # people can be answered without them
        site.tell(f"the administrators' pages in the chat are not renewed: {error}")


def remember_prompt(site: Site) -> None:
    """A rating is read with the prompt of its day, even if the settings have changed."""
    form = {"system": site.settings["SYSTEM_PROMPT"], "template": site.settings["RAG_TEMPLATE"]}
    with suppress(OSError):  # a full disk keeps no day from starting
        if form not in files.read_lines(site.state / names.PROMPTS):
            files.append_line(site.state / names.PROMPTS, form, mode=0o600)


def load(site: Site, release: AdapterName) -> None:
    if release is not None and not site.store.only_merged(release):
        site.vllm().serve(ADAPTER, f"{ADAPTERS_IN_CONTAINER}/{release}")


def ensure_assistant(site: Site, person: WebUI, release: AdapterName) -> None:
    with assistant.hold(site.state):
        replace_assistant(site, person, release)


def replace_assistant(site: Site, person: WebUI, release: AdapterName) -> None:
    collection = knowledge.ensure(person, site.state)
    if collection is None:  # people deleted it in the page
        site.tell(f"{knowledge.DELETED}: {knowledge.INGEST}")
    documents = [one.name for one in knowledge.held(person, collection)]
    asked = suggestions.made(site.state, documents)
    looks_in = [*reference(collection), *reference(notes_of(site, person), NOTES)]
    person.ensure_assistant(site.settings, ADAPTER if release else BASE, looks_in, asked)
    person.ensure_banner(**last_night.kept_banner(site.state, release))


def notes_of(site: Site, person: WebUI) -> str | None:
    """The collection of the team's corrections, made where there is none; None with NOTES=off."""
    if site.settings["NOTES"] == "off":
        return None
    return knowledge.ensure(person, site.state, anew=True, kind=NOTES)


def answer_with(site: Site, release: AdapterName) -> None:
    ensure_assistant(site, site.administrator(), release)
    journal.note(site.state, event="serve", adapter=release)
    site.tell(f"{shown(release)} serves")
