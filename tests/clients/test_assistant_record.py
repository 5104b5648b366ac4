"""Commands that change the assistant's record at the same time. A stub keeps the record as Open
WebUI does, as a whole; two real commands do not meet at this point on demand."""

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from glue.clients import assistant, knowledge, suggestions
from glue.clients.open_webui import EVERYONE_READS, NOTES, WebUI
from glue.clients.site import Site
from glue.core import files
from glue.core.errors import Locked
from glue.core.names import ASSISTANT, BASE
from glue.core.settings import load
from glue.serving import model

SETTINGS = load("rehearsal")


class Chat(WebUI):
    """meanwhile: runs once, after the record was read and before it is written."""

    def __init__(self) -> None:
        super().__init__("")
        self.models: dict[str, Any] = {ASSISTANT: {"id": ASSISTANT, "meta": {"knowledge": []}}}
        self.meanwhile: Callable[[], None] = lambda: None

    def registered_models(self) -> dict[str, Any]:
        found = deepcopy(self.models)
        meanwhile, self.meanwhile = self.meanwhile, lambda: None
        meanwhile()
        return found

    def ensure_model(self, form: dict[str, Any]) -> None:
        self.models[form["id"]] = form

    def ensure_banner(self, name: str, kind: str, text: str) -> None: ...

    def call(self, method: str, path: str, *_: Any, **__: Any) -> Any:
        if path.partition("?")[0].endswith("/files"):
            return {"items": [], "total": 0}
        return {"id": "documents", "access_grants": EVERYONE_READS}


def day(person: WebUI, state: Path) -> None:
    site = SimpleNamespace(settings=SETTINGS, state=state, tell=print)
    model.ensure_assistant(cast(Site, site), person, None)


CHANGES: dict[str, Callable[[WebUI, Path], None]] = {
    "documents": lambda person, state: knowledge.attach(person, state, "documents"),
    "notes": lambda person, state: knowledge.attach(person, state, "notes", NOTES),
    "ingest": lambda person, state: suggestions.ensure(person, state, ["plan.pdf"]),
    "day": day,
}
SHOWS: dict[str, Callable[[dict[str, Any]], bool]] = {
    "documents": lambda one: knowledge.attached(one) == ["documents"],
    "notes": lambda one: knowledge.attached(one, NOTES) == ["notes"],
    "ingest": lambda one: bool(one["meta"]["suggestion_prompts"]),
    "day": lambda one: bool(one.get("base_model_id") == BASE),
}


@pytest.mark.parametrize("second", CHANGES)
@pytest.mark.parametrize("first", CHANGES)
def test_no_command_changes_the_record_between_another_s_read_and_write(
    first: str, second: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assistant, "WAIT_SECONDS", 0)
    files.write_json(tmp_path / knowledge.REMEMBERED, {"id": "documents"})
    chat, refused = Chat(), []

    def meanwhile() -> None:
        with pytest.raises(Locked, match="another command is running") as error:
            CHANGES[second](chat, tmp_path)
        refused.append(error)

    chat.meanwhile = meanwhile
    CHANGES[first](chat, tmp_path)
    assert refused and SHOWS[first](chat.models[ASSISTANT])
    if second != "day":  # it replaces the whole record, of what is there then
        CHANGES[second](chat, tmp_path)
        assert SHOWS[first](chat.models[ASSISTANT]) and SHOWS[second](chat.models[ASSISTANT])
