"""Finding the team's collection. A stub answers like Open WebUI; tests/e2e has the real one."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import requests

from glue.clients import document_index, knowledge
from glue.clients.open_webui import (
    DOCUMENTS,
    EVERYONE_READS,
    KNOWLEDGE_NAME,
    NOTES,
    WebUI,
    reference,
)
from glue.clients.webui_connection import Refused
from glue.core.names import ASSISTANT
from glue.core.services import Service


class Chat:
    """The stub: collections (ID -> name), and the collections of the assistant, if it exists."""

    def __init__(
        self,
        collections: dict[str, str],
        attached: list[str] | None = None,
        files: list[dict[str, Any]] | None = None,
        found: dict[str, Any] | None = None,
    ) -> None:
        """files: of every collection. found: of any search; None for an error."""
        self.collections, self.files, self.found = collections, files or [], found
        rows = [row for one in attached or [] for row in reference(one)]
        self.models = {} if attached is None else {ASSISTANT: {"meta": {"knowledge": rows}}}

    def registered_models(self) -> dict[str, Any]:
        return self.models

    def ensure_model(self, form: dict[str, Any]) -> None:
        self.models[ASSISTANT] = form

    def call(self, method: str, path: str, *_: object, **body: Any) -> Any:
        last = path.partition("?")[0].rpartition("/")[2]
        if last == "files":
            return {"items": self.files, "total": len(self.files)}
        if path.startswith("/api/v1/retrieval/query"):
            return self.found or refuse(400)
        if last == "create":
            self.collections["new"] = body["json"]["name"]
            return {"id": "new"}
        if last and last != "models":
            return {"id": last, "access_grants": EVERYONE_READS} if self.has(last) else None
        if last:
            return None
        rows = [{"id": one, "name": name} for one, name in self.collections.items()]
        start = (int(path.partition("page=")[2].partition("&")[0]) - 1) * 30
        return {"items": rows[start : start + 30], "total": len(rows)}

    def has(self, one: str) -> bool:
        return one in self.collections or refuse(404)


def refuse(status: int) -> bool:
    response = requests.Response()
    response.status_code, response._content = status, b'{"detail": "so"}'
    raise Refused("GET", response)


READ = {"id": "1", "filename": "a.pdf", "hash": "of its text"}
UNREAD = READ | {"hash": None}
EMPTY: dict[str, Any] = {"documents": [[]], "metadatas": [[]]}
FOUND: dict[str, Any] = {"documents": [["Gate G9."]], "metadatas": [[{}]]}


def ensure(chat: Chat, state: Path, kept: str = "", anew: bool = False) -> str | None:
    if kept:
        (state / knowledge.REMEMBERED).write_text(json.dumps({"id": kept}))
    return knowledge.ensure(cast(WebUI, chat), state, anew)


def remembered(state: Path) -> str:
    return str(json.loads((state / knowledge.REMEMBERED).read_text())["id"])


def test_a_new_chat_gets_a_collection_whose_id_is_saved(tmp_path: Path) -> None:
    assert ensure(Chat({}), tmp_path) == remembered(tmp_path) == "new"
    assert ensure(Chat({}), tmp_path, kept="of an earlier chat") == "new"


def test_a_renamed_collection_stays(tmp_path: Path) -> None:
    chat = Chat({"a": "Renamed", "b": KNOWLEDGE_NAME}, ["a"])
    assert ensure(chat, tmp_path, kept="a") == "a"


def test_documents_and_notes_are_two_collections_of_the_assistant(tmp_path: Path) -> None:
    chat = Chat({}, [])
    person = cast(WebUI, chat)
    assert knowledge.ensure(person, tmp_path, anew=True, kind=NOTES) == "new"
    chat.collections["a"] = KNOWLEDGE_NAME
    for one, kind in (("new", NOTES), ("a", DOCUMENTS), ("a", DOCUMENTS)):
        knowledge.attach(person, one, kind)
    rows = chat.models[ASSISTANT]["meta"]["knowledge"]
    assert rows == [*reference("a"), *reference("new", NOTES)]
    assert ensure(chat, tmp_path) == "a" == remembered(tmp_path)
    assert knowledge.current(person, tmp_path, kind=NOTES) == "new"


def test_without_a_state_folder_the_assistant_s_collection_is_used(tmp_path: Path) -> None:
    assert ensure(Chat({"a": "Renamed", "b": KNOWLEDGE_NAME}, ["a"]), tmp_path) == "a"
    assert remembered(tmp_path) == "a"


def test_without_both_the_collection_is_found_by_name_on_any_page(tmp_path: Path) -> None:
    many = {str(number): f"Other {number}" for number in range(64)}
    assert ensure(Chat(many | {"a": KNOWLEDGE_NAME}, []), tmp_path) == "a"


def test_a_deleted_collection_is_created_again_only_on_request(tmp_path: Path) -> None:
    chat = Chat({"b": KNOWLEDGE_NAME}, ["a"])
    assert ensure(chat, tmp_path, kept="a") is None, "one of that name is somebody else's"
    assert ensure(chat, tmp_path, anew=True) == "new" == remembered(tmp_path)


@pytest.mark.parametrize(
    ("chat", "serves", "words"),
    [
        (Chat({}, ["a"]), True, knowledge.DELETED),
        (Chat({}, ["a"]), False, ""),
        (Chat({"a": "x"}, ["a"]), True, ""),
        (Chat({"a": "x"}, []), True, knowledge.UNATTACHED),
        (Chat({"a": "x", "b": "y"}, ["b"]), True, knowledge.UNATTACHED),
        (Chat({"a": "x", "b": "y"}, ["a", "b"]), True, ""),
        (Chat({}), True, ""),
        (Chat({"a": "x"}, ["a"], [UNREAD], EMPTY), True, ""),
        (Chat({"a": "x"}, ["a"], [UNREAD, READ], EMPTY), True, knowledge.UNSEARCHABLE),
        (Chat({"a": "x"}, ["a"], [READ]), True, knowledge.UNSEARCHABLE),
        (Chat({"a": "x"}, ["a"], [READ], FOUND), True, ""),
    ],
)
def test_status_and_doctor_report_documents_that_the_assistant_cannot_find(
    tmp_path: Path, chat: Chat, serves: bool, words: str
) -> None:
    (tmp_path / knowledge.REMEMBERED).write_text('{"id": "a"}')
    service = cast(Service, SimpleNamespace(serves=serves))
    assert document_index.fault(service, lambda: cast(WebUI, chat), tmp_path) == words
    assert not document_index.fault(None, lambda: cast(WebUI, chat), tmp_path)


@pytest.mark.parametrize(
    ("data", "role", "key"),
    [
        ({knowledge.MARK: "a%20b.pdf", "file_hash": "1"}, "user", "a%20b.pdf"),
        ({"knowledge_id": "k", "file_hash": "1"}, "admin", "a%20b.pdf"),
        ({"knowledge_id": "k", "file_hash": "1", "directory_id": None}, "admin", None),
        ({"knowledge_id": "k", "file_hash": "1"}, "user", None),
        ({"knowledge_id": "k"}, "admin", None),
    ],
)
def test_files_by_glue_are_told_from_files_by_people(
    data: dict[str, Any], role: str, key: str | None
) -> None:
    row = {"id": "1", "filename": "a b.pdf", "meta": {"data": data}, "user": {"role": role}}
    assert knowledge.from_row(row).key == key
