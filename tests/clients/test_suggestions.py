"""What the chat suggests to ask. A stub stands in for Open WebUI; tests/e2e has the real one."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from glue.clients import suggestions
from glue.clients.open_webui import WebUI, assistant
from glue.core.names import ASSISTANT, GLOSSARY
from glue.core.settings import load


def asked(state: Path, *documents: str) -> list[str]:
    return [row["content"] for row in suggestions.made(state, documents)]


def test_without_documents_and_glossary_nothing_is_suggested(tmp_path: Path) -> None:
    assert asked(tmp_path) == []


def test_terms_and_documents_are_suggested_half_and_half(tmp_path: Path) -> None:
    terms = "".join(f'T{number} = "A term."\n' for number in range(9))
    (tmp_path / GLOSSARY).write_text(f"[terms]\n{terms}")
    found = asked(tmp_path, *(f"2024/travel_policy-{number}.pdf" for number in range(9)))
    assert found[:3] == [f"What does T{number} mean?" for number in (0, 3, 6)]
    assert found[3:] == [f'What does "travel policy {number}" say?' for number in (0, 3, 6)]
    assert len(asked(tmp_path)) == 3, "a glossary alone"
    (tmp_path / GLOSSARY).unlink()
    assert len(asked(tmp_path, *map(str, range(9)))) == 6, "documents alone"


def test_a_question_that_the_document_proves_is_better_than_its_name(tmp_path: Path) -> None:
    folder = tmp_path / "nights" / "20260101T000000Z" / "dataset"
    folder.mkdir(parents=True)
    rows = [
        {
            "prompt": [{"role": "system", "content": "s"}, {"role": "user", "content": question}],
            "origin": {"kind": kind, "document": "a.pdf"},
        }
        for kind, question in (("document", "Who pays?"), ("rated answer", "A person's question"))
    ]
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert asked(tmp_path, "a.pdf", "b.pdf") == ["Who pays?", 'What does "b" say?']


@pytest.mark.parametrize("text", ["[terms", "terms = 1", "questions = 1", "[terms]\n1 = 2", "\xff"])
def test_a_glossary_of_another_form_keeps_no_day_from_starting(text: str, tmp_path: Path) -> None:
    (tmp_path / GLOSSARY).write_text(text, encoding="latin-1")
    assert all(isinstance(one, str) for one in asked(tmp_path))


def test_a_name_that_cannot_be_shown_is_not_suggested(tmp_path: Path) -> None:
    assert asked(tmp_path, "x" * 200, "hidden\u202ename.pdf", "good.pdf") == [
        'What does "good" say?'
    ]


def test_an_ingest_changes_the_suggestions_and_nothing_else(tmp_path: Path) -> None:
    there = assistant(load("rehearsal"), "team-base", [])
    kept: list[Any] = []
    person = SimpleNamespace(
        registered_models=lambda: {ASSISTANT: there}, ensure_model=kept.append, call=lambda *_: None
    )
    suggestions.ensure(cast(WebUI, person), tmp_path, ["a.pdf"])
    (new,) = kept
    assert [row["content"] for row in new["meta"].pop("suggestion_prompts")] == [
        'What does "a" say?'
    ]
    assert new == there
    person.registered_models = dict
    suggestions.ensure(cast(WebUI, person), tmp_path, ["a.pdf"])
    assert len(kept) == 1, "nothing before the assistant exists"


def test_the_assistant_has_the_team_s_name_and_says_how_to_teach_it() -> None:
    settings = load("rehearsal")
    form = assistant(settings, "team-base", [])
    assert form["name"] == f"{settings['TEAM_NAME']} Assistant"
    lines = form["meta"]["description"].splitlines()
    assert len(lines) == 2 and all(len(line) <= 80 for line in lines), "the page shows two lines"
    assert "Save as copy" in lines[0] and "thumbs up" in lines[0]
