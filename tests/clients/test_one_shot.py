"""One-shot containers, with a shell script instead of the container."""

import os
from types import SimpleNamespace
from typing import Any, cast

import pytest

from glue.clients import one_shot
from glue.clients.docker import Stacks
from glue.core.errors import Exit, GlueError, PreconditionFailed


def run(script: str, **more: Any) -> dict[str, Any]:
    asked: list[str] = []

    def compose_command(stack: str, *arguments: str) -> list[str]:
        asked.extend([stack, *arguments])
        return ["sh", "-c", script]

    stacks = SimpleNamespace(
        compose_command=compose_command,
        compose_environment=lambda: dict(os.environ),
        settings=SimpleNamespace(hide=lambda text: text.replace("secret", "***")),
    )
    named = {"what": "the job failed", "do": "make setup", "timeout_seconds": 30, **more}
    found = one_shot.run(cast(Stacks, stacks), "a.module", "an argument", **named)
    assert asked == ["night", "run", "--rm", "--no-TTY", "trainer", "a.module", "an argument"]
    return found


def test_a_job_returns_the_json_of_its_last_line_and_streams_its_lines() -> None:
    heard: list[str] = []
    assert run("""echo loading; echo '{"a": 1}'""", hear=heard.append) == {"a": 1}
    assert heard == ["loading", '{"a": 1}']


@pytest.mark.parametrize(
    ("script", "saw"),
    [
        ("echo loading; echo the secret is bad; exit 4", "loading\nthe *** is bad"),
        ("""echo '{"a": 1}'; exit 1""", '{"a": 1}'),
        ("exit 7", "exit code 7"),
        ("echo '[1]'", "[1]"),
        ("echo no JSON", "no JSON"),
    ],
)
def test_a_job_that_fails_or_gives_no_result_raises_with_its_last_lines(
    script: str, saw: str
) -> None:
    with pytest.raises(GlueError, match="the job failed") as error:
        run(script)
    assert (error.value.saw, error.value.do) == (saw, "make setup")


def test_a_job_that_refuses_raises_with_its_reason() -> None:
    with pytest.raises(PreconditionFailed) as error:
        run("""echo '{"refused": "no room"}'; exit 3""")
    assert (error.value.exit_code, error.value.saw) == (Exit.PRECONDITION, "no room")
