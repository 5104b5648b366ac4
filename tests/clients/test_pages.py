"""The administrators' pages in the chat. A stub answers as Open WebUI does; tests/e2e has the real
one."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import requests

from glue.clients import pages
from glue.clients.open_webui import WebUI
from glue.clients.pages import Page
from glue.clients.site import Site
from glue.clients.webui_connection import Refused
from glue.core import files
from glue.operations import dataset
from glue.serving import pages as of_site


class Chat:
    """The stub: files (id -> name, metadata, content) and notes (id -> form)."""

    def __init__(self) -> None:
        self.files: dict[str, dict[str, Any]] = {}
        self.notes: dict[str, Any] = {}
        self.asked: list[str] = []

    def call(self, method: str, path: str, **body: Any) -> Any:
        self.asked.append(f"{method} {path}")
        last = path.partition("?")[0].rpartition("/")[2]
        if method == "DELETE":
            return self.files.pop(last)
        if path.startswith("/api/v1/files/search"):
            return self.search()
        if path == "/api/v1/auths/":
            return {"id": "me"}
        if path.startswith("/api/v1/files/"):
            name, content, _ = body["files"]["file"]
            meta = {"data": json.loads(body["data"]["metadata"])}
            new = f"file-{len(self.asked)}"
            row = {"id": new, "user_id": "me", "name": name, "meta": meta}
            self.files[new] = row | {"text": content.decode()}
            return {"id": new}
        if last == "create":
            self.notes[new := f"note-{len(self.asked)}"] = body["json"]
            return {"id": new}
        note = path.split("/")[4]
        if note not in self.notes:
            raise missing()
        self.notes[note] |= body.get("json", {})
        return self.notes[note]

    def search(self) -> list[dict[str, Any]]:
        found = [row for row in self.files.values() if row["name"].startswith("glue-")]
        if not found:
            raise missing()
        return found

    @property
    def texts(self) -> list[str]:
        return sorted(row["text"] for row in self.files.values())

    @property
    def note(self) -> str:
        (form,) = self.notes.values()
        return str(form["data"]["content"]["md"])


def missing() -> Refused:
    response = requests.Response()
    response.status_code, response._content = 404, b'{"detail": "not found"}'
    return Refused("GET", response)


def ensure(chat: Chat, state: Path, **texts: str) -> str:
    """Each keyword is a page and its text."""
    wanted = []
    for name, text in texts.items():
        (state / f"{name}.html").write_text(text)
        wanted.append(Page(state / f"{name}.html", f"The {name}:", "3 of 4"))
    return pages.ensure(cast(WebUI, chat), state, wanted)


def test_the_note_links_to_the_pages_and_is_open_to_no_member(tmp_path: Path) -> None:
    chat = Chat()
    address = ensure(chat, tmp_path, report="a", dataset="b")
    (note,) = chat.notes
    assert address == f"/notes/{note}" and chat.notes[note]["access_grants"] == []
    for one in chat.files:
        assert f"/api/v1/files/{one}/content/html) 3 of 4" in chat.note
    assert chat.texts == ["a", "b"]


def test_what_did_not_change_is_not_sent_again(tmp_path: Path) -> None:
    chat = Chat()
    ensure(chat, tmp_path, report="a")
    chat.asked.clear()
    ensure(chat, tmp_path, report="a")
    assert [line.partition(" ")[0] for line in chat.asked] == ["GET", "GET", "GET"]


def test_a_new_page_replaces_the_old_one_and_the_note_stays(tmp_path: Path) -> None:
    chat = Chat()
    first = ensure(chat, tmp_path, report="a", dataset="b")
    mine = {"id": "upload", "user_id": "bea", "name": "glue-plan.html", "meta": {}, "text": "mine"}
    chat.files["upload"] = mine
    assert ensure(chat, tmp_path, report="new") == first
    assert chat.texts == ["mine", "new"], "what people uploaded stays"
    assert next(one for one in chat.files if one != "upload") in chat.note


def test_a_note_that_was_renamed_is_found_and_one_that_was_deleted_is_made_anew(
    tmp_path: Path,
) -> None:
    chat = Chat()
    first = ensure(chat, tmp_path, report="a")
    chat.notes[first.removeprefix("/notes/")]["title"] = "Mornings"
    assert ensure(chat, tmp_path, report="b") == first
    assert chat.notes[first.removeprefix("/notes/")]["title"] == "Mornings"
    chat.notes.clear()
    assert ensure(chat, tmp_path, report="b") != first and len(chat.notes) == 1


def test_a_run_that_died_after_an_upload_is_finished_by_the_next(tmp_path: Path) -> None:
    chat = Chat()
    (tmp_path / "old.html").write_text("old")
    pages.upload(cast(WebUI, chat), tmp_path / "old.html", "checksum")
    ensure(chat, tmp_path, report="a")
    assert chat.texts == ["a"]


def test_pages_of_an_account_that_is_gone_are_sent_again(tmp_path: Path) -> None:
    chat = Chat()
    ensure(chat, tmp_path, report="a")
    (old,) = chat.files
    chat.files[old]["user_id"] = "gone"
    ensure(chat, tmp_path, report="a")
    assert chat.texts == ["a"] and old not in chat.files and old not in chat.note


def test_a_site_without_pages_has_no_note(tmp_path: Path) -> None:
    chat = Chat()
    assert ensure(chat, tmp_path) == "" and chat.asked == []


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """With a night and a data set, and the stub for its chat."""
    night = tmp_path / "nights" / "20260102T000000Z"
    for path in (night.with_name("20260101T000000Z"), night, night / "dataset"):
        path.mkdir(parents=True)
        (path / "report.html").write_text(path.name)
    (night / "dataset" / "report.html").rename(night / "dataset" / "page.html")
    figures = {"asked": 4, "right": 3, "right_before": 1}
    files.write_json(night.with_name("20260101T000000Z") / "report.json", {"outcome": "refused"})
    row = {"night": night.name, "outcome": "promoted", "verdict": {"figures": figures}}
    files.write_json(night / "report.json", row)
    chat, settings = Chat(), SimpleNamespace(people_url="https://spark.example.org")
    return cast(
        Site,
        SimpleNamespace(
            state=tmp_path,
            settings=settings,
            administrator=lambda: chat,
            tell=print,
            store=SimpleNamespace(names=list, current=lambda: None),
        ),
    )


def test_the_last_night_s_pages_are_in_the_chat(site: Site) -> None:
    address = of_site.ensure(site)
    assert address.startswith("https://spark.example.org/notes/note-")
    assert of_site.links(site)[1] == f"For administrators: {address}"
    chat = cast(Chat, site.administrator())
    assert chat.texts == ["20260102T000000Z", "dataset"], "the last night's, and its data set's"
    assert "3 of 4 questions answered right (1 before) (20260102T000000Z)" in chat.note


def test_what_is_forgotten_is_gone_from_the_chat_too(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    of_site.ensure(site)
    night = site.state / "nights" / "20260102T000000Z"

    def remove(*_: object) -> dict[str, int]:
        (night / "report.html").unlink()
        (night / "dataset" / "page.html").write_text("without it")
        return {"dataset": 1}

    monkeypatch.setattr(dataset, "remove", remove)
    dataset.forget(site, "chat", "c")
    chat = cast(Chat, site.administrator())
    assert chat.texts == ["without it"] and "What it learned from" in chat.note
    assert "3 of 4" not in chat.note
