"""A bundle, and a machine that loads it and is set up with its network cut."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from glue.clients.compose import docker_cli
from glue.clients.docker import Stacks
from glue.clients.site import Site
from glue.core import settings
from glue.core.names import MARK
from glue.core.settings import REPOSITORY
from glue.serving import day
from tests.e2e.conftest import Glue

# a new namespace's loopback is down; then this becomes the Python that was asked for
LOOPBACK_UP = """
import fcntl, os, socket, struct, sys
fcntl.ioctl(socket.socket(), 0x8914, struct.pack("16sh22x", b"lo", 1))
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""
SOMEBODY = (12345, 12345)
LOADED = {
    "GLUE_PROFILE": "rehearsal",
    "GLUE_PROJECT": "loaded",
    "GLUE_CHAT_PORT": "3978",
    "GLUE_HTTPS_PORT": "3979",
}


@pytest.fixture
def elsewhere(site: Site, tmp_path: Path) -> Iterator[dict[str, str]]:
    """The settings of a machine without any setup, whose owner is not root. The first machine's
    model is stopped meanwhile."""
    state = tmp_path / "state"
    state.mkdir()
    os.chown(state, *SOMEBODY)
    environment = LOADED | {"GLUE_STATE_DIR": str(state)}
    yield environment
    with pytest.MonkeyPatch.context() as patch:
        for key, value in environment.items():
            patch.setenv(key, value)
        loaded = settings.load("rehearsal")
        stacks = Stacks(loaded)
        stacks.compose("day", "down")
        subprocess.run(
            [docker_cli(), "volume", "rm", *stacks.volumes()], check=True, capture_output=True
        )
    day.start(site)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """The folder of the bundle, deleted afterwards because it has every image."""
    yield tmp_path / "bundle"
    shutil.rmtree(tmp_path / "bundle", ignore_errors=True)


def without_network(
    environment: dict[str, str], *arguments: str
) -> subprocess.CompletedProcess[str]:
    """Runs glue in its own network namespace with only a loopback. Docker's socket is a file, so
    it still works."""
    command = ["unshare", "--net", sys.executable, "-c", LOOPBACK_UP, "-m", "glue", *arguments]
    return subprocess.run(
        command,
        cwd=REPOSITORY,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=3600,
        check=False,
    )


@pytest.mark.long
def test_a_machine_without_a_network_serves_days(
    demo: dict[str, Any], site: Site, glue: Glue, elsewhere: dict[str, str], folder: Path
) -> None:
    made = glue("bundle", str(folder), "--json", timeout_seconds=3600)
    assert made.returncode == 0, made.stderr
    assert {"manifest.json", "images.tar", "models.tar", "glue.bundle", "wheels"} <= {
        path.name for path in folder.iterdir()
    }
    for arguments in (("load", str(folder)), ("setup",)):
        done = without_network(elsewhere, *arguments)
        assert done.returncode == 0, done.stderr
    site.stacks.stop("day", "vllm")
    came_up = glue("day", **elsewhere)
    assert came_up.returncode == 0, came_up.stderr
    answer = json.loads(glue("ask", "What is the code of the lathe?", "--json", **elsewhere).stdout)
    assert answer["answer"].strip() and not answer["answer"].startswith(MARK)
