"""When notes are made anew, and what is kept of them. tests/e2e has the real Open WebUI."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import requests

from glue.clients import knowledge, leftovers
from glue.clients.knowledge import NOTE_KEY, Held
from glue.clients.open_webui import WebUI
from glue.clients.site import Site
from glue.clients.webui_connection import Refused
from glue.core.errors import GlueError, Misconfigured
from glue.operations import notes
from glue.serving import status

NOW = 10_000.0
WHOLE = {"seen": "a", "whole": True, "time": NOW - 500, "compared": NOW - 500}


@pytest.mark.parametrize(
    ("kept", "seen", "due"),
    [
        ({}, "a", False),
        ({}, "b", True),
        ({"compared": NOW - 3601}, "a", True),
        ({"compared": NOW + 60}, "a", True),  # the clock was wrong
        ({"whole": False}, "a", True),
        ({"whole": False, "time": NOW - 30}, "a", False),
        ({"whole": False, "time": NOW - 30}, "b", True),
        ({"time": NOW - 7200}, "a", False),
    ],
)
def test_notes_are_made_anew_after_a_change_each_hour_and_a_minute_after_a_failure(
    kept: dict[str, Any], seen: str, due: bool
) -> None:
    assert notes.is_due(WHOLE | kept, seen, NOW) == due


def test_before_the_first_time_they_are_due(tmp_path: Path) -> None:
    assert notes.is_due(notes.read(tmp_path), "a", NOW)


def test_what_the_documents_say_is_asked_again_once_they_may_have_changed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("time.time", lambda: NOW)
    said = {"agree": False, "newer": False, "otherwise": []}
    rows = [{"id": "1", "documents": said}, {"id": "a term", "documents": {}}]
    kept = WHOLE | {"documents": "x", "notes": rows}
    assert notes.compared(kept, "x") == {"1": said}
    assert notes.compared(kept, "y") == notes.compared(kept | {"compared": 0.0}, "x") == {}


def test_what_failed_is_told_by_status_until_it_succeeds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stubs for Open WebUI and the job: the real ones do not fail on demand."""
    results: list[Any] = [Misconfigured("Invalid answers.csv", "line 2", ""), None]

    def make(*_: Any) -> str:
        if result := results.pop(0):
            raise result
        return ""

    monkeypatch.setattr(notes, "make", make)
    monkeypatch.setattr(notes, "made_of", lambda *_: "a")
    site = cast(Site, SimpleNamespace(state=tmp_path, administrator=lambda: None))
    with pytest.raises(Misconfigured):
        notes.renewed(site)
    assert "answers.csv: line 2" in status.notes_fault(tmp_path)[0]
    assert notes.renewed(site)["whole"] and status.notes_fault(tmp_path) == []


def test_a_bad_list_is_told_by_status_while_the_other_notes_are_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stubs for Open WebUI and the job."""
    told: list[str] = []
    monkeypatch.setattr(notes, "make", lambda *_: "line 2")
    monkeypatch.setattr(notes, "made_of", lambda *_: "a")
    named = SimpleNamespace(state=tmp_path, administrator=lambda: None, tell=told.append)
    assert notes.renewed(cast(Site, named))["whole"]
    assert "answers.csv" in told[0] and "line 2" in status.notes_fault(tmp_path)[0]


NOTED = {"id": "a", "question": "Q?", "text": "Q?\nA.", "who": "Vera", "when": 0}


class Served:
    """A stub of the chat's notes: the real one refuses a text, or has another name, only rarely."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, held: list[Held], refuses: str) -> None:
        self.added: list[str] = []
        self.removed: list[str] = []
        self.refuses = refuses
        for name, value in {
            "ensure": lambda *_, **__: "c",
            "held": lambda *_: held,
            "attach": lambda *_: None,
            "remove": lambda _, __, gone: self.removed.extend(one.id for one in gone),
        }.items():
            monkeypatch.setattr(knowledge, name, value)
        monkeypatch.setattr(leftovers, "clear", lambda *_: None)
        monkeypatch.setattr(notes, "add", self.add)

    def add(self, _: Any, __: str, row: dict[str, Any]) -> None:
        if row["id"] == self.refuses:
            response = requests.Response()
            response.status_code = 400
            raise Refused("a note", response)
        self.added.append(row["id"])


def test_one_refused_note_neither_keeps_a_withdrawn_one_nor_stops_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chat = Served(monkeypatch, [Held("1", "n", NOTE_KEY + "withdrawn-1")], refuses="b")
    rows = [NOTED, NOTED | {"id": "b", "question": "Bad?"}, NOTED | {"id": "c"}]
    with pytest.raises(GlueError, match="'Bad\\?'"):
        notes.serve(cast(WebUI, None), tmp_path, rows)
    assert chat.removed == ["1"] and chat.added == ["a", "c"]


def test_a_note_of_two_people_loses_the_name_of_the_one_who_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chat = Served(monkeypatch, [Held("1", "n", notes.key_of(NOTED))], refuses="")
    notes.serve(cast(WebUI, None), tmp_path, [NOTED | {"who": "Paul"}])
    assert chat.removed == ["1"] and chat.added == ["a"]


def test_files_that_people_put_among_the_notes_stay() -> None:
    held = [Held(one, "n", key) for one, key in (("1", NOTE_KEY + "a"), ("2", None), ("3", "b"))]
    assert notes.outdated(held, {NOTE_KEY + "a"}) == [held[2]]


def test_a_source_says_who_and_when() -> None:
    assert notes.name_of({"who": "Vera", "when": 0}) == "Team note: Vera"
    assert notes.name_of({"who": "Vera", "when": 1_700_000_000.0}).startswith(
        "Team note: Vera, 2023-11-1"
    )
