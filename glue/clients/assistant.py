"""Changes of the team's assistant in Open WebUI 0.12.4, one command at a time.

Open WebUI replaces the whole record of a model. A command that changes a part of it sends back the
rest as it was read, so two at once would undo each other.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from glue.clients.open_webui import WebUI
from glue.core import lock
from glue.core.names import ASSISTANT

LOCK = "assistant.lock"
WAIT_SECONDS = 120

Meta = dict[str, Any]


def hold(state: Path) -> AbstractContextManager[None]:
    """Held from the read to the write of the record, and of the collections that it names."""
    return lock.hold(state, LOCK, "a change of the assistant", WAIT_SECONDS)


def change(person: WebUI, state: Path, changed: Callable[[Meta], Meta]) -> None:
    """Gives the record what changed makes of its "meta"; nothing before the assistant exists."""
    with hold(state):
        there = person.registered_models().get(ASSISTANT)
        meta = changed(there["meta"]) if there else {}
        if there and meta != there["meta"]:
            person.ensure_model(there | {"meta": meta})
            person.call("GET", "/api/models?refresh=true")  # chat looks models up in memory
