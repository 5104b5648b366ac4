"""The real stacks, started once by the demonstration, with HTTPS from their first start.

All tests of this folder run in one process (tests/conftest.py).
"""

import json
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from glue.clients import knowledge, open_webui, suggestions
from glue.clients.docker import Stacks
from glue.clients.open_webui import WebUI
from glue.clients.site import Site
from glue.core import files, settings
from glue.core.settings import REPOSITORY

Glue = Callable[..., subprocess.CompletedProcess[str]]
HTTPS_NAMES = "localhost,127.0.0.1"


def run_glue(
    *arguments: str, program: str = "glue", timeout_seconds: float = 900, **environment: str
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", program, *arguments]
    return subprocess.run(
        command,
        cwd=REPOSITORY,
        env=os.environ | {"GLUE_PROFILE": "rehearsal"} | environment,
        capture_output=True,
        text=True,
        timeout=timeout_seconds,
        check=False,
    )


@pytest.fixture(scope="session")
def glue() -> Glue:
    return run_glue


@pytest.fixture(scope="package")
def https_names() -> Iterator[str]:
    """Set for every program that these tests start."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GLUE_HTTPS_NAMES", HTTPS_NAMES)
        yield HTTPS_NAMES


@pytest.fixture(scope="package")
def demo(https_names: str) -> dict[str, Any]:
    """The result of `python -m rehearsal`. Afterwards the day serves the night's adapter."""
    done = run_glue("--json", program="rehearsal", timeout_seconds=1700)
    assert done.returncode == 0, done.stderr[-4000:]
    print(done.stderr)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.fixture(scope="package")
def site(demo: dict[str, Any]) -> Site:
    chosen = settings.load("rehearsal")
    return Site(chosen, Stacks(chosen), print)


def documents_held(site: Site) -> int:
    """The documents in the team's collection."""
    person = site.administrator()
    return len(knowledge.held(person, knowledge.current(person, site.state)))


@pytest.fixture(scope="package")
def member(site: Site) -> Iterator[WebUI]:
    """Vera, a member without administrator rights. Her ratings are deleted, so that no night
    learns from a test."""
    password = secrets.token_urlsafe(24)
    site.administrator().ensure_user("Vera", "vera@rehearsal.local", password)
    person = open_webui.sign_in(site.settings.chat_url, "vera@rehearsal.local", password)
    yield person
    person.call("DELETE", "/api/v1/evaluations/feedbacks")


@pytest.fixture
def apart(site: Site, tmp_path: Path) -> Iterator[Site]:
    """The same chat with another collection and another state folder."""
    person = site.administrator()
    team, own = knowledge.current(person, site.state), knowledge.create(person)
    state = tmp_path / "state"
    state.mkdir()
    shutil.copy(site.state / "webui-token", state)
    files.write_json(state / knowledge.REMEMBERED, {"id": own})
    values = site.settings.values | {"STATE_DIR": str(state)}
    yield replace(site, settings=replace(site.settings, values=values))
    for one in {own, knowledge.current(person, state)} - {team}:
        if one and knowledge.row(person, one):
            person.call("DELETE", f"/api/v1/knowledge/{one}/delete")
    if team:
        knowledge.attach(person, team)
        suggestions.ensure(person, site.state, [one.name for one in knowledge.held(person, team)])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "docs").mkdir()
    return tmp_path / "docs"
