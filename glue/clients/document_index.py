"""Whether Open WebUI has and finds the documents, and its index of them made again."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from glue.clients.knowledge import (
    DELETED,
    FILE_DEADLINE_SECONDS,
    PROCESS,
    UNATTACHED,
    UNSEARCHABLE,
    Held,
    attached,
    current,
    look_up,
    rows,
)
from glue.clients.open_webui import WebUI
from glue.clients.webui_connection import Refused
from glue.core.errors import GlueError
from glue.core.names import ASSISTANT
from glue.core.services import Service


def fault(chat: Service | None, administrator: Callable[[], WebUI], state: Path) -> str:
    """In words, if the chat runs and its documents are gone; reads only."""
    if chat is None or not chat.serves:
        return ""
    with suppress(GlueError):  # why it does not answer is told elsewhere
        person = administrator()
        assistant = person.registered_models().get(ASSISTANT)
        found = current(person, state, assistant)
        if assistant and found is None:
            return DELETED
        if assistant and found not in attached(assistant):
            return UNATTACHED
        if found and not is_searchable(person, found, rows(person, found)):
            return UNSEARCHABLE
    return ""


def is_searchable(person: WebUI, knowledge: str, held: Iterable[Held]) -> bool:
    """Whether a search finds anything, if there is something to find. Open WebUI answers without
    documents if the index is lost, or made with an embedding model of other dimensions
    (https://github.com/open-webui/open-webui/issues/11279)."""
    one = next((one for one in held if one.text), None)
    try:
        return one is None or bool(look_up(person, knowledge, one.name, 1))
    except Refused:
        return False


def index_again(person: WebUI, knowledge: str, held: list[Held]) -> None:
    """Fills an index that is lost. If it takes nothing, as after a change of the embedding model,
    reindex."""
    try:
        for one in held:
            body = {"file_id": one.id, "collection_name": knowledge}
            person.call("POST", PROCESS, FILE_DEADLINE_SECONDS, json=body)
    except Refused:
        reindex(person, held)


def reindex(person: WebUI, held: list[Held]) -> None:
    """Makes the index of every collection again, of the texts that Open WebUI has. The numbers of
    pages are lost."""
    seconds = FILE_DEADLINE_SECONDS * (1 + len(held))
    person.call("POST", "/api/v1/knowledge/reindex", seconds)
