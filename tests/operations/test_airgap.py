"""Bundles, without Docker; tests/e2e makes and loads one without a network."""

import json
import platform
import subprocess
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


SERVED, OTHER = {"commit": "a"}, {"commit": "b"}
KNOWN = {"maker/served": SERVED, "maker/served-bf16": OTHER}


def with_models(state: Path, volume: Path, base: str, monkeypatch: pytest.MonkeyPatch) -> Site:
    """A site of two models of the hub, in a folder instead of a volume."""

    def tar(_: object, __: str, *arguments: str) -> list[str]:
        at = f"--directory={volume}"
        return ["tar", *(at if one == "--directory=/models" else one for one in arguments)]

    monkeypatch.setattr(airgap, "tar_in_volume", tar)
    found = site(state, {})
    names = {"SERVED_MODEL": "maker/served", "TRAINED_MODEL": "maker/served-bf16"}
    return cast(
        Site,
        SimpleNamespace(
            state=state,
            settings=replace(found.settings, values=found.settings.values | names),
            recipe=lambda: SimpleNamespace(name="chosen", base=base),
            stacks=SimpleNamespace(ensure_volumes=lambda *_: None),
            tell=print,
        ),
    )


@pytest.mark.parametrize(
    ("base", "packed"),
    [("served", ["maker/served"]), ("bf16", ["maker/served", "maker/served-bf16"])],
)
def test_a_bundle_has_the_recipe_s_models_and_loading_it_forgets_no_other(
    base: str,
    packed: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    here, there, folder = (tmp_path / name for name in ("here", "there", "bundle"))
    (folder / "state").mkdir(parents=True)
    for state in (here, there):
        state.mkdir()
    for name in ("hub/models--maker--served", "hub/models--maker--served-bf16", "practice/nvfp4"):
        (tmp_path / "volume" / name).mkdir(parents=True)
        (tmp_path / "volume" / name / "config.json").write_text("{}")
    files.write_json(here / "models.json", KNOWN)
    files.write_json(there / "models.json", {"maker/earlier": OTHER})
    source = with_models(here, tmp_path / "volume", base, monkeypatch)
    assert airgap.save_models(source, folder) == packed
    words = capsys.readouterr().out
    assert "the recipe chosen needs" in words
    assert ("without maker/served-bf16" in words) is (base == "served")

    (tmp_path / "loaded").mkdir()
    target = with_models(there, tmp_path / "loaded", base, monkeypatch)
    listed = "state/bundled-models.json"
    assert [path.name for path in (folder / "state").iterdir()] == ["bundled-models.json"]
    checksums = {listed: sha256(folder / listed)}
    manifest = {"images": {}, "sha256": checksums}
    monkeypatch.setattr(airgap, "verified", lambda *_: manifest)
    monkeypatch.setattr(airgap, "load_images", lambda *_: {})
    assert airgap.load(target, folder)["models"] == packed
    folders = {path.parent.name for path in (tmp_path / "loaded").rglob("config.json")}
    assert folders == {f"models--{name.replace('/', '--')}" for name in packed} | {"nvfp4"}
    known = json.loads((there / "models.json").read_text())
    assert known == {"maker/earlier": OTHER} | {name: KNOWN[name] for name in packed}


def test_setup_adds_the_list_that_the_load_of_an_earlier_version_only_copied(
    tmp_path: Path,
) -> None:
    files.write_json(tmp_path / "models.json", {"maker/earlier": OTHER})
    assert airgap.ensure_models_known(tmp_path) == []
    files.write_json(tmp_path / "bundled-models.json", {"maker/served": SERVED})
    assert airgap.ensure_models_known(tmp_path) == ["maker/served"]
    known = json.loads((tmp_path / "models.json").read_text())
    assert known == {"maker/earlier": OTHER, "maker/served": SERVED}
    assert [path.name for path in tmp_path.iterdir()] == ["models.json"]


def test_a_bundle_of_an_earlier_version_is_added_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state, folder = tmp_path / "state", tmp_path / "bundle"
    state.mkdir()
    files.write_json(state / "models.json", {"maker/earlier": OTHER})
    (folder / "state").mkdir(parents=True)
    files.write_json(folder / "state" / "models.json", {"maker/served": SERVED})
    (tmp_path / "loaded").mkdir()
    made = ["tar", "--create", f"--file={folder / 'models.tar'}", "--files-from=/dev/null"]
    subprocess.run(made, check=True)
    target = with_models(state, tmp_path / "loaded", "served", monkeypatch)
    checksums = {"state/models.json": sha256(folder / "state" / "models.json")}
    manifest = {"images": {}, "sha256": checksums}
    monkeypatch.setattr(airgap, "verified", lambda *_: manifest)
    monkeypatch.setattr(airgap, "load_images", lambda *_: {})
    assert airgap.load(target, folder)["models"] == ["maker/served"]
    known = json.loads((state / "models.json").read_text())
    assert known == {"maker/earlier": OTHER, "maker/served": SERVED}


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
    _, command = models.run_fetch(pinned, ["a/model"], *options, hear=print)
    assert (
        command.endswith(
            " ".join(["sha256:bb", "/opt/fetch.py", *options, "/opt/models.json", "a/model"])
        )
        and PINNED not in command
    )
