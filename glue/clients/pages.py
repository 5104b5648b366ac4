"""Pages for administrators, in Open WebUI 0.12.4: over the chat's own address and sign-in.

A page is a file that glue uploads. Open WebUI shows it as HTML to every administrator who is signed
in, and to no one else (routers/files.py, get_html_file_content_by_id); so nothing more listens. A
note that only administrators can read links to them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from glue.clients.open_webui import WebUI
from glue.clients.webui_connection import Refused
from glue.core import files

REMEMBERED = "note.json"  # in the state folder: {"id": the note's}
TITLE = "What the assistant learns"
MARK = "glue_page"  # in the metadata of each page: its SHA-256


@dataclass(frozen=True)
class Page:
    """label: of its link. words: after it."""

    path: Path
    label: str
    words: str = ""


def ensure(person: WebUI, state: Path, wanted: Sequence[Page]) -> str:
    """The chat has these pages and no others of glue's. Returns the note's path in the chat; empty
    where there is no page and never was one."""
    if not wanted and not kept_path(state):
        return ""
    there = uploaded(person)
    known = {checksum: one for one, checksum in there.items()}
    lines, kept = [], set()
    for page in wanted:
        checksum = files.sha256(page.path)
        one = known.get(checksum) or upload(person, page.path, checksum)
        kept.add(one)
        lines.append(f"- [{page.label}](/api/v1/files/{one}/content/html) {page.words}")
    ensure_note(person, state, "\n".join([*lines, "", "Only administrators can read this."]))
    for one in there.keys() - kept:
        person.call("DELETE", f"/api/v1/files/{one}")
    return kept_path(state)


def kept_path(state: Path) -> str:
    """The note's path in the chat; empty before there is one."""
    kept = files.read_json_if_whole(state / REMEMBERED, {}).get("id")
    return f"/notes/{kept}" if kept else ""


def uploaded(person: WebUI) -> dict[str, str]:
    """Id -> checksum of each page that is there; without one if it is another account's, for Open
    WebUI shows no page of an account that is gone."""
    try:
        query = "filename=glue-*.html&content=false&limit=1000"
        rows = person.call("GET", f"/api/v1/files/search?{query}")
    except Refused as refused:
        if refused.status == 404:  # none
            return {}
        raise
    me = person.call("GET", "/api/v1/auths/")["id"]
    found = [(row, (row.get("meta") or {}).get("data") or {}) for row in rows]
    return {
        row["id"]: str(data[MARK]) if row["user_id"] == me else ""
        for row, data in found
        if MARK in data
    }


def upload(person: WebUI, path: Path, checksum: str) -> str:
    page = (f"glue-{path.name}", path.read_bytes(), "text/html")
    form = {"metadata": json.dumps({MARK: checksum})}
    sent = person.call("POST", "/api/v1/files/?process=false", files={"file": page}, data=form)
    return str(sent["id"])


def ensure_note(person: WebUI, state: Path, text: str) -> None:
    """Known by its id: people may rename it. A deleted one is created again."""
    data = {"content": {"md": text, "html": None, "json": None}}
    path = kept_path(state)
    found = read_note(person, path) if path else None
    if found is None:
        form = {"title": TITLE, "data": data, "access_grants": []}
        new = person.call("POST", "/api/v1/notes/create", json=form)
        files.write_json(state / REMEMBERED, {"id": new["id"]})
    elif found != text:
        person.call("POST", f"/api/v1{path}/update", json={"data": data})


def read_note(person: WebUI, path: str) -> str | None:
    """Its text; None if it is not there."""
    try:
        found = person.call("GET", f"/api/v1{path}")
    except Refused as refused:
        if refused.status == 404:
            return None
        raise
    return str(((found.get("data") or {}).get("content") or {}).get("md") or "")
