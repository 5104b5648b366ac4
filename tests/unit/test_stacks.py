"""What becomes of Docker's own faults, without Docker."""

import pytest

from glue import settings
from glue.stacks import Stacks
from glue.types import GlueError


def test_a_compose_that_never_ends_is_an_error_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for a Docker that hangs."""
    stacks = Stacks.__new__(Stacks)
    stacks.settings = settings.load("rehearsal")
    monkeypatch.setattr(stacks, "compose_command", lambda *_: ["sleep", "60"])
    with pytest.raises(GlueError, match="docker compose up hangs"):
        stacks.compose("day", "up", timeout_seconds=0.1)
