"""make passes text that people type to programs unchanged; no shell runs or expands it."""

import os
import subprocess
from pathlib import Path

import pytest

from glue.core.settings import REPOSITORY

TARGETS = {
    "ask": "Q",
    "ingest": "DIR",
    "restore": "FROM",
    "load": "FROM",
    "upgrade": "TO",
    "bundle": "TO",
    "forget": "CHAT",
    "promote": "ADAPTER",
    "export": "ADAPTER",
    "logs": "SERVICE",
    "recipe": "RECIPE",
    "setup-peer": "HOST",
    "bench-training": "ARGS",
    "learning-study": "FROM",
}
TEXTS = (
    'What does "MTBF" mean?',
    "Does part $5 cost $HOME?",
    "Who wrote `touch RAN`, $(shell touch RAN) and $(touch RAN)? # it's me",
    'say "hi; touch RAN',
    "two\nlines",
)


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """Replaces Python and writes its arguments to a file."""
    found = tmp_path / "program"
    found.write_text('#!/bin/sh\nprintf "%s\\n" "$*" >arguments\nenv -0 >environment\n')
    found.chmod(0o755)
    return found


def made(program: Path, *arguments: str, **environment: str) -> tuple[str, dict[str, str]]:
    command = [
        "make",
        "--silent",
        f"--file={REPOSITORY / 'Makefile'}",
        "--assume-old=.venv/ready",
        "--assume-old=.venv/ready-bench",
        "--assume-old=.venv/ready-dev",
    ]
    subprocess.run(
        [*command, f"PYTHON={program}", *arguments],
        cwd=program.parent,
        env=os.environ | environment,
        check=True,
        timeout=30,
    )
    pairs = (program.parent / "environment").read_text().split("\0")
    found = dict(pair.partition("=")[::2] for pair in pairs)
    return (program.parent / "arguments").read_text(), found


@pytest.mark.parametrize("text", TEXTS)
def test_make_passes_text_unchanged(program: Path, text: str) -> None:
    for arguments, environment in ([f"Q={text}"], {}), ([], {"Q": text}):
        _, found = made(program, "ask", *arguments, **environment)
        assert found["ARG_Q"] == text
        assert not (program.parent / "RAN").exists()


@pytest.mark.parametrize("target", TARGETS)
def test_no_make_target_passes_text_to_a_shell(program: Path, target: str) -> None:
    text = TEXTS[2]
    arguments, found = made(program, target, f"{TARGETS[target]}={text}")
    assert found[f"ARG_{TARGETS[target]}"] == text and "touch" not in arguments
    assert not (program.parent / "RAN").exists()


def test_switches_become_options(program: Path) -> None:
    assert "--skip-bad --yes" in made(program, "ingest", "DIR=x", "SKIP_BAD=1", "YES=1")[0]
    assert "--" not in made(program, "ingest", "DIR=x")[0]
