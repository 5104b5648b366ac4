"""Imports go down only, and only the edges touch the world."""

import ast
from functools import cache
from pathlib import Path

import pytest

GLUE = Path(__file__).parents[2] / "glue"
FLOORS = [
    {"bench.paced", "bench.summaries", "bench.client", "bench.library", "bench.published"},
    {"bench.load", "bench.tables", "bench.scale"},
    {"bench.pictures"},
    {
        "types",
        "training.world",
        "training.memory",
        "training.caches",
        "training.timing",
        "training.template",
        "night_desk",
        "webui_data",
    },
    {"redact", "addresses"},
    {"image_tags"},
    {"types", "training.world", "training.memory", "training.caches", "training.timing", "night_desk", "webui_data"},
    {"training.costs", "evidence"},
    {"bench.training_page", "plan", "overdue", "commands", "gpu", "adapter_format", "deliver", "certificates"},
    {"learning.text", "learning.prompt", "learning.masking"},
    {"learning.feedback", "learning.dataset", "learning.duplicates", "learning.questions", "learning.glossary"},
    {"learning.prepare"},
    {"learning.card"},
    {"settings", "recipes", "files", "host", "waiting", "sanity", "golden", "adapter_values", "pictures", "manifests"},
    {"hours", "energy"},
    {"bench.training_plan", "units", "lock", "journal", "releases", "stacks", "turn", "vllm", "dataset_files", "gate", "morning"},
    {"webui", "supplies", "checks", "chat_volume", "backup_folder"},
    {"site", "pin"},
    {"notify", "tls"},
    {"doctor", "recovery", "backup", "airgap"},
    {"setup", "day", "documents", "document_examples", "forget", "status", "recipe_facts", "export", "cleaning"},
    {"adapters", "judge", "lessons", "mornings", "reconcile", "schedule", "restore", "support"},
    {"bench.parts", "bench.machine", "bench.browser", "bench.hot", "bench.questions"},
    {"bench.chats"},
    {"nights.tonight", "bench.found"},
    {"nights.manifest"},
    {"nights.collecting", "nights.training", "nights.judging"},
    {"night", "bench.rag", "bench.report", "bench.direct"},
    {"bench.swap"},
    {"bench.training"},
    {"demo", "bench.verbs", "upgrade"},
    {"cli"},
    {"__main__"},
]
FLOOR = {name: number for number, names in enumerate(FLOORS) for name in names}
ONLY_IN = {
    "docker": {"stacks"},
    "requests": {"vllm", "webui", "deliver"},
    "subprocess": {"stacks", "gpu", "cli", "commands", "training.bench"},
    "http": {"night_desk", "bench.client", "bench.paced"},
    "fcntl": {"lock"},
    "socket": {"host"},
    "huggingface_hub": {"training.fetch", "training.merge"},
    "torch": {f"training.{path.stem}" for path in (GLUE / "training").glob("*.py")}
    - {f"training.{name}" for name in ("world", "memory", "fetch", "caches", "timing", "costs", "template")},
}


@cache
def modules() -> dict[str, ast.Module]:
    found = {}
    for path in sorted(GLUE.rglob("*.py")):
        name = ".".join(path.relative_to(GLUE).with_suffix("").parts)
        if not name.endswith("__init__"):
            found[name] = ast.parse(path.read_text(encoding="utf-8"))
    return found


def imported(tree: ast.Module) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("name", [name for name in modules() if not name.startswith("training.") or name in FLOOR])
def test_every_module_has_a_floor_and_imports_only_lower_ones(name: str) -> None:
    assert name in FLOOR, f"give {name} a floor"
    inside = {part.removeprefix("glue.") for part in imported(modules()[name]) if part.startswith("glue.")}
    same_or_higher = {other for other in inside & FLOOR.keys() if FLOOR[other] >= FLOOR[name] and other != name}
    assert not same_or_higher


@pytest.mark.parametrize(("package", "homes"), ONLY_IN.items())
def test_each_edge_is_touched_in_one_place(package: str, homes: set[str]) -> None:
    users = {name for name, tree in modules().items() if any(part.split(".")[0] == package for part in imported(tree))}
    assert users <= homes


def test_the_trainer_meets_the_rest_in_files_only() -> None:
    for name, tree in modules().items():
        if name.startswith("training."):
            assert not any(part.startswith("glue") for part in imported(tree)), name
