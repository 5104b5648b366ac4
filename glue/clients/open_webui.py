"""Open WebUI as of 0.12.4: sign in, and ensure the assistant, its models, banners and people."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from glue.clients.webui_connection import Connection
from glue.core.names import ADAPTER, ASSISTANT, BASE, CANDIDATE, NOTE
from glue.core.settings import REPOSITORY, Settings

KNOWLEDGE_NAME = "Team documents"
FILTER = "retrieval_query"
SERVICE_EMAIL = "glue@service.internal"  # of glue's own account, in webui_accounts.py
# The page shows two lines of about 80 characters under the assistant's name; on a phone, only what
# comes first.
DESCRIPTION = "Answers from your documents. Wrong? Edit the answer, *Save as copy*, thumbs up.\n"
LEARNS = "Edit first, then rate: at night it learns the rated text, and nothing unrated."
NOTED = "Edit first, then rate: all have it within a minute, and at night it learns it."
# A model needs this on its preset, on the base model behind it and on the knowledge.
EVERYONE_READS = [{"principal_type": "user", "principal_id": "*", "permission": "read"}]


@dataclass(frozen=True)
class Kind:
    """A collection that glue keeps. remembered: its key in the state folder. name: what a new one
    is called. shown: how a prompt names its passages."""

    remembered: str
    name: str
    shown: str
    description: str


DOCUMENTS = Kind("id", KNOWLEDGE_NAME, KNOWLEDGE_NAME, "What the assistant looks things up in")
NOTES = Kind("notes", "Team notes", NOTE, "Corrections by the team; glue adds and removes them")


class WebUI(Connection):
    """What a signed-in person can see and change. Made by sign_in."""

    # ------------------------------------------------------------------ models

    def ensure_filter(self) -> None:
        """The filter that makes retrieval queries is active in every chat."""
        content = (REPOSITORY / "env" / "open-webui" / f"{FILTER}.py").read_text(encoding="utf-8")
        form = {
            "id": FILTER,
            "name": "Retrieval query by rule",
            "content": content,
            "meta": {"description": "see the comment at its start"},
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
            verb = "create" if there is None else "model/update"
            self.call("POST", f"/api/v1/models/{verb}", json=form)

    def registered_models(self) -> dict[str, dict[str, Any]]:
        """Presets and base models by id, which Open WebUI lists separately."""
        rows = self.call("GET", "/api/v1/models/export") + self.call("GET", "/api/v1/models/base")
        return {row["id"]: row for row in rows}

    def ensure_assistant(
        self,
        settings: Settings,
        served: str,
        knowledge: list[dict[str, str]],
        suggestions: list[dict[str, Any]],
    ) -> None:
        """People pick one model, Team Assistant; served is the vLLM name that answers behind it.
        knowledge: the collections it looks into, as reference has them. suggestions: as
        suggestions.made has them."""
        for name in (BASE, ADAPTER):
            self.ensure_model(hidden_base(name))
        self.ensure_model({**hidden_base(CANDIDATE), "access_grants": []})
        form = assistant(settings, served, knowledge)
        self.ensure_model(form | {"meta": form["meta"] | {"suggestion_prompts": suggestions}})
        # chat looks models up in memory, and only this refreshes it
        self.call("GET", "/api/models?refresh=true")

    def ensure_judging(self, settings: Settings, served: dict[str, str]) -> None:
        """Assistants like the team's for administrators only: by name, the vLLM name behind it."""
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

    # ------------------------------------------------------------------ banners

    def ensure_banner(self, name: str, kind: str, text: str) -> None:
        """Shows text above every chat until a person closes it; an empty text removes the banner.

        kind: info, success, warning or error.
        """
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
            banners = {"banners": [*kept, *([new] if text else [])]}
            self.call("POST", "/api/v1/configs/banners", json=banners)

    # ------------------------------------------------------------------ people

    def people(self) -> list[dict[str, Any]]:
        """Everyone with an account, but glue: "id", "name", "email", and more."""
        found: list[dict[str, Any]] = self.call("GET", "/api/v1/users/all")["users"]
        return [person for person in found if person["email"] != SERVICE_EMAIL]

    def ensure_user(self, name: str, email: str, password: str, role: str = "user") -> None:
        """An account that can sign in with password. role: "user" or "admin"."""
        people = self.call("GET", f"/api/v1/users/?query={email}")["users"]
        there = next((person for person in people if person["email"] == email), None)
        if there is None:
            form = {"name": name, "email": email, "password": password, "role": role}
            self.call("POST", "/api/v1/auths/add", json=form)
        else:
            form = {
                "role": role,
                "name": name,
                "email": email,
                "profile_image_url": "",
                "password": password,
            }
            self.call("POST", f"/api/v1/users/{there['id']}/update", json=form)

    def delete_ratings_of_deleted(self, account: str) -> int:
        """Deletes and counts those of a deleted account: Open WebUI shows them on no page."""
        if account in {person["id"] for person in self.people()}:
            return 0
        rows = self.call("GET", "/api/v1/evaluations/feedbacks/all/ids")
        found = [row["id"] for row in rows if row["user_id"] == account]
        for rating in found:
            self.call("DELETE", f"/api/v1/evaluations/feedback/{rating}")
        return len(found)


def holds(found: Any, wanted: Any) -> bool:
    """Whether found has all of wanted. Open WebUI adds fields of its own."""
    if isinstance(wanted, dict):
        return isinstance(found, dict) and all(
            key in found and holds(found[key], value) for key, value in wanted.items()
        )
    if isinstance(wanted, list):
        same = isinstance(found, list) and len(found) == len(wanted)
        return same and all(map(holds, found, wanted))
    return bool(found == wanted)


def sign_in(url: str, email: str, password: str) -> WebUI:
    """Raises GlueError if Open WebUI refuses."""
    person, form = WebUI(url), {"email": email, "password": password}
    person.user = person.call("POST", "/api/v1/auths/signin", json=form)
    person.session.cookies.clear()
    person.session.headers["Authorization"] = f"Bearer {person.user['token']}"
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


def reference(knowledge: str | None, kind: Kind = DOCUMENTS) -> list[dict[str, str]]:
    """As a model's form names a collection. The prompt has this name, not the collection's own."""
    row = {"type": "collection", "id": knowledge or "", "name": kind.shown}
    return [row] if knowledge else []


def assistant(settings: Settings, served: str, knowledge: list[dict[str, str]]) -> dict[str, Any]:
    return {
        "id": ASSISTANT,
        "name": f"{settings['TEAM_NAME']} Assistant",
        "base_model_id": served,
        "access_grants": EVERYONE_READS,
        "is_active": True,
        "params": {
            "system": settings["SYSTEM_PROMPT"],
            "temperature": float(settings["TEMPERATURE"]),
            "max_tokens": settings.number("MAX_ANSWER_TOKENS"),
            # the only mode in which retrieval always runs
            "function_calling": "legacy",
            "custom_params": {"chat_template_kwargs": {"enable_thinking": False}},
        },
        "meta": {
            "description": DESCRIPTION + (LEARNS if settings["NOTES"] == "off" else NOTED),
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
