"""Downloads a model from a stub of the hub, through setup's own container, into a separate
volume."""

import json
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import docker
import pytest

from glue.clients.docker import Stacks
from glue.clients.site import Site
from glue.core import settings
from glue.machine import models
from tests.e2e.conftest import Glue
from tests.stub_hub import LARGE, StubHub, running

PROJECT = "models-test"


@pytest.fixture
def hub() -> Iterator[StubHub]:
    with running(StubHub(), "0.0.0.0") as started:
        yield started


@pytest.fixture
def site(tmp_path: Path, hub: StubHub) -> Iterator[Site]:
    client = docker.from_env()
    host = client.networks.get("bridge").attrs["IPAM"]["Config"][0]["Gateway"]
    loaded = settings.load("rehearsal")
    changes = {
        "SERVED_MODEL": "stub/model",
        "TRAINED_MODEL": "stub/model",
        "PROJECT": PROJECT,
        "STATE_DIR": str(tmp_path),
    }
    chosen = replace(
        loaded, values=loaded.values | changes | {"HF_ENDPOINT": f"http://{host}:{hub.port}"}
    )
    site = Site(chosen, Stacks(chosen), print)
    site.stacks.ensure_volumes()
    yield site
    for name in site.stacks.volumes():
        client.volumes.get(name).remove()


def test_a_model_is_fetched_into_its_volume_and_found_there_without_a_network(
    site: Site, hub: StubHub
) -> None:
    hub.cuts, hub.files[LARGE] = 1, bytes(25_000_000)
    asked = site.settings.hub_models("served")
    models.ensure_models(site, asked)
    assert models.models(site, asked)[0] == {"stub/model": ()}
    command = [
        "docker",
        "run",
        "--rm",
        "--network=none",
        "--volume",
        f"{PROJECT}-models:/models:ro",
        "--entrypoint=python3",
    ]
    command += [
        "--env=HF_HOME=/models",
        "--env=HF_HUB_OFFLINE=1",
        "--user=12345:12345",
        site.settings.image("VLLM_IMAGE"),
        "-c",
    ]
    code = (
        "import huggingface_hub as h; print(len(open(h.snapshot_download('stub/model') +"
        f" '/{LARGE}', 'rb').read()))"
    )
    found = subprocess.run(
        [*command, code], capture_output=True, text=True, timeout=120, check=True
    )
    assert int(found.stdout) == len(hub.files[LARGE])


def test_the_doctor_finds_nothing_wrong_with_a_machine_that_serves(
    demo: dict[str, Any], glue: Glue
) -> None:
    done = glue("doctor", "--json")
    found = {finding["name"]: finding["grade"] for finding in json.loads(done.stdout)}
    assert done.returncode == 0 and set(found) >= {
        "disk",
        "docker",
        "day's images",
        "secrets",
        "port",
        "memory",
    }
    assert "fail" not in found.values(), done.stdout


def test_the_doctor_names_what_is_missing_with_exit_10_and_a_serving_day_stays(
    demo: dict[str, Any], glue: Glue
) -> None:
    absent = "dual-use/absent:1"
    done = glue("doctor", GLUE_REHEARSAL_VLLM_IMAGE=absent)
    assert done.returncode == 10 and absent in done.stdout
    assert glue("day", GLUE_REHEARSAL_VLLM_IMAGE=absent).returncode == 0
    mode = json.loads(glue("status", "--json").stdout)["mode"]
    assert mode == "day"
