"""Bundles, without Docker; tests/e2e makes and loads one without a network."""

import json
import platform
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from glue.clients import compose
from glue.clients.site import Site
from glue.core import files, settings
from glue.core.errors import PreconditionFailed
from glue.core.files import sha256
from glue.machine import images, models
from glue.operations import airgap

IMAGES = {"a:1": "sha256:aa", "b:1": "sha256:bb"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "images.tar").write_text("images")
    manifest = {
        "machine": platform.machine(),
        "python": airgap.python(),
        "profile": "spark",
        "images": IMAGES,
    }
    files.write_json(
        tmp_path / "manifest.json",
        manifest | {"sha256": {"images.tar": sha256(tmp_path / "images.tar")}},
    )
    return tmp_path


def test_a_complete_bundle_for_this_machine_is_accepted(folder: Path) -> None:
    assert airgap.verified(folder, "spark")["images"] == IMAGES


@pytest.mark.parametrize("change", ["profile", "machine", "python", "byte", "file", "manifest"])
def test_any_other_bundle_is_refused_and_changes_nothing(
    change: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if change == "machine":
        monkeypatch.setattr(platform, "machine", lambda: "s390x")
    if change == "python":
        monkeypatch.setattr(sys, "version_info", (3, 99, 0))
    if change == "byte":
        (folder / "images.tar").write_text("Images")
    if change in ("file", "manifest"):
        (folder / {"file": "images.tar", "manifest": "manifest.json"}[change]).unlink()
    with pytest.raises(PreconditionFailed):
        airgap.verified(folder, "rehearsal" if change == "profile" else "spark")


def site(state: Path, here: dict[str, str]) -> Site:
    stacks = SimpleNamespace(
        missing_images=lambda wanted: [name for name in wanted if name not in here],
        image_id=lambda name: here[name],
    )
    loaded = settings.load("rehearsal")
    values = loaded.values | {"STATE_DIR": str(state), "REHEARSAL_BASE_IMAGE": "a:1"}
    values |= {f"REHEARSAL_{key}_IMAGE": "b:1" for key in ("VLLM", "OPEN_WEBUI", "TRAINER")}
    return cast(
        Site, SimpleNamespace(state=state, stacks=stacks, settings=replace(loaded, values=values))
    )


@pytest.mark.parametrize(
    ("here", "loaded"),
    [(IMAGES, True), (IMAGES | {"a:1": "sha256:other"}, False), ({"a:1": "sha256:aa"}, False)],
)
def test_setup_skips_images_only_if_all_are_loaded(
    here: dict[str, str], loaded: bool, tmp_path: Path
) -> None:
    assert airgap.are_loaded(site(tmp_path, dict(IMAGES))) is False, "nothing was ever loaded"
    files.write_json(tmp_path / settings.LOADED, cast(Any, IMAGES))
    assert airgap.are_loaded(site(tmp_path, here)) is loaded


PINNED = "registry.example.org:5000/one:1@sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("content", "local"),
    [
        (json.dumps({PINNED: "sha256:bb"}), "sha256:bb"),
        ("{}", PINNED),
        ("", PINNED),
        ('{"cut', PINNED),
        ("[]", PINNED),
        (None, PINNED),
    ],
)
def test_loaded_images_are_used_by_id_and_others_by_reference(
    content: str | None, local: str, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / settings.LOADED).write_text(content)
    chosen = site(tmp_path, {}).settings
    assert chosen.local(PINNED) == local and chosen.local("one:1") == "one:1"
    assert airgap.name_of(PINNED) == "registry.example.org:5000/one:1"


@pytest.mark.parametrize("options", [(), ("--check",)])
def test_models_are_fetched_in_the_loaded_image(
    options: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compose, "docker_cli", lambda: "docker")
    monkeypatch.setattr(images, "stream", lambda command, *_: (0, " ".join(command)))
    monkeypatch.setattr(models, "stream", lambda command, *_: (0, " ".join(command)))
    (tmp_path / settings.LOADED).write_text(json.dumps({PINNED: "sha256:bb"}))
    here = site(tmp_path, {}).settings
    pinned = replace(here, values=here.values | {"REHEARSAL_VLLM_IMAGE": PINNED})
    _, command = models.run_fetch(pinned, *options, hear=print)
    assert (
        command.endswith(" ".join(["sha256:bb", "/opt/fetch.py", *options, "/opt/models.json"]))
        and PINNED not in command
    )
