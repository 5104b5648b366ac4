"""Backup on a running stack, then restore to a fresh machine: another project with only the
images and base models."""

import json
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from glue.clients import knowledge, open_webui
from glue.clients.compose import docker_cli
from glue.clients.docker import Stacks
from glue.clients.open_webui import WebUI
from glue.clients.site import Site
from glue.core import settings
from glue.serving import day
from tests.e2e.conftest import Glue, run_glue

PROJECT, PORT, HTTPS_PORT = "restored", "3977", "3976"
QUESTION = [{"role": "user", "content": "In which hall is the lathe?"}]


def docker(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([docker_cli(), *arguments], capture_output=True, text=True, check=True)


@pytest.fixture
def fresh(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """A second machine, as far as glue can tell, with copies of the base models that `make setup`
    downloads.

    Both use one machine's memory, so the first one's model is stopped meanwhile.
    """
    changed = {
        "PROFILE": "rehearsal",
        "PROJECT": PROJECT,
        "STATE_DIR": str(tmp_path),
        "CHAT_PORT": PORT,
        "HTTPS_PORT": HTTPS_PORT,
    }
    for key, value in changed.items():
        monkeypatch.setenv(f"GLUE_{key}", value)
    bare = settings.load("rehearsal")
    new = Site(bare, Stacks(bare), print)
    new.stacks.ensure_volumes()
    image = site.settings.image("TRAINER_IMAGE")
    volumes = [
        f"--volume={project}-models:/{side}"
        for project, side in ((site.settings["PROJECT"], "from"), (PROJECT, "to"))
    ]
    docker("run", "--rm", "--user=0:0", *volumes, "--entrypoint=cp", image, "-a", "/from/.", "/to/")
    site.stacks.stop("day", "vllm")
    yield new
    Stacks(settings.load("rehearsal")).compose("day", "down")  # with the secrets that were restored
    docker("volume", "rm", *new.stacks.volumes())
    for key in changed:
        monkeypatch.delenv(f"GLUE_{key}")
    day.start(site)


@pytest.mark.long
def test_a_backup_of_the_running_chat_restores_to_a_fresh_machine(
    demo: dict[str, Any], site: Site, member: WebUI, glue: Glue, fresh: Site
) -> None:
    done = run_glue(
        "backup",
        "--json",
        GLUE_PROJECT=site.settings["PROJECT"],
        GLUE_STATE_DIR=str(site.state),
        GLUE_CHAT_PORT=site.settings["CHAT_PORT"],
        GLUE_HTTPS_PORT=site.settings["HTTPS_PORT"],
    )
    assert done.returncode == 0, done.stderr
    made = json.loads(done.stdout)["backup"]
    restored = glue("restore", made, "--json")
    assert restored.returncode == 0, restored.stderr
    assert glue("restore", made).returncode == 10, "a second time a chat already exists"
    came_up = glue("day", "--json")
    assert came_up.returncode == 0, came_up.stderr
    assert json.loads(came_up.stdout)["adapter"] == demo["adapter"]
    # the same people with the same passwords, the same documents, the same adapters
    loaded = settings.load("rehearsal")
    again = replace(fresh, settings=loaded)
    assert loaded["WEBUI_ADMIN_PASSWORD"] == site.settings["WEBUI_ADMIN_PASSWORD"]
    person = open_webui.sign_in(
        loaded.chat_url, loaded["WEBUI_ADMIN_EMAIL"], loaded["WEBUI_ADMIN_PASSWORD"]
    )
    assert member.user["email"] in {
        row["email"] for row in person.call("GET", "/api/v1/users/")["users"]
    }
    assert len(knowledge.held(person, knowledge.current(person, again.state))) == 8
    answer = person.ask(QUESTION)
    assert any("lathe" in passage for passage in answer.passages)
    learned = demo["examples"][0]
    assert learned["wanted"] in person.ask([{"role": "user", "content": learned["question"]}]).text
    listed = json.loads(glue("adapters", "--json").stdout)
    assert [row["name"] for row in listed] == site.store.names() == again.store.names()
    assert [row["name"] for row in listed if row["serves"]] == [demo["adapter"]]
