from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from glue.clients import knowledge
from glue.clients.open_webui import WebUI
from glue.clients.site import Site
from glue.core.names import BASE
from glue.serving import model


@pytest.mark.parametrize(("found", "told"), [("id", []), (None, [knowledge.DELETED])])
def test_a_day_without_the_collection_serves_and_says_so(
    found: str | None, told: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stub of the chat: whether the collection was deleted is tested with the real one."""
    heard: list[str] = []
    asked: list[Any] = []
    monkeypatch.setattr(knowledge, "ensure", lambda *_: found)
    person = SimpleNamespace(
        ensure_assistant=lambda *form: asked.append(form[1:]), ensure_banner=lambda **banner: None
    )
    site = SimpleNamespace(state=tmp_path, settings={}, tell=heard.append)
    model.ensure_assistant(cast(Site, site), cast(WebUI, person), None)
    assert asked == [(BASE, found)]
    assert [line.partition(f": {knowledge.INGEST}")[0] for line in heard] == told
