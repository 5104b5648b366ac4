from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from glue.clients import knowledge
from glue.clients.knowledge import Held
from glue.clients.open_webui import WebUI, reference
from glue.clients.site import Site
from glue.clients.webui_accounts import NoAccount
from glue.core import files, names
from glue.core.errors import GlueError
from glue.core.names import BASE
from glue.serving import model


def test_a_day_starts_without_the_administrators_pages_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stub: Open WebUI refuses the pages only where its administrators switch notes off."""
    heard: list[str] = []
    monkeypatch.setattr(model, "load", lambda *_: None)
    monkeypatch.setattr(model, "ensure_assistant", lambda *_: None)
    monkeypatch.setattr(model, "remember_prompt", lambda *_: None)
    (tmp_path / "note.json").write_text('{"id": "n"}')

    def call(*_: object) -> None:
        raise GlueError("Open WebUI refused GET /api/v1/notes/n", "403", "")

    person = SimpleNamespace(ensure_filter=lambda: None, call=call)
    store = SimpleNamespace(current=lambda: None, serves_merged=lambda: False)
    site = SimpleNamespace(
        state=tmp_path, store=store, administrator=lambda: person, tell=heard.append
    )
    site.settings = {"NOTES": "off"}
    model.set_up_assistant(cast(Site, site))
    assert "pages in the chat are not renewed" in heard[-1] and "403" in heard[-1]


@pytest.mark.parametrize(("found", "told"), [("id", []), (None, [knowledge.DELETED])])
def test_a_day_without_the_collection_serves_and_says_so(
    found: str | None, told: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stub of the chat: whether the collection was deleted is tested with the real one."""
    heard: list[str] = []
    asked: list[Any] = []
    monkeypatch.setattr(knowledge, "ensure", lambda *_: found)
    monkeypatch.setattr(
        knowledge, "held", lambda *_: [Held("f", "plan.pdf", None)] if found else []
    )
    person = SimpleNamespace(
        ensure_assistant=lambda *form: asked.append(form[1:]), ensure_banner=lambda **banner: None
    )
    site = SimpleNamespace(state=tmp_path, settings={"NOTES": "off"}, tell=heard.append)
    model.ensure_assistant(cast(Site, site), cast(WebUI, person), None)
    suggested = [row["content"] for row in asked[0][2]]
    assert asked[0][:2] == (BASE, reference(found))
    assert suggested == ['What does "plan" say?'] * bool(found)
    assert [line.partition(f": {knowledge.INGEST}")[0] for line in heard] == told


def test_a_day_remembers_each_prompt_once(tmp_path: Path) -> None:
    def day(system: str) -> None:
        settings = {"SYSTEM_PROMPT": system, "RAG_TEMPLATE": "{{CONTEXT}}"}
        model.remember_prompt(cast(Site, SimpleNamespace(state=tmp_path, settings=settings)))

    for system in ("a", "b", "a", "b"):
        day(system)
    kept = files.read_lines(tmp_path / names.PROMPTS)
    assert [row["system"] for row in kept] == ["a", "b"]
    assert (tmp_path / names.PROMPTS).stat().st_mode & 0o777 == 0o600


def test_a_day_that_cannot_sign_in_to_the_chat_serves_and_says_so(tmp_path: Path) -> None:
    heard: list[str] = []

    def refused() -> WebUI:
        raise NoAccount("Open WebUI accepts no account", "400", "make admin-password")

    store = SimpleNamespace(current=lambda: None, serves_merged=lambda: False)
    site = SimpleNamespace(tell=heard.append, store=store, administrator=refused)
    model.set_up_assistant(cast(Site, site))
    assert "make admin-password" in heard[-1]
