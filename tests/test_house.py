"""Rooms import only rooms below, each edge is in one place, files and functions are short."""

import ast

import pytest

from tests import house

MODULES = house.read()
ONLY_IN = {
    "docker": {"glue.clients.containers", "glue.clients.docker", "bench.containers"},
    "requests": {
        "glue.clients.vllm",
        "glue.clients.open_webui",
        "glue.clients.webui_connection",
        "glue.clients.deliver",
        "learning.chat",
    },
    "subprocess": {
        "glue.clients.compose",
        "glue.core.gpu",
        "glue.core.commands",
        "glue.cli.main",
        "glue.cli.verbs",
        "training.bench.run",
    },
    "http": {"bench.client", "bench.paced_model"},
    "fcntl": {"glue.core.lock"},
    "socket": {"glue.clients.host"},
    "huggingface_hub": {"training.merge_checkpoint"},
}
WITHOUT_TORCH = {
    "training.world",
    "training.memory_plan",
    "training.caches",
    "training.check_adapter",
    "training.bench.timing",
    "training.bench.floor",
}


def imports(name: str) -> set[str]:
    path = next(
        path
        for room in house.ROOMS
        for path in house.folder(room).rglob("*.py")
        if house.name_of(room, path) == name
    )
    return {
        part.split(".")[0] for part in house.imported(ast.parse(path.read_text(encoding="utf-8")))
    }


def test_every_file_is_in_a_room() -> None:
    known = {house.folder(room) for room in house.ROOMS}
    outside = [
        path
        for path in (house.ROOT / "glue").rglob("*.py")
        if path.parent != house.ROOT / "glue" and not known & set(path.parents)
    ]
    assert not outside


def test_rooms_import_only_rooms_below() -> None:
    assert not house.upward(MODULES)


def test_no_file_or_function_of_glue_is_too_long() -> None:
    assert not house.too_long(MODULES)


def test_long_files_and_functions_are_named() -> None:
    long = house.Module("glue.core.a", "glue.core", 301, frozenset(), (("f", 41), ("g", 40)))
    fits = house.Module("glue.core.b", "glue.core", 300, frozenset(), (("f", 40),))
    found = house.too_long({one.name: one for one in (long, fits)})
    assert found == {"glue.core.a": 301, "glue.core.a:f": 41}


def test_no_files_of_a_room_import_each_other_in_a_loop() -> None:
    assert not house.circles(MODULES)


def test_training_imports_no_other_room() -> None:
    for one in MODULES.values():
        if one.room == "training":
            assert not {"glue", "learning", "bench", "rehearsal"} & (
                imports(one.name) - {"training"}
            ), one.name


@pytest.mark.parametrize(("package", "homes"), ONLY_IN.items())
def test_each_edge_is_touched_in_one_place(package: str, homes: set[str]) -> None:
    assert {name for name in MODULES if package in imports(name)} <= homes


def test_only_the_trainer_image_imports_torch() -> None:
    users = {name for name in MODULES if "torch" in imports(name)}
    assert all(name.startswith("training.") for name in users) and not users & WITHOUT_TORCH


def test_the_figures_can_be_printed() -> None:
    assert "imports upward: none" in house.report(MODULES)
