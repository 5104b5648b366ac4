"""`python -m bench report`: one self-contained page of all measurements, with figures and
pictures beside it."""

from __future__ import annotations

import json
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Any

from bench import pictures, published, tables, training_page
from bench.tables import Table
from glue.core import files
from glue.core.errors import PreconditionFailed

Row = dict[str, Any]
# name of a result in the folder -> its heading
SECTIONS = {
    "rag-paced": "Day, simulated: Open WebUI on a paced model",
    "rag-browser-paced": "Day, simulated: the chat's own page on a paced model",
    "rag-vllm": "Day: Open WebUI on vLLM",
    "rag-browser-vllm": "Day: the chat's own page on vLLM",
    "direct": "vLLM alone",
    "swap": "Swap and start",
    "training": "Night",
}
Made = tuple[list[Table], dict[str, tuple[str, bytes]]]
SIMULATION = (
    "SIMULATION. The model is a paced one at the case study's speeds; nothing here was measured"
    " on a Spark's GPU."
)
SMALL = ("rehearsal", "demo")  # profiles without a GPU
PRACTICE = "Practice model on a rehearsal's machine: do not compare with the published figures."
PARTIAL = "INCOMPLETE: the run ended before everything was measured."
ABOUT = (
    "date",
    "model",
    "served_as",
    "release",
    "profile",
    "path",
    "rounds",
    "documents",
    "questions",
    "machine",
    "versions",
    "settings",
    "pace",
    "load_before",
    "overrides",
)
STYLE = (
    training_page.STYLE
    + ".simulation{background:#fdebd0;padding:.5rem 1rem;font-weight:bold}code{font-size:90%}"
)


def write(folder: Path, other: Path | None = None) -> Row:
    """Writes report.html, report.json and the pictures into folder, from the results there. other:
    the folder of an earlier run to compare with.

    Raises PreconditionFailed if there are no results.
    """
    results = read(folder)
    if not results:
        raise PreconditionFailed(
            "there is nothing to report",
            f"no results in {folder}",
            "make bench, or python -m bench rag",
        )
    made = {name: section(name, result) for name, result in results.items()}
    shots = {file: picture for _, found in made.values() for file, picture in found.items()}
    for file, (_, png) in shots.items():
        (folder / file).write_bytes(png)
    comparison = compared(read(other), results) if other else None
    files.write(folder / "report.html", page(results, made, comparison))
    files.write_json(
        folder / "report.json",
        {"source": published.SOURCE, **{name: bare(result) for name, result in results.items()}},
    )
    return {
        "page": str(folder / "report.html"),
        "json": str(folder / "report.json"),
        "pictures": sorted(shots),
    }


def read(folder: Path) -> dict[str, Row]:
    places = {name: folder / f"{name}.json" for name in SECTIONS}
    return {
        name: json.loads(path.read_text(encoding="utf-8"))
        for name, path in places.items()
        if path.exists()
    }


def bare(value: Any) -> Any:
    """Without the single samples, which stay in the result's own file."""
    if isinstance(value, dict):
        return {key: bare(item) for key, item in value.items() if key != "samples"}
    return [bare(item) for item in value] if isinstance(value, list) else value


def section(name: str, result: Row) -> Made:
    makers: dict[str, Callable[[str, Row], Made]] = {
        "direct": of_direct,
        "swap": of_swap,
        "training": of_training,
    }
    return makers.get(name, of_rag)(name, result)


def of_rag(name: str, result: Row) -> Made:
    shown = [
        tables.first_word(result),
        tables.speed(result),
        tables.where_it_goes(result),
        tables.health(result),
    ]
    if any(row.get("ratio") for row in result["rows"]):
        shown.insert(0, tables.beaten(result))
    if result.get("hit_rate"):
        shown += [tables.found(result), tables.calls(result)]
    return shown, {
        f"{name}-first-word.png": (
            "Figure 1: time to the first word by users",
            pictures.first_word(result),
        ),
        f"{name}-speed.png": ("Figure 2: tokens per second by users", pictures.speed(result)),
        f"{name}-parts.png": ("Where the time of a question goes", pictures.where_it_goes(result)),
    }


def of_direct(name: str, result: Row) -> Made:
    return [tables.direct(result)], {}


def of_swap(name: str, result: Row) -> Made:
    return [tables.swap(result)], {
        "swap.png": ("Seconds of each phase of the swap", pictures.swap(result))
    }


def of_training(name: str, result: Row) -> Made:
    rows = result["rows"]
    sections = ("setting", *(f"step {part}" for part in training_page.PUBLISHED_SECONDS))
    shown = [
        Table(
            "Table 5: tokens per second and memory",
            training_page.THROUGHPUT,
            training_page.throughput(rows),
        ),
        Table("Table 6: seconds a step", sections, training_page.profile(rows)),
    ]
    return shown, {
        "training-steps.png": ("Figure 3: seconds of every step", training_page.step_picture(rows)),
        "training-loss.png": (
            "Loss of every step",
            training_page.loss_picture(rows, not result["base_model"]),
        ),
    }


# ---------------------------------------------------------------------- two runs


def compared(before: dict[str, Row], now: dict[str, Row]) -> list[Table]:
    """Times to the first word of both runs with their ratio, for the levels that both have."""
    shown = []
    for name in (name for name in SECTIONS if name.startswith("rag-")):
        if name in before and name in now:
            old = {(users, chat): level for users, chat, level in tables.levels(before[name])}
            rows = [
                (
                    str(users),
                    chat,
                    seconds(old[users, chat]),
                    seconds(level),
                    shift(old[users, chat], level),
                )
                for users, chat, level in tables.levels(now[name])
                if (users, chat) in old
            ]
            heading = ("users", "chat", "the other run, s", "this run, s", "ratio of medians")
            shown.append(
                Table(
                    f"{SECTIONS[name]}: median to the first word, with a 95 % interval from 6"
                    " answers on",
                    heading,
                    rows,
                )
            )
    return shown


def seconds(level: Row) -> str:
    found = level["first_token_seconds"]
    between = tables.between(found, "median")
    return (
        "-" if not found else f"{found['median']:.2f}" + (f" ({between})" if between != "-" else "")
    )


def shift(old: Row, new: Row) -> str:
    one, other = new["first_token_seconds"], old["first_token_seconds"]
    return tables.ratio(one and one["median"], other and other["median"])


# ---------------------------------------------------------------------- the page


def page(results: dict[str, Row], made: dict[str, Made], comparison: list[Table] | None) -> str:
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8><title>Bench</title>",
        f"<style>{STYLE}</style>",
        "<h1>This machine beside the case study</h1>",
        f"<p>Published: {escape(published.SOURCE)}.</p>",
    ]
    for name, result in results.items():
        shown, shots = made[name]
        parts.append(f'<section id="{name}"><h2>{escape(SECTIONS[name])}</h2>')
        parts += [f"<p class=simulation>{words}</p>" for words in warnings(result)]
        parts += [f"<p>{about(result)}</p>", *map(table, shown)]
        parts += [
            f"<h3>{escape(words)}</h3>{training_page.picture(png, words)}"
            for words, png in shots.values()
        ]
        parts.append("</section>")
    if comparison is not None:
        parts += [
            '<section id="comparison"><h2>Two runs</h2>',
            *map(table, comparison),
            "</section>",
        ]
    return "\n".join(parts)


def table(shown: Table) -> str:
    note = f"<p><small>{escape(shown.note)}</small></p>" if shown.note else ""
    return f"<h3>{escape(shown.title)}</h3>{training_page.table(shown.heading, shown.rows)}{note}"


def warnings(result: Row) -> list[str]:
    """What a reader must know before the numbers."""
    said = {
        SIMULATION: result.get("simulated"),
        PRACTICE: result.get("profile") in SMALL and not result.get("simulated"),
        PARTIAL: result.get("whole") is False,
    }
    return [words for words, holds in said.items() if holds]


def about(result: Row) -> str:
    """Machine, versions, settings and command."""
    said = {key: result.get(key) for key in ABOUT}
    lines = [f"{key}: {plain(value)}" for key, value in said.items() if value]
    return (
        "<br>".join(map(escape, lines))
        + f"<br><code>{escape(str(result.get('command', '')))}</code>"
    )


def plain(value: Any) -> str:
    if isinstance(value, dict):
        return "; ".join(f"{key} {plain(item)}" for key, item in value.items() if item is not None)
    return str(value)
