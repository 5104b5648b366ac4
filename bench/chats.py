"""The chats that are measured: the day's own Open WebUI and a stock one, with the same documents
and the same model."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench import containers
from bench.browser import Page
from bench.client import Endpoint, Sample, ask
from glue.clients import knowledge, open_webui
from glue.clients.adapter_store import shown
from glue.clients.compose import BENCH, DAY
from glue.clients.docker import Stacks
from glue.clients.open_webui import WebUI
from glue.clients.site import Site
from glue.clients.vllm import Vllm
from glue.core import env_files, files, waiting
from glue.core import services as observed
from glue.core.names import ADAPTER, ASSISTANT, BASE
from glue.core.settings import REPOSITORY
from glue.core.waiting import Seen
from glue.operations import documents_plan
from glue.operations.documents_folder import look_through
from glue.operations.documents_plan import Document

OURS, STOCK = "ours", "stock"
SERVICES = {OURS: "open-webui", STOCK: "stock"}
PACED, SERVED = "paced", "vllm"
START_SECONDS = 600
UPLOADS_AT_ONCE = 2
QUIET_SECONDS = 3.0
# a Spark's settings of the chat, also if the bench runs with another profile
CHAT_KEYS = (
    "CHUNK_SIZE",
    "CHUNK_OVERLAP",
    "RAG_TOP_K",
    "RAG_TEMPLATE",
    "TITLE_GENERATION",
    "SYSTEM_PROMPT",
    "MAX_ANSWER_TOKENS",
    "TEMPERATURE",
)


@dataclass(frozen=True)
class Chat:
    """One Open WebUI with its members, each with an API key."""

    name: str
    person: WebUI
    members: tuple[WebUI, ...]
    fields: dict[str, Any]

    def endpoint(self, member: int) -> Endpoint:
        host, _, port = self.person.url.removeprefix("http://").partition(":")
        who = self.members[member % len(self.members)]
        return Endpoint(host, int(port), "/api/chat/completions", who.user["token"], self.fields)

    def ask(
        self, member: int, messages: list[dict[str, str]], stop_at_sources: bool = False
    ) -> Sample:
        return ask(self.endpoint(member), messages, stop_at_sources)

    def page_body(self, question: str) -> dict[str, Any]:
        """What Open WebUI's own page sends for a first question, except the IDs of answer and
        page."""
        asked = str(uuid.uuid4())
        message: dict[str, Any] = {
            "id": asked,
            "parentId": None,
            "childrenIds": [],
            "role": "user",
            "content": question,
        }
        return {
            **self.fields,
            "stream": True,
            "messages": [{"role": "user", "content": question}],
            "user_message": (
                message | {"timestamp": int(time.time()), "models": [self.fields["model"]]}
            ),
            "parent_id": None,
            "background_tasks": {
                "title_generation": True,
                "tags_generation": True,
                "follow_up_generation": True,
            },
        }

    def ask_as_page(self, question: str) -> Sample:
        with self.pages(1) as (page,):
            return page.ask(self.page_body(question))

    @contextmanager
    def pages(self, users: int) -> Iterator[list[Page]]:
        """This many open pages, each of another member."""
        opened = [Page(self.members[number]) for number in range(users)]
        try:
            yield opened
        finally:
            for page in opened:
                page.close()


@contextmanager
def running(
    site: Site, model: str, names: tuple[str, ...], overrides: dict[str, str]
) -> Iterator[Site]:
    """Starts the bench's containers, waits until they are healthy, and removes them afterwards.
    Their documents stay for the next run."""
    bench = bench_site(site, model)
    write_overlay(bench, overrides)
    wanted = [SERVICES[name] for name in names] + ([PACED] if model == PACED else [])
    try:
        bench.stacks.ensure_volumes()  # the day's volumes, which the compose file names
        bench.stacks.compose(BENCH, "up", "--detach", "--no-build", *wanted)
        if model == SERVED:
            for name in names:
                containers.join_network(
                    bench.stacks, SERVICES[name], BENCH, f"{site.settings['PROJECT']}-daynight"
                )
        waiting.until(
            "the bench's containers",
            lambda: look(bench, wanted),
            START_SECONDS,
            tell=site.tell,
            do="docker ps",
        )
        yield bench
    finally:
        bench.stacks.compose(BENCH, "rm", "--stop", "--force", *wanted)


def bench_site(site: Site, model: str) -> Site:
    """With a paced model the chat has a Spark's settings; with a real one, this profile's."""
    spark = env_files.read_env_file(REPOSITORY / "env" / "spark.env")
    chat = {key: spark[key] for key in CHAT_KEYS} if model == PACED else {}
    images = {
        "BENCH_MODEL": PACED if model == PACED else "door",
        "BENCH_OPEN_WEBUI_IMAGE": site.settings.image("OPEN_WEBUI_IMAGE"),
        "BENCH_PACED_IMAGE": site.settings.image("NIGHT_DESK_IMAGE"),
        "BENCH_SUFFIX": model,
    }
    changed = replace(site.settings, values=site.settings.values | chat | images)
    return replace(site, settings=changed, stacks=Stacks(changed))


def write_overlay(site: Site, overrides: dict[str, str]) -> None:
    """Writes the settings to try on our chat as one more compose file."""
    (site.state / "bench").mkdir(parents=True, exist_ok=True)
    services = {SERVICES[OURS]: {"environment": overrides}} if overrides else {}
    files.write_json(site.state / "bench" / "overlay.yaml", {"services": services})


def look(site: Site, wanted: list[str]) -> Seen[None]:
    late = observed.not_serving(site.stacks.services(BENCH), tuple(wanted))
    return Seen(
        not late,
        (
            f"waiting for {', '.join(f'{name} {state}' for name, state in late.items())}"
            if late
            else "up"
        ),
    )


def paced(site: Site) -> Vllm:
    return Vllm(
        f"{site.stacks.services(BENCH)[PACED].address}:8000", site.settings["MODEL_API_KEY"]
    )


def served(site: Site) -> Vllm:
    return Vllm(f"{site.stacks.services(DAY)['vllm'].address}:8000", site.settings["MODEL_API_KEY"])


def served_name(site: Site) -> str:
    """The vLLM name behind the team's assistant, as the day sets it. A merged adapter answers to
    it too."""
    return ADAPTER if site.store.current() else BASE


def serving(site: Site) -> dict[str, Any]:
    """For a result: the model name that is asked, and the adapter behind it."""
    return {"served_as": served_name(site), "release": shown(site.store.current())}


def open_chat(site: Site, name: str, people: int, served_as: str) -> Chat:
    """Signs in and sets up the model: ours as `make day` does, stock with only the permission to
    use it.

    served_as: the name of the model that is asked.
    """
    url = f"http://{site.stacks.services(BENCH)[SERVICES[name]].address}:8080"
    password = site.settings["WEBUI_ADMIN_PASSWORD"]
    person = open_webui.sign_in(url, site.settings["WEBUI_ADMIN_EMAIL"], password)
    collection = team_collection(person)
    fields: dict[str, Any] = {"model": ASSISTANT}
    if name == OURS:
        person.ensure_filters()
        person.ensure_assistant(site.settings, served_as, open_webui.reference(collection), [])
    else:
        person.ensure_model(
            open_webui.hidden_base(served_as) | {"meta": {"capabilities": {"usage": True}}}
        )
        person.call("GET", "/api/models?refresh=true")
        fields = {"model": served_as, "files": [{"type": "collection", "id": collection}]}
    emails = [f"bench-{number}@bench.local" for number in range(1, people + 1)]
    for email in emails:
        person.ensure_user(email.partition("@")[0], email, password)
    return Chat(
        name, person, tuple(open_webui.sign_in(url, email, password) for email in emails), fields
    )


def team_collection(person: WebUI) -> str:
    found = knowledge.named(person) or knowledge.create(person)
    knowledge.share(person, found)
    return found


def ingest(site: Site, chat: Chat, folder: Path) -> int:
    """Makes the chat retrieve from exactly the folder's documents. Returns how many there are."""
    person = chat.person
    collection = team_collection(person)
    held = knowledge.held(person, collection)
    plan = documents_plan.compare(look_through(folder), held, {})
    knowledge.remove(person, collection, [one for one in held if one.id not in plan.stays])

    def add(numbered: tuple[int, Document]) -> None:
        number, one = numbered
        site.tell(f"{chat.name}: reading document {number} of {len(plan.todo)}: {one.name}")
        file_id = knowledge.upload(person, one.path, one.name, one.key, one.checksum)
        knowledge.read(person, file_id)
        knowledge.link(person, collection, file_id)

    with ThreadPoolExecutor(UPLOADS_AT_ONCE) as uploads:
        list(uploads.map(add, enumerate(plan.todo, 1)))
    return len(knowledge.held(person, collection))


def calls(model: Vllm) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = model.call("GET", "/bench/calls").json()
    return rows


def calls_when_quiet(model: Vllm, at_least: int) -> list[dict[str, Any]]:
    """All calls, once no new one comes for QUIET_SECONDS: pages ask for titles and tags after
    the answer."""
    seen = -1

    def quiet() -> Seen[list[dict[str, Any]]]:
        nonlocal seen
        rows = calls(model)
        before, seen = seen, len(rows)
        return Seen(
            len(rows) >= at_least and len(rows) == before, f"{len(rows)} calls to the model", rows
        )

    found = waiting.until("the last call to the model", quiet, 120, QUIET_SECONDS)
    return found.value or []
