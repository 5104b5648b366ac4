"""A verb that gets a name of nothing fails, and says what it expects."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import click
import pytest

from glue.cli import framework, verbs
from glue.clients.docker import Stacks
from glue.clients.site import Site
from glue.core import files, settings
from glue.core.errors import GlueError
from glue.operations import notes
from glue.serving import model
from tests.cli.test_cli import commands

WRONG = [
    (
        ["logs", "vlm"],
        "Invalid value for SERVICE: 'vlm'. Expected one of: vllm, open-webui, door, night-desk,"
        " https-proxy, trainer.",
    ),
    (["forget", "--chat", "c"], "no such chat in the ratings, notes, data sets and adapters"),
    (["forget", "--user", "u"], "no such user in the ratings, notes, data sets and adapters"),
    (["notes", "--accept", "n"], "there is no such note"),
    (["notes", "--drop", "n"], "there is no such note"),
    (["promote", "a"], "there is no such adapter"),
    (["export", "a"], "there is no such adapter"),
    (["export", "a", "--form", "f"], "'f' is not one of 'merged', 'bf16', 'nvfp4'"),
    (["show", "a"], "there is no such adapter"),
    (["diff", "a", "b"], "there is no such adapter"),
    (["adapters", "--add", "/nowhere"], "/nowhere is not a folder"),
    (["restore", "/nowhere"], "name a folder that make backup made"),
    (["load", "/nowhere"], "/nowhere: "),
    (["bundle", "."], "the folder is not empty"),
    (["upgrade", "no-such-version"], "this repository has no such version"),
    (["recipe show", "r"], "Invalid value for RECIPE: 'r'. Expected one of: case-study, "),
    (["ingest", "/nowhere"], "there is no such folder"),
    (["ask", " "], "the question is empty"),
    (["night", "--until", "noon"], "Invalid value for --until: 'noon'. Expected a time"),
    (["prune", "--keep", "0"], "0 is not in the range"),
    (["peer add", "a b"], "Invalid value for HOST: 'a b'. Expected [user@]host[:port]."),
    (["peer answer", "id"], "this key may not do that"),
    (["peer train", "n", "r", "1764183600"], "no peer ordered this night"),
    (["compose", "week"], "'week' is not one of 'day', 'night'"),
]


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """An empty state folder. Stubs: a chat without people, ratings and notes; a running model."""
    found = settings.load("rehearsal")
    chosen = replace(found, values=found.values | {"STATE_DIR": str(tmp_path), "NOTES": "auto"})
    chat = SimpleNamespace(
        people=list,
        delete_ratings_of_deleted=lambda account: 0,
        call=lambda method, path: {"items": [], "total": 0},
    )
    monkeypatch.setattr(Site, "administrator", lambda site: chat)
    monkeypatch.setattr(notes, "clear", lambda site: None)
    monkeypatch.setattr(notes, "renewed", lambda *_: {"notes": [], "decided": {}})
    monkeypatch.setattr(model, "running_model", lambda site: "")
    stacks = cast(Stacks, SimpleNamespace(missing_images=lambda images: []))
    made = Site(chosen, stacks, lambda line: None)
    monkeypatch.setattr(framework, "open_site", lambda profile: made)
    return made


@pytest.mark.parametrize(("arguments", "words"), WRONG)
def test_a_wrong_name_is_an_error_that_says_what_is_expected(
    arguments: list[str], words: str, site: Site
) -> None:
    with pytest.raises((GlueError, click.ClickException)) as failed:
        verbs.cli([*arguments[0].split(), *arguments[1:]], standalone_mode=False)
    error: Any = failed.value
    told = error.format_message() if isinstance(error, click.ClickException) else str(error)
    assert words in told and error.exit_code


def test_every_verb_that_takes_a_name_is_tried_with_a_wrong_one() -> None:
    def takes_a_name(parameter: click.Parameter) -> bool:
        return not getattr(parameter, "is_flag", False)

    named = {name for name, verb in commands(verbs.cli) if any(map(takes_a_name, verb.params))}
    assert named <= {arguments[0] for arguments, _ in WRONG}


def test_a_known_adapter_is_no_wrong_name(site: Site) -> None:
    folder = site.store.folder / "a"
    folder.mkdir(parents=True)
    files.write_json(folder / "manifest.json", {"name": "a"})
    verbs.cli(["show", "a"], standalone_mode=False)
