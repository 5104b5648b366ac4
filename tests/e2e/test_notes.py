"""A correction by one member, found for another, on the real Open WebUI."""

import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from glue.clients import knowledge, open_webui
from glue.clients.open_webui import NOTES, WebUI
from glue.clients.site import Site
from glue.clients.webui_connection import Refused
from glue.core.errors import PreconditionFailed
from glue.core.names import ASSISTANT, SERVED
from glue.core.names import NOTES as NOTES_FILE
from glue.operations import documents, notes
from glue.serving import model, pages

QUESTION = "When does the workshop's paint cabin close?"
OTHERWISE = "Until what time can I use the paint cabin of the workshop?"
WRONG, RIGHT = "The paint cabin closes at 16:00.", "The paint cabin closes at 18:45."
NOTE = f"{QUESTION}\n{RIGHT}"
WITHIN_SECONDS = 60
TIMER_SECONDS = 30  # the longest until it looks
PASSWORD = uuid.uuid4().hex + "Aa1-"


@pytest.fixture
def noting(site: Site) -> Iterator[Site]:
    """The same site with NOTES=auto. Afterwards as it was."""
    values = site.settings.values
    yield replace(site, settings=replace(site.settings, values=values | {"NOTES": "auto"}))
    person = site.administrator()
    notes.serve(person, site.state, [])
    model.ensure_assistant(site, person, site.store.current())
    (site.state / NOTES_FILE).unlink(missing_ok=True)
    (site.state / pages.NOTES).unlink(missing_ok=True)
    pages.ensure(site)


@pytest.fixture
def beside(apart: Site, noting: Site, monkeypatch: pytest.MonkeyPatch) -> Site:
    """With documents and a state folder of its own. The pages are those of the other folder."""
    monkeypatch.setattr(pages, "ensure", lambda _: "")
    values = apart.settings.values | {"NOTES": "auto"}
    return replace(apart, settings=replace(apart.settings, values=values))


@pytest.fixture
def named(site: Site) -> Iterator[Callable[[str], WebUI]]:
    """A member by name. Afterwards their ratings are gone."""
    people: list[WebUI] = []

    def member(name: str) -> WebUI:
        email = f"{name.lower()}@rehearsal.local"
        site.administrator().ensure_user(name, email, PASSWORD)
        people.append(open_webui.sign_in(site.settings.chat_url, email, PASSWORD))
        return people[-1]

    yield member
    for person in people:
        with suppress(Refused):  # a test deletes an account
            person.call("DELETE", "/api/v1/evaluations/feedbacks")


def answer(parent: str, text: str, sources: list[dict[str, Any]]) -> dict[str, Any]:
    """As the page keeps one; a copy has the first one's task."""
    return {
        "id": str(uuid.uuid4()),
        "parentId": parent,
        "role": "assistant",
        "model": ASSISTANT,
        "content": text,
        "sources": sources,
        "meta": {"task_id": parent},
        "timestamp": int(time.time()),
    }


def correct(member: WebUI, question: str, right: str) -> str:
    """Asks, edits the answer, saves it as a copy and rates that up. Returns the rating's ID."""
    asked = {"id": str(uuid.uuid4()), "parentId": None, "role": "user", "content": question}
    sources = member.ask([{"role": "user", "content": question}]).sources
    first, copy = (answer(str(asked["id"]), text, sources) for text in (WRONG, right))
    messages = {one["id"]: one for one in (asked, first, copy)}
    chat = {"title": "t", "history": {"currentId": copy["id"], "messages": messages}}
    saved = member.call("POST", "/api/v1/chats/new", json={"chat": chat})
    rating = {
        "type": "rating",
        "data": {"rating": 1, "model_id": ASSISTANT},
        "meta": {"chat_id": saved["id"], "message_id": copy["id"]},
        "snapshot": {"chat": member.call("GET", f"/api/v1/chats/{saved['id']}")},
    }
    return str(member.call("POST", "/api/v1/evaluations/feedback", json=rating)["id"])


def ask(member: WebUI) -> list[str]:
    """Asks otherwise. Returns the texts of the notes among the answer's sources."""
    found = member.ask([{"role": "user", "content": OTHERWISE}])
    return [
        text
        for source in found.sources
        if source["source"].get("name") == NOTES.shown
        for text in source["document"]
    ]


def by(name: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The demonstration's people have notes too."""
    (row,) = (row for row in rows if row["who"] == name)
    return row


def test_a_correction_is_a_source_of_another_member_s_next_answer_until_it_is_withdrawn(
    noting: Site, named: Callable[[str], WebUI]
) -> None:
    nora, pia = named("Nora"), named("Pia")
    notes.keep_in_step(noting)
    assert NOTE not in ask(pia)
    rating, begun = correct(nora, QUESTION, RIGHT), time.monotonic()
    row = by("Nora", notes.keep_in_step(noting))
    assert (row["state"], row["question"], row["answer"]) == (SERVED, QUESTION, RIGHT)
    found = pia.ask([{"role": "user", "content": OTHERWISE}])
    assert any(name.startswith("Team note: Nora, ") for name in found.source_names)
    assert NOTE in found.passages and NOTE in ask(pia)
    assert time.monotonic() - begun < WITHIN_SECONDS - TIMER_SECONDS
    assert notes.keep_in_step(noting) == [], "nothing has changed"
    nora.call("DELETE", f"/api/v1/evaluations/feedback/{rating}")
    notes.keep_in_step(noting)
    assert NOTE not in ask(pia) and row["id"] not in served(noting)


def served(site: Site) -> list[str]:
    person = site.administrator()
    collection = knowledge.current(person, site.state, kind=NOTES)
    held = knowledge.held(person, collection)
    return [str(one.key).removeprefix(knowledge.NOTE_KEY).partition("-")[0] for one in held]


def test_with_review_a_note_is_found_once_it_is_accepted_and_no_more_once_it_is_dropped(
    noting: Site, named: Callable[[str], WebUI]
) -> None:
    values = noting.settings.values | {"NOTES": "review"}
    reviewed = replace(noting, settings=replace(noting.settings, values=values))
    nora, pia = named("Nora"), named("Pia")
    correct(nora, QUESTION, RIGHT)
    row = by("Nora", notes.notes(reviewed))
    assert row["state"] != SERVED and NOTE not in ask(pia)
    assert by("Nora", notes.notes(reviewed, accept=row["id"]))["state"] == SERVED
    assert NOTE in ask(pia)
    assert by("Nora", notes.notes(reviewed, drop=row["id"]))["state"] != SERVED
    assert NOTE not in ask(pia)
    with pytest.raises(PreconditionFailed, match="no such note"):
        notes.notes(reviewed, accept="0000")


def test_the_notes_of_a_deleted_account_go(noting: Site, named: Callable[[str], WebUI]) -> None:
    wanda, pia = named("Wanda"), named("Pia")
    correct(wanda, QUESTION, RIGHT)
    assert by("Wanda", notes.keep_in_step(noting)) and NOTE in ask(pia)
    person = noting.administrator()
    person.call("DELETE", f"/api/v1/users/{wanda.user['id']}")
    notes.keep_in_step(noting)
    assert NOTE not in ask(pia)
    assert person.delete_ratings_of_deleted(wanda.user["id"]) == 1


def test_a_deleted_collection_is_made_anew_and_a_lost_state_folder_doubles_no_note(
    noting: Site, named: Callable[[str], WebUI]
) -> None:
    """Open WebUI answers without sources, with status 200, where a collection is gone."""
    nora, pia = named("Nora"), named("Pia")
    correct(nora, QUESTION, RIGHT)
    row = by("Nora", notes.keep_in_step(noting))
    person = noting.administrator()
    collection = knowledge.current(person, noting.state, kind=NOTES)
    person.call("DELETE", f"/api/v1/knowledge/{collection}/delete")
    assert notes.notes(noting) and NOTE in ask(pia)
    (noting.state / NOTES_FILE).unlink()
    assert notes.keep_in_step(noting) and served(noting).count(row["id"]) == 1


def test_a_note_names_the_document_that_says_otherwise_and_retires_once_that_is_changed(
    beside: Site, named: Callable[[str], WebUI], tmp_path: Path
) -> None:
    nora, pia, folder = named("Nora"), named("Pia"), tmp_path / "documents"
    folder.mkdir()
    (folder / "cabin.txt").write_text(WRONG)
    documents.ingest(beside, folder, yes=True)
    correct(nora, QUESTION, RIGHT)
    row = by("Nora", notes.notes(beside))
    assert (row["state"], row["documents"]["otherwise"]) == (SERVED, ["cabin.txt"])
    assert NOTE in ask(pia)
    (folder / "cabin.txt").write_text(RIGHT)
    documents.ingest(beside, folder, yes=True)
    assert by("Nora", notes.notes(beside))["state"].startswith("retired")
    assert NOTE not in ask(pia)
