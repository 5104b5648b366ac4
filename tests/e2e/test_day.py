"""A second `glue day` changes nothing, and reasoning stays out of answers."""

import json
from typing import Any

from glue.clients import knowledge
from glue.clients.open_webui import WebUI
from glue.clients.site import Site
from glue.core.names import BASE
from tests.e2e.conftest import Glue

WHAT_GLUE_KEEPS = (
    "/api/v1/models/export",
    "/api/v1/models/base",
    "/api/v1/knowledge/",
    "/api/v1/functions/",
)
WHAT_A_MEMBER_SEES = ("/api/models", "/api/v1/knowledge/")
QUESTION = [{"role": "user", "content": "What is the code of the lathe?"}]


def listing(person: WebUI, paths: tuple[str, ...]) -> str:
    """All that Open WebUI lists, with versions and times of change."""
    return json.dumps([person.call("GET", path) for path in paths], sort_keys=True, indent=1)


def test_a_second_make_day_changes_and_restarts_nothing(
    site: Site, glue: Glue, member: WebUI
) -> None:
    def look() -> tuple[Any, ...]:
        administrator = site.administrator()
        collection = knowledge.current(administrator, site.state)
        documents = knowledge.held(administrator, collection)
        containers = {
            name: c.attrs["State"]["StartedAt"]
            for name in site.stacks.services("day")
            if (c := container(name))
        }
        return (
            listing(administrator, WHAT_GLUE_KEEPS),
            listing(member, WHAT_A_MEMBER_SEES),
            documents,
            containers,
        )

    def container(name: str) -> Any:
        return site.stacks.container("day", name)

    assert glue("day").returncode == 0
    before = look()
    assert glue("day").returncode == 0
    assert look() == before


def test_thinking_is_off_by_default(site: Site) -> None:
    """The practice model learned no thoughts; if thinking is on, vLLM takes its answer for
    thoughts."""

    def message(**more: Any) -> dict[str, Any]:
        body = {"model": BASE, "messages": QUESTION, "max_tokens": 32, "temperature": 0} | more
        found: dict[str, Any] = (
            site.vllm().call("POST", "/v1/chat/completions", body).json()["choices"][0]["message"]
        )
        return found

    plain, thinking = message(), message(chat_template_kwargs={"enable_thinking": True})
    assert plain["content"] and not plain["reasoning"]
    assert thinking["reasoning"] and not thinking["content"]
