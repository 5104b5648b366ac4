"""Lines, floors and broken rules: python -m tests.house. A room imports only rooms below it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[1]
# from the ground up; the first part of a module's name that stands here is its room
ROOMS = (
    "training",
    "glue.core",
    "glue.clients",
    "glue.machine",
    "glue.serving",
    "glue.operations",
    "glue.peers",
    "glue.night",
    "glue.cli",
    "learning",  # runs in the trainer's image
    "bench",
    "rehearsal",
)
FOLDERS = {"training": "images/trainer/training", "learning": "images/trainer/learning"}
MOST_FILE_LINES, MOST_FUNCTION_LINES = 300, 40  # in glue


@dataclass(frozen=True)
class Module:
    """imports: modules of these rooms. functions: name and lines of each."""

    name: str
    room: str
    lines: int
    imports: frozenset[str]
    functions: tuple[tuple[str, int], ...]


def read() -> dict[str, Module]:
    paths = {
        name_of(room, path): path for room in ROOMS for path in sorted(folder(room).rglob("*.py"))
    }
    trees = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in paths.items()}
    return {name: module(name, paths[name], tree, set(paths)) for name, tree in trees.items()}


def folder(room: str) -> Path:
    return ROOT / FOLDERS.get(room, room.replace(".", "/"))


def name_of(room: str, path: Path) -> str:
    return ".".join([room, *path.relative_to(folder(room)).with_suffix("").parts]).removesuffix(
        ".__init__"
    )


def module(name: str, path: Path, tree: ast.Module, known: set[str]) -> Module:
    room = next(room for room in ROOMS if f"{name}.".startswith(f"{room}."))
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    spans = tuple(
        (node.name, (node.end_lineno or node.lineno) - node.lineno + 1) for node in functions
    )
    lines = len(path.read_text(encoding="utf-8").splitlines())
    return Module(name, room, lines, frozenset(imported(tree) & known - {name}), spans)


def imported(tree: ast.Module) -> set[str]:
    """Modules, and names imported from them, of which some are modules too."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def packages(path: Path) -> set[str]:
    """The first part of each name that a file imports."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {name.split(".")[0] for name in imported(tree)}


def upward(modules: dict[str, Module]) -> list[str]:
    """Imports from a room to one above it."""
    floor = {room: number for number, room in enumerate(ROOMS)}
    return [
        f"{one.name} -> {other}"
        for one in modules.values()
        for other in sorted(one.imports)
        if floor[modules[other].room] > floor[one.room]
    ]


def circles(modules: dict[str, Module]) -> list[str]:
    """Files of one room that reach each other by imports."""
    reached = {name: set(reach(name, modules)) for name in modules}
    return [
        f"{one} <-> {other}"
        for one in modules
        for other in sorted(reached[one])
        if one < other and one in reached[other]
    ]


def reach(name: str, modules: dict[str, Module]) -> Iterator[str]:
    seen, left = {name}, [name]
    while left:
        for other in modules[left.pop()].imports - seen:
            if modules[other].room == modules[name].room:
                seen.add(other)
                left.append(other)
                yield other


def too_long(modules: dict[str, Module]) -> dict[str, int]:
    """Files and functions of glue above the limits, as glue.room.file or glue.room.file:function,
    and their lines."""
    glue = [one for one in modules.values() if one.name.startswith("glue.")]
    files = {one.name: one.lines for one in glue if one.lines > MOST_FILE_LINES}
    return files | {
        f"{one.name}:{name}": lines
        for one in glue
        for name, lines in one.functions
        if lines > MOST_FUNCTION_LINES
    }


def report(modules: dict[str, Module]) -> str:
    """A line a room, from the top floor down, and what breaks the rules."""
    rows = []
    for number, room in reversed(list(enumerate(ROOMS, 1))):
        inside = [one for one in modules.values() if one.room == room]
        spans = [lines for one in inside for _, lines in one.functions]
        longest = max(inside, key=lambda one: one.lines)
        rows.append(
            f"{number:2}  {room:16} {len(inside):3} files {sum(one.lines for one in inside):6,}"
            f" lines   function: median {median(spans):4}, longest {max(spans):3}   longest file:"
            f" {longest.name}, {longest.lines}"
        )
    glue = [one for one in modules.values() if one.room.startswith("glue.")]
    rows.append(
        f"    glue             {len(glue):3} files {sum(one.lines for one in glue):6,} lines"
    )
    rows.append(f"imports upward: {'; '.join(upward(modules)) or 'none'}")
    rows.append(f"circles in a room: {'; '.join(circles(modules)) or 'none'}")
    long = too_long(modules)
    rows.append("too long: " + (", ".join(f"{name} {n}" for name, n in long.items()) or "none"))
    return "\n".join(rows)


if __name__ == "__main__":
    print(report(read()))
