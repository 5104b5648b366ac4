"""Open WebUI's HTTP API, as of 0.12.4: sign in, keep models and knowledge as they should be, ask,
and read ratings.

What is checked after every answer: Open WebUI drops retrieval silently, with status 200, on any
error in it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import ijson
import requests

from glue.clients import vllm
from glue.core import files
from glue.core.errors import GlueError
from glue.core.names import ADAPTER, ASSISTANT, BASE, CANDIDATE
from glue.core.settings import HOME, Settings

ASSISTANT_NAME = "Team Assistant"
KNOWLEDGE_NAME = "Team documents"
FILTER = "retrieval_query"
DESCRIPTION = (
    "Answers from the team's documents. A conversation that you rate is learned from at night; an"
    " unrated one is read by nobody."
)
# Everyone who may sign in may read. A model needs this on its preset, on the base behind it and on
# the knowledge.
EVERYONE_READS = [{"principal_type": "user", "principal_id": "*", "permission": "read"}]
EXPORT_SECONDS = 600


class Refused(GlueError):
    """Open WebUI answered, and did not do what it was asked. reason: in its own words."""

    def __init__(self, what: str, response: requests.Response) -> None:
        seen = f"{response.status_code} {response.text[:400]}"
        super().__init__(f"Open WebUI refused {what}", seen, "make logs SERVICE=open-webui")
        self.status, self.reason = response.status_code, seen
        with suppress(ValueError, KeyError, TypeError):
            self.reason = str(response.json()["detail"])[:400]


class TooSlow(GlueError):
    """Open WebUI took the request, and had not finished it at the deadline."""


@dataclass(frozen=True)
class Answer:
    """sources: Open WebUI's own list, each with "document" (texts) and "metadata" (of each
    text)."""

    text: str
    sources: list[dict[str, Any]]
    usage: dict[str, Any] | None = None

    @property
    def passages(self) -> list[str]:
        return [text for source in self.sources for text in source.get("document", [])]

    @property
    def source_names(self) -> list[str]:
        metadata = (row for source in self.sources for row in source.get("metadata", []))
        return sorted({str(row.get("name") or row.get("source") or "?") for row in metadata})


@dataclass
class WebUI:
    """One signed-in person's view. Build it with sign_in."""

    url: str
    session: requests.Session = field(default_factory=vllm.direct_session)
    user: dict[str, Any] = field(default_factory=dict)

    def call(self, method: str, path: str, timeout_seconds: float = 120, **arguments: Any) -> Any:
        """The JSON of the answer. Raises Refused with Open WebUI's own words, GlueError if it does
        not answer."""
        try:
            response = self.session.request(
                method, self.url + path, timeout=timeout_seconds, **arguments
            )
        except requests.RequestException as error:
            kind = TooSlow if isinstance(error, requests.ReadTimeout) else GlueError
            raise kind(
                f"Open WebUI did not answer {path}", str(error), "make logs SERVICE=open-webui"
            ) from error
        if response.status_code >= 400:
            raise Refused(f"{method} {path}", response)
        return response.json() if response.content else None

    def is_signed_in(self) -> bool:
        try:
            response = self.session.get(f"{self.url}/api/v1/auths/", timeout=30)
        except requests.RequestException as error:
            raise GlueError("Open WebUI did not answer", str(error), "make status") from error
        return response.status_code == 200

    # ------------------------------------------------------------------ asking

    def ask(
        self,
        messages: list[dict[str, str]],
        timeout_seconds: float = 300,
        model: str = ASSISTANT,
        **asked: Any,
    ) -> Answer:
        """Asks the Team Assistant, retrieval on, and reads the stream to its end. asked: such as
        temperature=0."""
        body = {
            "model": model,
            "messages": messages,
            "stream": True,
            "stream_options": {"include_usage": True},
            **asked,
        }
        try:
            with self.session.post(
                f"{self.url}/api/chat/completions", json=body, stream=True, timeout=timeout_seconds
            ) as response:
                if response.status_code >= 400:
                    raise GlueError(
                        "the question got no answer",
                        f"{response.status_code} {response.text[:400]}",
                        "make status",
                    )
                return read_stream(response)
        except requests.RequestException as error:
            raise GlueError("the question got no answer", str(error), "make status") from error

    # ------------------------------------------------------------------ models

    def ensure_filter(self) -> None:
        """The rule that makes retrieval queries is there, active, and applies to every chat."""
        content = (HOME / "env" / "open-webui" / f"{FILTER}.py").read_text(encoding="utf-8")
        form = {
            "id": FILTER,
            "name": "Retrieval query by rule",
            "content": content,
            "meta": {"description": "see its head"},
        }
        if FILTER not in {row["id"] for row in self.call("GET", "/api/v1/functions/")}:
            self.call("POST", "/api/v1/functions/create", json=form)
        state = self.call("GET", f"/api/v1/functions/id/{FILTER}")
        if not holds(state, form):
            state = self.call("POST", f"/api/v1/functions/id/{FILTER}/update", json=form)
        if not state["is_active"]:
            self.call("POST", f"/api/v1/functions/id/{FILTER}/toggle")
        if not state["is_global"]:
            self.call("POST", f"/api/v1/functions/id/{FILTER}/toggle/global")

    def ensure_model(self, form: dict[str, Any]) -> None:
        there = self.registered_models().get(form["id"])
        if not holds(there, form):  # Open WebUI keeps a version of every update
            self.call(
                "POST", f"/api/v1/models/{'create' if there is None else 'model/update'}", json=form
            )

    def registered_models(self) -> dict[str, dict[str, Any]]:
        """Presets and base models by id; Open WebUI lists them apart."""
        rows = self.call("GET", "/api/v1/models/export") + self.call("GET", "/api/v1/models/base")
        return {row["id"]: row for row in rows}

    def ensure_assistant(self, settings: Settings, served: str, knowledge: str | None) -> None:
        """People pick one model, Team Assistant; served is the vLLM name that answers behind it.
        knowledge: the id of the collection it looks into, if there is one."""
        for name in (BASE, ADAPTER):
            self.ensure_model(hidden_base(name))
        self.ensure_model({**hidden_base(CANDIDATE), "access_grants": []})
        self.ensure_model(assistant(settings, served, reference(knowledge)))
        # chat looks models up in memory, and only this refreshes it
        self.call("GET", "/api/models?refresh=true")

    def ensure_judging(self, settings: Settings, served: dict[str, str]) -> None:
        """For each name in served an assistant like the team's, that only administrators can ask:
        name -> the vLLM name."""
        knowledge = self.registered_models()[ASSISTANT]["meta"]["knowledge"]
        for name, behind in served.items():
            form = assistant(settings, behind, knowledge)
            self.ensure_model(
                {
                    **form,
                    "id": name,
                    "name": name,
                    "access_grants": [],
                    "meta": form["meta"] | {"hidden": True},
                }
            )
        self.call("GET", "/api/models?refresh=true")

    def forget_models(self, names: Iterable[str]) -> None:
        for name in set(names) & self.registered_models().keys():
            self.call("POST", "/api/v1/models/model/delete", json={"id": name})
        self.call("GET", "/api/models?refresh=true")

    # ------------------------------------------------------------------ a line above every chat

    def ensure_banner(self, name: str, kind: str, text: str) -> None:
        """People see text until they close it; kind: info, success, warning or error. Empty takes
        it away."""
        there = self.call("GET", "/api/v1/configs/banners") or []
        kept = [row for row in there if row["id"] != name]
        if text and any(row["id"] == name and row["content"] == text for row in there):
            return
        new = {
            "id": name,
            "type": kind,
            "title": "",
            "content": text,
            "dismissible": True,
            "timestamp": int(time.time()),
        }
        if text or len(kept) < len(there):
            self.call(
                "POST",
                "/api/v1/configs/banners",
                json={"banners": [*kept, *([new] if text else [])]},
            )

    # ------------------------------------------------------------------ ratings

    def ratings(self) -> Iterator[Any]:
        """Every rating with the whole conversation it was given in, one at a time: all at once may
        not fit into memory.

        A rating is consent; nothing else can be read.
        """
        path = "/api/v1/evaluations/feedbacks/all/export"
        try:
            with self.session.get(self.url + path, stream=True, timeout=EXPORT_SECONDS) as response:
                if response.status_code >= 400:
                    raise GlueError(
                        "the ratings cannot be read",
                        f"{response.status_code} {response.text[:400]}",
                        "make status",
                    )
                response.raw.decode_content = True
                yield from ijson.items(
                    response.raw, "item"
                )  # as floats, a number over 64 bit would end it
        except (requests.RequestException, ijson.JSONError, OSError) as error:
            raise GlueError(
                "the ratings cannot be read to their end",
                str(error),
                "make logs SERVICE=open-webui",
            ) from error

    def people(self) -> list[dict[str, Any]]:
        """Everybody with an account in the chat: "name", "email", and more."""
        found: list[dict[str, Any]] = self.call("GET", "/api/v1/users/all")["users"]
        return found

    def ensure_user(self, name: str, email: str, password: str) -> None:
        """A member of the team, not an administrator, who can sign in with password."""
        people = self.call("GET", f"/api/v1/users/?query={email}")["users"]
        there = next((person for person in people if person["email"] == email), None)
        if there is None:
            form = {"name": name, "email": email, "password": password, "role": "user"}
            self.call("POST", "/api/v1/auths/add", json=form)
        else:
            form = {
                "role": "user",
                "name": name,
                "email": email,
                "profile_image_url": "",
                "password": password,
            }
            self.call("POST", f"/api/v1/users/{there['id']}/update", json=form)


def holds(found: Any, wanted: Any) -> bool:
    """Whether found says all that wanted says; Open WebUI adds fields of its own to what it is
    given."""
    if isinstance(wanted, dict):
        return isinstance(found, dict) and all(
            key in found and holds(found[key], value) for key, value in wanted.items()
        )
    if isinstance(wanted, list):
        return (
            isinstance(found, list) and len(found) == len(wanted) and all(map(holds, found, wanted))
        )
    return bool(found == wanted)


def sign_in(url: str, email: str, password: str) -> WebUI:
    """Raises GlueError if Open WebUI does not let this person in."""
    person = WebUI(url)
    person.user = person.call(
        "POST", "/api/v1/auths/signin", json={"email": email, "password": password}
    )
    person.session.cookies.clear()
    person.session.headers["Authorization"] = f"Bearer {person.user['token']}"
    return person


def administrator(settings: Settings) -> WebUI:
    """Signed in as the administrator, with the token of an earlier run while it holds.

    Open WebUI lets one person sign in 15 times in three minutes; a token lasts four weeks.
    """
    kept = settings.state / "webui-token"
    person = WebUI(settings.chat_url)
    if kept.exists():
        person.session.headers["Authorization"] = (
            f"Bearer {kept.read_text(encoding='ascii', errors='ignore').strip()}"
        )
        if person.is_signed_in():
            return person
    try:
        person = sign_in(
            settings.chat_url, settings["WEBUI_ADMIN_EMAIL"], settings["WEBUI_ADMIN_PASSWORD"]
        )
    except GlueError as error:
        back = (
            "make clean, if this is a rehearsal of an earlier clone; else put back the secrets.env"
            " that the data was made with"
        )
        raise GlueError(
            "Open WebUI does not know this installation's administrator", error.saw, back
        ) from error
    with suppress(OSError):  # on a full disk the next run signs in again
        files.write(kept, person.user["token"], mode=0o600)
    return person


def hidden_base(name: str) -> dict[str, Any]:
    return {
        "id": name,
        "name": name,
        "base_model_id": None,
        "params": {},
        "meta": {"hidden": True, "capabilities": {}},
        "access_grants": EVERYONE_READS,
        "is_active": True,
    }


def reference(knowledge: str | None) -> list[dict[str, str]]:
    """As a model's form names a collection."""
    row = {"type": "collection", "id": knowledge or "", "name": KNOWLEDGE_NAME}
    return [row] if knowledge else []


def assistant(settings: Settings, served: str, knowledge: list[dict[str, str]]) -> dict[str, Any]:
    return {
        "id": ASSISTANT,
        "name": ASSISTANT_NAME,
        "base_model_id": served,
        "access_grants": EVERYONE_READS,
        "is_active": True,
        "params": {
            "system": settings["SYSTEM_PROMPT"],
            "temperature": float(settings["TEMPERATURE"]),
            "max_tokens": settings.number("MAX_ANSWER_TOKENS"),
            "function_calling": (
                "legacy"
            ),  # the only mode in which attached knowledge is always looked up
            "custom_params": {"chat_template_kwargs": {"enable_thinking": False}},
        },
        "meta": {
            "description": DESCRIPTION,
            "knowledge": knowledge,
            "capabilities": {
                "builtin_tools": False,
                "file_context": True,
                "citations": True,
                "usage": True,
                "vision": False,
                "web_search": False,
                "image_generation": False,
                "code_interpreter": False,
            },
        },
    }


def read_stream(response: requests.Response) -> Answer:
    """Open WebUI's own sources event first, then the model's chunks. Raises GlueError for an error
    inside the stream."""
    text: list[str] = []
    sources: list[dict[str, Any]] = []
    usage: dict[str, Any] | None = None
    for line in response.iter_lines():
        if not line.startswith(b"data:") or line.strip() == b"data: [DONE]":
            continue
        try:
            event = json.loads(line[5:])
        except ValueError as error:
            raise GlueError(
                "the answer broke off", f"the stream ended inside {line[-200:]!r}", "make status"
            ) from error
        if event.get("error"):
            raise GlueError("the answer broke off", str(event["error"])[:400], "make status")
        sources = event.get("sources") or sources
        usage = event.get("usage") or usage
        text += [
            (choice.get("delta") or {}).get("content") or ""
            for choice in event.get("choices") or []
        ]
    return Answer("".join(text), sources, usage)
