import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import click
import pytest

import bench.cli
from glue.cli import framework, verbs
from glue.clients import webui_connection
from glue.clients.docker import Stacks
from glue.clients.site import Site
from glue.core import settings
from glue.core.errors import GlueError, Misconfigured, PreconditionFailed, steps
from glue.core.settings import REPOSITORY
from glue.operations import documents


def glue(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "glue", *arguments]
    return subprocess.run(
        command,
        cwd=REPOSITORY,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_missing_docker_is_exit_10_with_a_remedy() -> None:
    done = glue(
        "status", "--json", DOCKER_HOST="unix:///nowhere/docker.sock", GLUE_PROFILE="rehearsal"
    )
    assert done.returncode == 10
    assert "install-docker.sh" in done.stderr
    assert json.loads(done.stdout)["exit_code"] == 10


def test_a_bad_setting_is_exit_2_and_names_it() -> None:
    done = glue("status", GLUE_PROFILE="rehearsal", GLUE_CHAT_PORT="http")
    assert done.returncode == 2 and "CHAT_PORT" in done.stderr and "1 to 65535" in done.stderr


def test_a_bad_profile_and_a_bad_verb_are_exit_2() -> None:
    assert glue("status", GLUE_PROFILE="weekend").returncode == 2
    assert glue("stauts").returncode == 2


def test_a_closed_terminal_does_not_end_a_verb() -> None:
    script = """
import os, pty
from rich.console import Console
from glue.cli import framework
master, terminal = pty.openpty()
framework.people = Console(file=os.fdopen(terminal, "w"))
os.close(master)
tell = framework.teller()
for line in ("one", "two"):
    tell(line)
reading, writing = os.pipe()
os.close(reading)
framework.people = Console(file=os.fdopen(writing, "w"))
for line in ("three", "four"):
    tell(line)
os.write(2, b"the day comes up")
os._exit(0)
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "the day comes up")


def test_until_is_the_next_time_at_that_hour() -> None:
    moment = verbs.until_time("05:30")
    assert moment is not None and 0 < moment - time.time() <= 25 * 3600
    assert datetime.fromtimestamp(moment).strftime("%H:%M") == "05:30"
    assert verbs.until_time(None) is None
    with pytest.raises(Misconfigured):
        verbs.until_time("half past five")


@pytest.mark.parametrize("text", ["", " \n"])
def test_an_empty_answer_is_an_error(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = webui_connection.Answer(text, [{"metadata": [{"name": "manual.pdf"}]}])
    administrator = SimpleNamespace(ask=lambda messages: answer)
    site = SimpleNamespace(administrator=lambda: administrator)
    monkeypatch.setattr(framework, "open_site", lambda profile: site)
    with pytest.raises(GlueError, match="answered nothing") as error:
        verbs.cli(["ask", "Who are you?"], standalone_mode=False)
    assert error.value.exit_code == 1 and "manual.pdf" in error.value.saw


@pytest.mark.parametrize(
    ("verb", "person", "refused"),
    [
        ("day", "anna", True),
        ("setup", "anna", True),
        ("schedule", "anna", False),
        ("day", "root", False),
        ("day", "", False),
    ],
)
def test_sudo_is_refused_where_it_would_create_root_owned_files(
    verb: str, person: str, refused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setenv("SUDO_USER", person or "root")
    if not person:
        monkeypatch.delenv("SUDO_USER")
    if not refused:
        return framework.require_no_sudo(verb)
    with pytest.raises(PreconditionFailed, match="root-owned files that anna cannot") as error:
        framework.require_no_sudo(verb)
    assert "without sudo" in error.value.do


def test_every_verb_except_schedule_is_refused_under_sudo(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import os; os.geteuid = lambda: 0")
    state = tmp_path / "state"
    done = glue(
        "doctor",
        SUDO_USER="anna",
        PYTHONPATH=str(tmp_path),
        GLUE_STATE_DIR=str(state),
        GLUE_PROFILE="rehearsal",
    )
    assert done.returncode == 10 and "without sudo" in done.stderr and not state.exists()


def test_the_virtual_environment_is_not_created_under_sudo(tmp_path: Path) -> None:
    (tmp_path / "id").write_text("#!/bin/sh\necho 0\n")
    (tmp_path / "id").chmod(0o755)
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SUDO_USER": "anna"}
    command = ["bash", str(REPOSITORY / "scripts" / "make-venv.sh"), "/nowhere"]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert (
        done.returncode == 10
        and "without sudo" in done.stderr
        and "env -u SUDO_USER make" in done.stderr
    )


# ---------------------------------------------------------------------- what a verb is


def commands(group: click.Group, path: str = "") -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, f"{path}{name} ")
        else:
            yield path + name, command


WITH_CHOICES_THAT_SPEAK = {"--form", "--answer-tokens", "--engine", "--checkpointing", "--model"}


@pytest.mark.parametrize(
    ("name", "command"), [*commands(verbs.cli), *commands(bench.cli.bench, "bench ")]
)
def test_every_verb_has_json_and_help_for_each_option(name: str, command: click.Command) -> None:
    options = [option for option in command.params if isinstance(option, click.Option)]
    assert command.help and "--json" in {option.opts[0] for option in options}
    without_help = {option.opts[0] for option in options if not option.help}
    assert without_help <= WITH_CHOICES_THAT_SPEAK, name


def test_a_verb_has_its_function_s_name_help_and_arguments(
    capsys: pytest.CaptureFixture[str],
) -> None:
    group = click.Group("main")

    def move_verb(site: str, folder: Path, replace: bool, keep: int = 1) -> dict[str, object]:
        """Move FOLDER."""
        return {"site": site, "folder": str(folder), "replace": replace, "keep": keep}

    words = framework.flag("--replace", words="Replace it.")
    framework.verb(move_verb, options=(words,), group=group, opened=lambda profile: "here")
    assert group.commands["move"].help == "Move FOLDER."
    group.main(["move", "/srv", "--replace", "--json"], standalone_mode=False)
    found = json.loads(capsys.readouterr().out)
    assert found == {"site": "here", "folder": "/srv", "replace": True, "keep": 1}
    group.main(["move", "/srv"], standalone_mode=False)
    assert capsys.readouterr().out.splitlines()[1:3] == [
        "folder        /srv",
        "replace       False",
    ]


def test_an_overdue_result_is_exit_13_with_and_without_json() -> None:
    group = click.Group("main")
    framework.verb(late_verb, group=group, opened=lambda profile: None)
    for arguments in (["late"], ["late", "--json"]):
        with pytest.raises(SystemExit) as ended:
            group.main(arguments, standalone_mode=False)
        assert ended.value.code == 13


def late_verb(site: None) -> dict[str, bool]:
    return {"overdue": True}


def test_an_empty_question_is_refused() -> None:
    assert glue("ask", GLUE_PROFILE="rehearsal").returncode == 2
    assert glue("ask", GLUE_PROFILE="rehearsal", ARG_Q="").returncode == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["ingest"], "Missing DIR. Example: make ingest DIR=/srv/documents"),
        (["ask"], 'Missing Q. Example: make ask Q="What is the code of the harbor?"'),
        (["upgrade"], "Missing TO. Example: make upgrade TO=origin/main"),
        (["recipe", "show"], "Missing RECIPE. Example: make recipe RECIPE=team"),
        (["show"], "Missing argument 'ADAPTER'."),
    ],
)
def test_a_missing_argument_is_named_as_make_knows_it(arguments: list[str], words: str) -> None:
    with pytest.raises(click.ClickException) as error:
        verbs.cli(arguments, standalone_mode=False)
    assert error.value.format_message() == words


def test_an_ingest_that_is_not_complete_is_exit_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The result of the ingest is a stub."""
    lists = {"added": [], "changed": [], "notes": [], "not_read": {}, "deleted": 0}
    result = lists | {"listed_in": "/list", "in": 1, "of": 2, "incomplete": True}
    monkeypatch.setattr(framework, "open_site", lambda profile: None)
    monkeypatch.setattr(documents, "ingest", lambda *_: result)
    with pytest.raises(SystemExit) as ended:
        verbs.cli(["ingest", "folder"], standalone_mode=False)
    assert ended.value.code == 1
    assert capsys.readouterr().out.splitlines()[-1].startswith("1 of 2 documents are in; ")


def site_with_rank_8() -> Site:
    found = settings.load("rehearsal")
    values = found.values | {"MAX_LORA_RANK": "8"}
    return Site(replace(found, values=values), cast(Stacks, None), print)


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (
            lambda site: verbs.forget_verb(site, "u", "c"),
            "Invalid arguments for make forget: both CHAT and USER_ID. Set exactly one: make forget"
            " CHAT=<id> or make forget USER_ID=<id>.",
        ),
        (
            lambda site: site.recipe("foo"),
            "Invalid value for RECIPE: 'foo'. Expected one of: case-study, free, lean, ",
        ),
        (
            lambda site: site.recipe("team"),
            "Invalid value for rank in env/recipes/team.toml: 16. Expected at most MAX_LORA_RANK"
            " (8). Lower it, or set MAX_LORA_RANK=16 or higher in env/site.env and run make day.",
        ),
    ],
)
def test_a_wrong_value_is_named_in_one_line(act: Callable[[Site], object], words: str) -> None:
    with pytest.raises(Misconfigured) as error:
        act(site_with_rank_8())
    assert str(error.value).startswith(f"ERROR 2: {words}")


def test_several_things_to_do_are_numbered_lines() -> None:
    error = GlueError("a", "b", steps("mount the disk", "or make day NEW=1"))
    assert str(error).endswith("\n  do:   1. mount the disk\n        2. or make day NEW=1")
