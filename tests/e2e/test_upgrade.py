"""Upgrades on the real stacks, in a clone that shares the state folder: one version that serves,
one that does not."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from glue.clients.site import Site
from glue.core import settings
from glue.core.settings import REPOSITORY
from glue.serving import day

pytestmark = pytest.mark.long
IDENTITY = ["-c", "user.name=test", "-c", "user.email=test@example.org"]


@pytest.fixture
def office(demo: dict[str, Any], site: Site, tmp_path: Path) -> Iterator[Path]:
    """The clone with today's version serving, and the two versions to upgrade to."""
    clone = tmp_path / "office"
    subprocess.run(["git", "clone", "--quiet", str(REPOSITORY), str(clone)], check=True)
    (clone / ".venv").symlink_to(REPOSITORY / ".venv")
    release(clone, "better", {"env/rehearsal.env": ("TEAM_NAME=Team\n", "TEAM_NAME=Crew\n")})
    # a port without a listener: Open WebUI answers every path with its page
    impatient = ("DAY_DEADLINE_SECONDS=300", "DAY_DEADLINE_SECONDS=45")
    release(
        clone,
        "broken",
        {"compose.day.yaml": (":8080/ready", ":8081/ready"), "env/rehearsal.env": impatient},
    )
    assert make(clone, "day").returncode == 0
    yield clone
    day.start(site)


def git(clone: Path, *arguments: str) -> str:
    return subprocess.run(
        ["git", "-C", str(clone), *arguments], check=True, capture_output=True, text=True
    ).stdout.strip()


def release(clone: Path, name: str, edits: dict[str, tuple[str, str]]) -> None:
    """Makes a tag with changed files; the clone stays as it was."""
    before = git(clone, "rev-parse", "HEAD")
    for file, (old, new) in edits.items():
        text = (clone / file).read_text(encoding="utf-8")
        assert old in text, "what this test changes has moved"
        (clone / file).write_text(text.replace(old, new), encoding="utf-8")
    git(clone, *IDENTITY, "commit", "--quiet", "--all", "--message", name)
    git(clone, "tag", name)
    git(clone, "checkout", "--quiet", before)


def make(clone: Path, *target: str) -> subprocess.CompletedProcess[str]:
    state = settings.load("rehearsal").state
    chosen = {"GLUE_PROFILE": "rehearsal", "GLUE_STATE_DIR": str(state)}
    command = ["make", "--silent", "-C", str(clone), *target]
    return subprocess.run(
        command,
        env=os.environ | chosen,
        capture_output=True,
        text=True,
        timeout=1500,
        check=False,
    )


def test_an_upgrade_keeps_a_version_that_serves_and_undoes_one_that_does_not(office: Path) -> None:
    good = make(office, "upgrade", "TO=better")
    assert good.returncode == 0, good.stderr
    assert git(office, "rev-parse", "HEAD") == git(office, "rev-parse", "better")
    bad = make(office, "upgrade", "TO=broken")
    assert bad.returncode == 2 and "ERROR 1: broken does not serve" in bad.stderr, (
        bad.stderr
    )  # make's own code for a failed line
    assert git(office, "rev-parse", "HEAD") == git(office, "rev-parse", "better")
    assert make(office, "ask", "Q=What is the code of the lathe?").returncode == 0
