"""Faults of Docker and of programs, without Docker."""

import os
import re
import time
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import docker
import docker.errors
import pytest
from docker.models.containers import Container
from requests import Response

from glue.clients import compose, containers
from glue.clients.docker import Stacks
from glue.core import commands, settings, waiting
from glue.core.errors import GlueError, PortInUse
from glue.core.waiting import Seen


def test_a_hanging_compose_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for a Docker that hangs."""
    hanging = Stacks.__new__(Stacks)
    hanging.settings = settings.load("rehearsal")
    monkeypatch.setattr(hanging, "compose_command", lambda *_: ["sleep", "60"])
    with pytest.raises(GlueError, match="docker compose up hangs"):
        hanging.compose("day", "up", timeout_seconds=0.1)


def test_a_hanging_program_is_an_error() -> None:
    with pytest.raises(GlueError, match="sleep 60 hangs") as error:
        commands.run(["sleep", "60"], "wake it", timeout_seconds=0.1)
    assert (error.value.saw, error.value.do) == ("no end after 0 s", "wake it")


def test_a_hanging_version_query_gives_no_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stand-in for a docker command that hangs: a day is tried nevertheless."""
    stand_in = tmp_path / "docker"
    stand_in.write_text("#!/bin/sh\nexec sleep 60\n")
    stand_in.chmod(0o755)
    monkeypatch.setattr(compose, "docker_cli", lambda: str(stand_in))
    assert compose.compose_version(timeout_seconds=0.2) == ""


@pytest.mark.parametrize(
    ("status", "checks", "fault"),
    [
        ("unhealthy", ["", "Traceback ...\nTimeoutError: timed out\n"], "TimeoutError: timed out"),
        ("unhealthy", ["vLLM hangs\n", "\n"], ""),
        ("unhealthy", [], ""),
        ("healthy", ["a failure that was one of three\n"], ""),
        ("starting", ["connection refused\n"], ""),
    ],
)
def test_an_unhealthy_service_shows_its_last_health_check(
    status: str, checks: list[str], fault: str
) -> None:
    state = {
        "Status": "running",
        "Health": {"Status": status, "Log": [{"Output": output} for output in checks]},
    }
    attributes = {"State": state, "NetworkSettings": {"Networks": {}}}
    found = containers.observed(
        cast(Container, SimpleNamespace(attrs=attributes, labels={}, name="vllm"))
    )
    assert (found.health, found.fault) == (status, fault)


@pytest.mark.parametrize(
    ("script", "seconds", "words"),
    [
        ("echo much; echo why >&2; exit 3", 60, "bash -c failed.*why"),
        ("echo much; exit 3", 60, "bash -c failed.*exit 3"),
        (
            "echo much; trap '' TERM; while :; do sleep 30; done",
            1,
            "bash -c hangs.*no end after 1 s",
        ),
        ("yes", 1, "bash -c hangs.*no end after 1 s"),
        ("echo much; exec >&-; sleep 30", 1, "bash -c hangs.*no end after 1 s"),
    ],
)
def test_reading_from_a_failed_or_hanging_program_is_an_error(
    script: str, seconds: float, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "END_SECONDS", 0.5)
    began = time.monotonic()
    with (
        pytest.raises(GlueError) as error,
        commands.reading(["bash", "-c", script], "nothing", seconds) as output,
    ):
        assert output.read(2)
    assert re.search(words, str(error.value), re.DOTALL) and time.monotonic() - began < 20


def test_unread_output_does_not_block_a_program() -> None:
    with commands.reading(["bash", "-c", "head -c 1000000 /dev/zero"], "nothing", 60) as output:
        assert output.read(2) == bytes(2)


STUBBORN = {
    "a child that ignores SIGTERM": "trap '' TERM; echo begun; while :; do sleep 30; done",
    "a grandchild that holds the pipe": "sleep 30 & echo begun; wait",
    "a grandchild that outlives its parent": "sleep 30 & echo begun",
    "a stranger that holds the pipe": "setsid sleep 12 & echo begun; wait",
    "output without an end": "yes begun",
    "output that it closed": "echo begun; exec >&- 2>&-; sleep 30",
}


@pytest.mark.parametrize("script", STUBBORN.values(), ids=STUBBORN.keys())
def test_a_deadline_ends_any_program(script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "END_SECONDS", 0.5)
    began = time.monotonic()
    _, last_lines = commands.stream(
        ["bash", "-c", script], dict(os.environ), lambda line: None, 1.0
    )
    assert time.monotonic() - began < 5 and last_lines.startswith("begun")


def test_an_error_of_the_listener_ends_the_whole_process_group(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(commands, "END_SECONDS", 0.5)
    heard: list[str] = []

    def break_off(line: str) -> None:
        heard.append(line)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        commands.stream(
            ["bash", "-c", "trap '' TERM; echo $$; while :; do sleep 1; done"],
            dict(os.environ),
            break_off,
            60,
        )
    group = heard[0]
    waiting.until(
        "the end of all of it", lambda: Seen(not living(group), f"{living(group)} live"), 10, 0.05
    )


def living(group: str) -> list[str]:
    """Processes of the group that are not zombies; see proc(5), stat."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it ended meanwhile
            state, _, of_group = path.read_text(encoding="utf-8").rpartition(")")[2].split()[:3]
            found += [path.parent.name] if of_group == group and state not in "ZX" else []
    return found


@pytest.mark.parametrize(
    "said",
    [
        # docker-py 7.1, docker 26 and docker 29 of a user who is not in the group docker
        (
            "Error while fetching server API version: ('Connection aborted.', PermissionError(13,"
            " 'Permission denied'))"
        ),
        (
            "permission denied while trying to connect to the Docker daemon socket at"
            " unix:///var/run/docker.sock: Get ..."
        ),
        (
            "permission denied while trying to connect to the docker API at"
            " unix:///var/run/docker.sock"
        ),
    ],
)
def test_a_user_without_access_to_docker_is_told_to_join_its_group(
    said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stand-in for the refusal: the tests run as root, which Docker never refuses."""

    def refuse(**_: object) -> None:
        raise docker.errors.DockerException(said)

    monkeypatch.setattr(docker, "from_env", refuse)
    with pytest.raises(GlueError) as error:
        Stacks(settings.load("rehearsal"))
    assert error.value.do.startswith("sudo usermod -aG docker $USER, then log out and in")
    assert compose.remedy("error mounting /srv/x: permission denied") == ""


@pytest.mark.parametrize(
    "said",
    [
        "failed to bind host port 127.0.0.1:3000/tcp: address already in use",
        "Bind for 0.0.0.0:3000 failed: port is already allocated",
        "listen tcp4 0.0.0.0:3000: bind: address already in use",
    ],
)
def test_a_port_in_use_is_named(said: str) -> None:
    found = compose.failure("up", said)
    assert isinstance(found, PortInUse) and found.what == "port 3000 is already in use"
    assert not isinstance(compose.failure("up", "cannot export: no support"), PortInUse)


@pytest.mark.parametrize(("status", "waits"), [(None, False), (404, False), (409, True)])
def test_removing_a_container_waits_for_docker_s_own_removal(
    status: int | None, waits: bool
) -> None:
    """A stand-in: the real container is between "exited" and "removed" for milliseconds only."""
    asked: list[str] = []

    def remove(force: bool) -> None:
        if status:
            fault = docker.errors.NotFound if status == 404 else docker.errors.APIError
            raise fault(
                "removal is already in progress",
                response=cast(Response, SimpleNamespace(status_code=status)),
            )

    container = SimpleNamespace(
        remove=remove, wait=lambda condition, timeout: asked.append(condition)
    )
    containers.remove(cast(Container, container))
    assert asked == (["removed"] if waits else [])


@pytest.mark.parametrize("there", [True, False])
def test_an_earlier_version_s_https_proxy_is_removed_before_the_new_one_starts(
    there: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stand-in for Docker: both proxies publish the same port."""
    done: list[object] = []
    former = SimpleNamespace(remove=lambda force: done.append("gate removed"))
    stacks = Stacks.__new__(Stacks)
    stacks.settings = settings.load("rehearsal")
    wanted = ["com.docker.compose.project=rehearsal-day", "com.docker.compose.service=gate"]

    def found(all: bool, filters: dict[str, list[str]], ignore_removed: bool) -> list[object]:
        assert filters["label"] == wanted
        return [former] if there else []

    stacks.docker = cast(
        docker.DockerClient, SimpleNamespace(containers=SimpleNamespace(list=found))
    )
    monkeypatch.setattr(stacks, "compose", lambda *arguments: done.append(arguments[1]))
    stacks.up()
    assert done == (["gate removed", "up"] if there else ["up"])
