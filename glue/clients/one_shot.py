"""Runs a container for one task: returns its result, or raises an error with its last lines."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from glue.clients.compose import NIGHT, run_command
from glue.clients.docker import Stacks
from glue.core import commands
from glue.core.commands import Hear
from glue.core.errors import GlueError, PreconditionFailed


def run(
    stacks: Stacks,
    module: str,
    *arguments: str,
    what: str,
    do: str,
    timeout_seconds: float,
    hear: Hear = lambda line: None,
) -> dict[str, Any]:
    """Runs `python3 -m module` in the trainer's container and returns the JSON object on its last
    line. Raises GlueError(what, its last lines, do), or PreconditionFailed for {"refused": why}."""
    options = ("run", "--rm", "--no-TTY", "trainer")
    command = stacks.compose_command(NIGHT, *options, module, *arguments)
    environment = stacks.compose_environment()
    code, last_lines = commands.stream(command, environment, hear, timeout_seconds)
    result = parsed(last_lines) or {}
    if "refused" in result:
        raise PreconditionFailed(what, str(result["refused"]), do)
    if code != 0 or not result:
        raise GlueError(what, stacks.settings.hide(last_lines) or f"exit code {code}", do)
    return result


def parsed(last_lines: str) -> dict[str, Any] | None:
    """The JSON object on the last line, if it is one."""
    try:
        found = json.loads(last_lines.rpartition("\n")[2])
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def command(
    image: str,
    entrypoint: str,
    *arguments: str,
    options: Sequence[str] = (),
    volumes: Mapping[str, str | Path] | None = None,
    online: bool = False,
) -> list[str]:
    """argv of `docker run` for a container without privileges that is removed at its end. volumes:
    by path in the container (with ":ro" for read-only), a volume's name or a path here."""
    mounts = [f"--volume={here}:{there}" for there, here in (volumes or {}).items()]
    entry = f"--entrypoint={entrypoint}"
    return [*run_command(online), *options, *mounts, entry, image, *arguments]
