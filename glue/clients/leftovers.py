"""Files that glue uploaded to Open WebUI 0.12.4 and did not link to a collection."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from glue.clients.knowledge import MARK, NOTE_KEY, Held, discard, from_row
from glue.clients.open_webui import DOCUMENTS, NOTES, Kind, WebUI
from glue.clients.webui_connection import Refused


def clear(person: WebUI, knowledge: str, linked: list[Held], kind: Kind = DOCUMENTS) -> None:
    """Deletes unlinked files and their text in the index, for which Open WebUI would always
    refuse the same text (https://github.com/open-webui/open-webui/issues/27987)."""
    served = {one.text for one in linked}
    for one in unfinished(person, knowledge, linked, kind):
        if one.text and one.text not in served:  # the index is cleared by the text's checksum
            body = {"collection_name": knowledge, "file_id": one.id}
            with suppress(Refused):  # what it still refuses later is named then
                person.call("POST", "/api/v1/retrieval/delete", json=body)
        discard(person, one.id)


def unfinished(person: WebUI, knowledge: str, linked: list[Held], kind: Kind) -> list[Held]:
    """Files of this kind that glue uploaded and did not link, because it or Open WebUI was
    stopped."""
    known = {one.id for one in linked}
    rows = (row for row in uploaded(person) if row["id"] not in known)
    found = [from_row(row) for row in rows if not in_another_collection(row, knowledge)]
    return [one for one in found if (one.key or "").startswith(NOTE_KEY) == (kind is NOTES)]


def uploaded(person: WebUI) -> Iterator[dict[str, Any]]:
    """Every file that glue uploaded and that still exists."""
    skip = 0
    while True:
        path = f"/api/v1/files/search?filename=*&content=false&limit=100&skip={skip}"
        try:
            rows = person.call("GET", path)
        except Refused as refused:
            if refused.status == 404:  # no more files
                return
            raise
        yield from (row for row in rows if MARK in (row["meta"].get("data") or {}))
        skip += len(rows)


def in_another_collection(row: dict[str, Any], knowledge: str) -> bool:
    """Whether a person has linked one of our files elsewhere too."""
    last_indexed = row["meta"].get("collection_name") or ""
    return last_indexed not in ("", f"file-{row['id']}", knowledge)
