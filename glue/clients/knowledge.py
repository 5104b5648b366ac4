"""The team's collections of documents and notes in Open WebUI 0.12.4: their IDs, their content, and
how files are added and removed.

A file is added in steps: upload, name, extract and embed, link. Each call returns when its step is
done. A failed file is never linked, and the text is checked before people can find it.
"""

from __future__ import annotations

import json
import mimetypes
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from glue.clients.open_webui import (
    DOCUMENTS,
    EVERYONE_READS,
    NOTES,
    Kind,
    WebUI,
    holds,
    reference,
)
from glue.clients.webui_connection import Refused
from glue.core import files
from glue.core.errors import GlueError
from glue.core.names import ASSISTANT

REMEMBERED = "knowledge.json"  # in the state folder: {"id": the documents', "notes": the notes'}
FILE_DEADLINE_SECONDS = 600
BYTES_A_SECOND = 25_000  # half of what two cores embed: 38 chunks of 1,000 characters and more
PAGE = 500  # Open WebUI gives 30 at a time; its administrators may ask for more
MARK = "ingest_path"  # in the metadata of each file that glue put in
NOTE_KEY = "note:"  # begins the MARK of a note; a path's colon is percent-encoded
EARLIER_MARK = {"knowledge_id", "file_hash"}  # what versions without MARK wrote, and nothing else
DELETED = "the team's documents were deleted in Open WebUI: answers use none"
UNATTACHED = "the team's documents are not attached to the assistant: answers use none"
INGEST = "make ingest DIR=<the folder of documents>"
UNSEARCHABLE = "the team's documents are listed, but cannot be found: answers use none"
MOST_CHUNKS = 100_000
PROCESS = "/api/v1/retrieval/process/file"


@dataclass(frozen=True)
class Held:
    """A file in the collection. key: the path that it was ingested from, or None if a person
    added it. checksum: SHA-256 of its bytes. text: SHA-256 of its text, empty if it cannot be
    found. clean: glue checked its text before linking it."""

    id: str
    name: str
    key: str | None
    checksum: str = ""
    text: str = ""
    person: str = ""
    clean: bool = False


# ---------------------------------------------------------------------- which collection


def ensure(person: WebUI, state: Path, anew: bool = False, kind: Kind = DOCUMENTS) -> str | None:
    """The ID of the team's collection, readable for everyone. Created in a new Open WebUI; None
    if it was deleted, unless anew."""
    assistant = person.registered_models().get(ASSISTANT)
    found = current(person, state, assistant, kind)
    if found is None and (anew or not assistant):
        found = create(person, kind)
    if found is not None:
        share(person, found)
        kept = files.read_json_if_whole(state / REMEMBERED, {})
        with suppress(OSError):  # on a full disk the assistant still knows it
            files.write_json(state / REMEMBERED, kept | {kind.remembered: found})
    return found


def current(
    person: WebUI, state: Path, assistant: dict[str, Any] | None = None, kind: Kind = DOCUMENTS
) -> str | None:
    """The ID of the collection, or None. Its name does not matter: the ID is the one in the
    state folder, else the assistant's, else that of the first collection with glue's name."""
    assistant = assistant or person.registered_models().get(ASSISTANT)
    kept = files.read_json_if_whole(state / REMEMBERED, {}).get(kind.remembered)
    known = [kept, *attached(assistant, kind)]
    found = next((one for one in known if one and row(person, one)), None)
    return named(person, kind) if found is None and not (kept and assistant) else found


def named(person: WebUI, kind: Kind = DOCUMENTS) -> str | None:
    """The first collection with the name that glue gives; among many, it is on any page."""
    found = listed(person, "/api/v1/knowledge/")
    return next((str(one["id"]) for one in found if one["name"] == kind.name), None)


def attached(assistant: dict[str, Any] | None, kind: Kind = DOCUMENTS) -> list[str]:
    """IDs of the collections of this kind that the assistant searches."""
    rows = ((assistant or {}).get("meta") or {}).get("knowledge") or []
    found = [row for row in rows if row.get("type") == "collection"]
    return [str(row["id"]) for row in found if is_notes(row) == (kind is NOTES)]


def is_notes(row: dict[str, Any]) -> bool:
    return bool(row.get("name") == NOTES.shown)


def row(person: WebUI, knowledge: str) -> dict[str, Any] | None:
    """What Open WebUI says of a collection; None if there is none by this id."""
    try:
        found: dict[str, Any] = person.call("GET", f"/api/v1/knowledge/{knowledge}")
    except Refused as refused:
        if refused.status == 404:
            return None
        raise
    return found


def share(person: WebUI, knowledge: str) -> None:
    grants = {"access_grants": EVERYONE_READS}
    if not holds(row(person, knowledge), grants):
        person.call("POST", f"/api/v1/knowledge/{knowledge}/access/update", json=grants)


def create(person: WebUI, kind: Kind = DOCUMENTS) -> str:
    form = {"name": kind.name, "description": kind.description}
    return str(person.call("POST", "/api/v1/knowledge/create", json=form)["id"])


def attach(person: WebUI, knowledge: str, kind: Kind = DOCUMENTS) -> None:
    """Makes the assistant search this collection, if it does not yet."""
    assistant = person.registered_models().get(ASSISTANT)
    if assistant and knowledge not in attached(assistant, kind):
        rows = assistant["meta"].get("knowledge") or []
        kept = [one for one in rows if is_notes(one) != (kind is NOTES)]
        wanted = sorted([*kept, *reference(knowledge, kind)], key=is_notes)
        person.ensure_model(assistant | {"meta": assistant["meta"] | {"knowledge": wanted}})
        person.call("GET", "/api/models?refresh=true")


# ---------------------------------------------------------------------- what it holds


def listed(person: WebUI, path: str) -> Iterator[dict[str, Any]]:
    """Every row of a list that Open WebUI returns in pages."""
    page = seen = 0
    while True:
        page += 1
        listing = person.call("GET", f"{path}?page={page}&limit={PAGE}")
        yield from listing["items"]
        seen += len(listing["items"])
        if not listing["items"] or seen >= listing["total"]:
            return


def held(person: WebUI, knowledge: str | None) -> list[Held]:
    """Everything in the collection, by name."""
    return sorted(rows(person, knowledge), key=lambda one: (one.name, one.id))


def rows(person: WebUI, knowledge: str | None) -> Iterator[Held]:
    """The same, as Open WebUI sorts it; read as far as it is taken."""
    path = f"/api/v1/knowledge/{knowledge}/files"
    return map(from_row, listed(person, path) if knowledge else ())


def from_row(row: dict[str, Any]) -> Held:
    meta = row.get("meta") or {}
    data = meta.get("data") or {}
    user = row.get("user") or {}
    key, clean = data.get(MARK), MARK in data
    if key is None and set(data) == EARLIER_MARK and user.get("role") in ("admin", None):
        key = quote(row["filename"])
    checksum, text = str(meta.get("file_hash") or ""), str(row.get("hash") or "")
    return Held(row["id"], row["filename"], key, checksum, text, user.get("name") or "", clean)


def texts(person: WebUI, knowledge: str | None) -> Iterator[tuple[str, str]]:
    """(name, extracted text) of every document in the collection."""
    for one in held(person, knowledge):
        yield one.name, text_of(person, one.id)


def text_of(person: WebUI, file_id: str) -> str:
    return str(person.call("GET", f"/api/v1/files/{file_id}/data/content")["content"] or "")


def look_up(
    person: WebUI, knowledge: str | None, question: str, count: int, kind: Kind = DOCUMENTS
) -> list[dict[str, Any]]:
    """The sources that a chat would get for this question, in the form in which it stores them."""
    if knowledge is None:
        return []
    body = {"collection_names": [knowledge], "query": question, "k": count}
    found = person.call("POST", "/api/v1/retrieval/query/collection", json=body)
    if not found.get("documents") or not found["documents"][0]:
        return []
    about = reference(knowledge, kind)[0]
    return [{"source": about, "document": found["documents"][0], "metadata": found["metadatas"][0]}]


# ---------------------------------------------------------------------- in and out


def upload(person: WebUI, path: Path, name: str, key: str, checksum: str) -> str:
    """Uploads the file and returns its ID; Open WebUI has not read it yet. The name is set
    separately: in a form's header, quotes and line breaks would become %22 and %0A."""
    suffix = path.suffix.lower()
    kind = mimetypes.guess_type(f"document{suffix}")[0] or "application/octet-stream"
    metadata = json.dumps({MARK: key, "file_hash": checksum})
    with path.open("rb") as file:
        found = person.call(
            "POST",
            "/api/v1/files/?process=false",
            FILE_DEADLINE_SECONDS,
            files={"file": (f"document{suffix}", file, kind)},
            data={"metadata": metadata},
        )
    person.call("POST", f"/api/v1/files/{found['id']}/rename", json={"filename": name})
    return str(found["id"])


def deadline_seconds(size: int) -> float:
    """For one step of a file of so many bytes."""
    return FILE_DEADLINE_SECONDS + size / BYTES_A_SECOND


def read(
    person: WebUI, file_id: str, seconds: float = FILE_DEADLINE_SECONDS, text: str | None = None
) -> str:
    """Makes Open WebUI embed the text, its own reading of the file or this one, and returns it.
    Raises Refused with the reason if it cannot."""
    body = {"file_id": file_id} | ({"content": text} if text else {})
    return str(person.call("POST", PROCESS, seconds, json=body)["content"])


def pages(person: WebUI, file_id: str) -> tuple[int, int]:
    """(pages of a PDF, pages without text); (0, 0) if unknown."""
    body = {"collection_name": f"file-{file_id}", "query": "page", "k": MOST_CHUNKS}
    try:
        found = person.call("POST", "/api/v1/retrieval/query/doc", json=body)
    except Refused:  # a note is lost, and no document
        return 0, 0
    rows = found["metadatas"][0] if found.get("metadatas") else []
    total = max((row.get("total_pages") or 0 for row in rows), default=0)
    return total, total - len({row.get("page") for row in rows}) if total else 0


def rewrite(person: WebUI, file_id: str, text: str) -> None:
    """Replaces the text, also in every other collection that has it. Its page numbers are lost."""
    path = f"/api/v1/files/{file_id}/data/content/update"
    person.call("POST", path, FILE_DEADLINE_SECONDS, json={"content": text})


def link(
    person: WebUI, knowledge: str, file_id: str, seconds: float = FILE_DEADLINE_SECONDS
) -> None:
    """Lets the assistant find the file."""
    path, body = f"/api/v1/knowledge/{knowledge}/file/add", {"file_id": file_id}
    person.call("POST", path, seconds, json=body)


def remove(person: WebUI, knowledge: str, gone: list[Held]) -> None:
    if gone:
        path = f"/api/v1/knowledge/{knowledge}/sync/cleanup"
        body = {"file_ids": [one.id for one in gone], "dir_ids": []}
        person.call("POST", path, FILE_DEADLINE_SECONDS, json=body)


def discard(person: WebUI, file_id: str) -> None:
    """Deletes a file that is in no collection. If that fails, the next ingest finds it."""
    with suppress(GlueError):
        person.call("DELETE", f"/api/v1/files/{file_id}")
