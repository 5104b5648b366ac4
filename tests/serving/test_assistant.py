from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from glue.clients import knowledge
from glue.clients.knowledge import Held
from glue.clients.open_webui import WebUI
from glue.clients.site import Site
from glue.core.names import BASE
from glue.serving import model


@pytest.mark.parametrize(("found", "told"), [("id", []), (None, [knowledge.DELETED])])
def test_a_day_without_documents_serves_and_says_so(
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
    site = SimpleNamespace(state=tmp_path, settings={}, tell=heard.append)
    model.ensure_assistant(cast(Site, site), cast(WebUI, person), None)
    suggested = [row["content"] for row in asked[0][2]]
    assert asked[0][:2] == (BASE, found) and suggested == ['What does "plan" say?'] * bool(found)
    assert [line.partition(f": {knowledge.INGEST}")[0] for line in heard] == told
