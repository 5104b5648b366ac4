"""`glue pin` against a real registry on this machine: Debian's docker-registry package, unpacked
and not installed."""

import io
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import requests

from glue.clients.compose import docker_cli
from glue.clients.docker import Stacks
from glue.clients.site import Site
from glue.core import commands, files, settings, waiting
from glue.core.errors import PreconditionFailed
from glue.core.settings import REPOSITORY
from glue.core.waiting import Seen
from glue.machine.images import BUILT_HERE, TAG_ONLY, pin
from glue.operations import airgap

COMPOSE_OF_ONE = """
services: {one: {image: "${REHEARSAL_BASE_IMAGE}", pull_policy: never,
  command: [python3, -c, "print(6 * 7)"]}}
"""
CONFIGURATION = (
    "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {root}}}}}\nhttp: {{addr:"
    " 127.0.0.1:{port}}}\n"
)


def registry_command(folder: Path) -> str:
    found = shutil.which("docker-registry")
    if found is None:
        subprocess.run(
            ["apt-get", "download", "-q", "docker-registry"], cwd=folder, check=True, timeout=300
        )
        (package,) = folder.glob("docker-registry_*.deb")
        subprocess.run(["dpkg-deb", "--extract", str(package), str(folder)], check=True, timeout=60)
        found = str(folder / "usr" / "bin" / "docker-registry")
    return found


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """host:port of an empty registry."""
    folder = tmp_path_factory.mktemp("registry")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    configuration = folder / "config.yml"
    configuration.write_text(CONFIGURATION.format(root=folder / "data", port=port))

    def look() -> Seen[None]:
        try:
            return Seen(requests.get(f"http://127.0.0.1:{port}/v2/", timeout=5).ok, "it answers")
        except requests.RequestException as error:
            return Seen(False, str(error))

    with subprocess.Popen(
        [registry_command(folder), "serve", str(configuration)], stderr=subprocess.DEVNULL
    ) as process:
        try:
            waiting.until("the registry", look, 30, 0.2)
            yield f"127.0.0.1:{port}"
        finally:
            process.kill()


@pytest.fixture(scope="module")
def stacks() -> Stacks:
    return Stacks(settings.load("rehearsal"))


@pytest.fixture(scope="module")
def pushed(registry: str, stacks: Stacks) -> Iterator[str]:
    """A reference that the registry has and this machine does not."""
    reference = f"{registry}/base:1"
    assert stacks.docker.images.get(stacks.settings["REHEARSAL_BASE_IMAGE"]).tag(
        f"{registry}/base", "1"
    )
    said = stacks.docker.images.push(f"{registry}/base", tag="1")
    assert "digest: sha256:" in said, said
    stacks.docker.images.remove(reference)
    yield reference
    for image in stacks.docker.images.list(f"{registry}/base"):
        stacks.docker.images.remove(image.attrs["RepoDigests"][0])


def images_file(folder: Path, reference: str) -> Path:
    path = folder / "images.env"
    path.write_text(
        f"# a word\nDOOR_IMAGE={reference}\nREHEARSAL_BASE_IMAGE=dual-use/base:1\n"
        f"NIGHT_DESK_IMAGE={reference}\n"
    )
    return path


def test_pin_adds_the_registry_s_digest_once(pushed: str, stacks: Stacks, tmp_path: Path) -> None:
    path = images_file(tmp_path, pushed)
    host, name = pushed.split("/")
    accept = {"Accept": "application/vnd.docker.distribution.manifest.v2+json"}
    manifest = requests.head(
        f"http://{host}/v2/{name.replace(':', '/manifests/')}", headers=accept, timeout=10
    )
    wanted = f"{pushed}@{manifest.headers['Docker-Content-Digest']}"
    assert pin(Site(stacks.settings, stacks, print), path) == [wanted]
    expected = f"# a word\nDOOR_IMAGE={wanted}\nREHEARSAL_BASE_IMAGE=dual-use/base:1\n"
    expected += f"NIGHT_DESK_IMAGE={wanted}\n"
    assert path.read_text() == expected
    settings.check({"DOOR_IMAGE": wanted}, "env/images.env")
    assert pin(Site(stacks.settings, stacks, print), path) == [] and path.read_text() == expected


def test_a_pinned_image_is_pulled_found_and_run(
    pushed: str, stacks: Stacks, tmp_path: Path
) -> None:
    (pinned,) = pin(Site(stacks.settings, stacks, print), images_file(tmp_path, pushed))
    assert stacks.missing_images((pinned,)) == [pinned]
    stacks.docker.images.pull(pinned)
    assert stacks.missing_images((pinned,)) == []
    overlay = tmp_path / "compose.yaml"
    overlay.write_text(COMPOSE_OF_ONE)
    compose = [docker_cli(), "compose", "--project-name", "pin-test", "--file", str(overlay)]
    run = [*compose, "run", "--rm", "--no-TTY", "one"]
    environment = os.environ | {"REHEARSAL_BASE_IMAGE": pinned}
    done = subprocess.run(
        run, env=environment, capture_output=True, text=True, timeout=120, check=True
    )
    subprocess.run([*compose, "down"], env=environment, capture_output=True, timeout=60, check=True)
    assert done.stdout.strip() == "42"


def test_a_pinned_image_from_a_bundle_is_found_and_run(
    registry: str, stacks: Stacks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a site without a network: the image exists only in the bundle."""
    name, base = f"{registry}/bundled", stacks.settings["REHEARSAL_BASE_IMAGE"]
    built, _ = stacks.docker.images.build(
        fileobj=io.BytesIO(f"FROM {base}\nLABEL of={name}\n".encode()), tag=f"{name}:1"
    )
    stacks.docker.images.push(name, tag="1")
    stacks.docker.images.remove(f"{name}:1")
    (pinned,) = pin(Site(stacks.settings, stacks, print), images_file(tmp_path, f"{name}:1"))
    stacks.docker.images.pull(pinned)
    airgap.save_images(stacks, (pinned,), tmp_path / "images.tar")
    stacks.docker.images.remove(str(built.id), force=True)
    assert stacks.missing_images((pinned, str(built.id))) == [pinned, built.id]

    values = stacks.settings.values | {"STATE_DIR": str(tmp_path), "REHEARSAL_BASE_IMAGE": pinned}
    there = Stacks(replace(stacks.settings, values=values))
    files.write_json(tmp_path / settings.LOADED, earlier := {"one:1@sha256:earlier": "sha256:1"})
    loaded = airgap.load_images(there, (pinned,), tmp_path / "images.tar")
    files.write_json(tmp_path / settings.LOADED, loaded)
    assert loaded == earlier | {pinned: built.id}
    assert there.missing_images((pinned,)) == [] and there.image_id(pinned) == built.id
    assert there.docker.images.get(str(built.id)).tags == [f"{name}:1"]  # or a prune takes it
    told: list[str] = []
    overlay = tmp_path / "compose.yaml"
    overlay.write_text(COMPOSE_OF_ONE)
    command = [
        docker_cli(),
        "compose",
        "--project-name",
        "pin-test",
        "--file",
        str(overlay),
        "run",
        "--rm",
        "--no-TTY",
        "one",
    ]
    commands.stream(command, there.compose_environment(), told.append, 120)
    there.docker.images.remove(str(built.id), force=True)
    assert told[-1] == "42", told


def test_an_unreachable_registry_is_exit_10_and_changes_nothing(
    pushed: str, stacks: Stacks, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        nobody = f"127.0.0.1:{free.getsockname()[1]}"
    path = images_file(tmp_path, pushed)
    path.write_text(before := path.read_text() + f"VLLM_IMAGE={nobody}/vllm:1\n")
    with pytest.raises(PreconditionFailed, match="registry") as refused:
        pin(Site(stacks.settings, stacks, print), path)
    assert f"{nobody}/vllm:1" in refused.value.saw and refused.value.exit_code == 10
    assert path.read_text() == before


def test_every_reference_of_the_project_is_pinned_or_built_here() -> None:
    text = (REPOSITORY / "env" / "images.env").read_text(encoding="utf-8")
    references = {
        line.split("=")[1] for line in text.splitlines() if "=" in line and not line.startswith("#")
    }
    to_pin = {match[2] for match in TAG_ONLY.finditer(text)}
    assert to_pin == {
        reference
        for reference in references
        if "@" not in reference and not reference.startswith(BUILT_HERE)
    }
