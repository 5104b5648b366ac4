"""Each program imports only packages of its own list: the host, the bench, the image."""

import importlib.metadata
import re
import sys
from pathlib import Path

import pytest

from tests import house

MODULES = house.read()
PATHS = {
    house.name_of(room, path): path
    for room in house.ROOMS
    for path in house.folder(room).rglob("*.py")
}
OWNERS = importlib.metadata.packages_distributions()
GLUE = ("glue.cli", "glue.night", "glue.peers", "glue.operations", "glue.serving", "glue.machine")
LISTS = {
    "requirements.in": GLUE,
    "requirements-bench.in": ("bench", "rehearsal"),
    "images/trainer/requirements.txt": ("learning", "training"),
}


def plain(name: str) -> str:
    return re.split(r"[\[=<>;]", name)[0].lower().replace("_", "-")


def listed(file: Path) -> set[str]:
    lines = [line.strip() for line in file.read_text().splitlines()]
    names = {plain(line) for line in lines if line and line[0] not in "#-"}
    more = [line.split()[1] for line in lines if line.startswith("-r ")]
    return names.union(*(listed(file.parent / name) for name in more))


def reached(rooms: tuple[str, ...]) -> set[str]:
    """These rooms' modules and everything of this repository that they import."""
    found = {name for name, one in MODULES.items() if one.room in rooms}
    while more := {other for name in found for other in MODULES[name].imports} - found:
        found |= more
    return found


def packages(names: set[str]) -> set[str]:
    tops = {top for name in names for top in house.packages(PATHS[name])}
    known = {*sys.stdlib_module_names, *(room.split(".")[0] for room in house.ROOMS)}
    return {plain(OWNERS[top][0]) for top in tops - known if top in OWNERS}


@pytest.mark.parametrize(("file", "rooms"), LISTS.items())
def test_a_program_imports_only_its_own_packages(file: str, rooms: tuple[str, ...]) -> None:
    used = packages(reached(rooms))
    assert len(used) > 5 and not used - listed(house.ROOT / file)


def test_learning_s_packages_are_not_on_the_host() -> None:
    heavy = {"detect-secrets", "phonenumbers", "python-stdnum", "rapidfuzz", "ijson", "matplotlib"}
    assert not heavy & listed(house.ROOT / "requirements.in")
    assert heavy <= packages(reached(("learning",)))
