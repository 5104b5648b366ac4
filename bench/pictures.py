"""The report's pictures, as PNG."""

from __future__ import annotations

import io
from typing import Any

import matplotlib
from matplotlib import pyplot

from bench import published
from bench.tables import levels, part_names

matplotlib.use("agg")

Row = dict[str, Any]
COLOURS = {
    "hidden calls": "#c0392b",
    "hidden calls, retrieval and Open WebUI": "#d98880",
    "retrieval and Open WebUI": "#7f8c8d",
    "queue": "#f1c40f",
    "prefill": "#2980b9",
    "decode": "#a9dfbf",
}
STYLES = {"stock": "o-", "ours": "s-"}


def first_word(result: Row) -> bytes:
    """Figure 1: time to the first word by number of users. Bars reach to P99."""
    figure, axes = pyplot.subplots(figsize=(8, 4.5), layout="constrained")
    there = published.FIRST_EVENT_SECONDS
    axes.plot(
        [*there], [row[1] for row in there.values()], "k^--", label="published, first event, median"
    )
    for name, style in STYLES.items():
        rows = [
            (users, found)
            for users, chat, level in levels(result)
            if chat == name and (found := level["first_token_seconds"])
        ]
        if rows:
            medians = [found["median"] for _, found in rows]
            above = [found["p99"] - found["median"] for _, found in rows]
            axes.errorbar(
                [u for u, _ in rows],
                medians,
                yerr=[[0] * len(rows), above],
                fmt=style,
                capsize=3,
                label=f"{name}, median to P99",
            )
    axes.set(
        xlabel="users at once",
        ylabel="seconds to the first word",
        title=f"Time to the first word{simulated(result)}",
    )
    axes.set_ylim(bottom=0)
    return finished(figure, axes)


def speed(result: Row) -> bytes:
    """Figure 2: tokens per second in total, by number of users."""
    figure, axes = pyplot.subplots(figsize=(8, 4.5), layout="constrained")
    there = published.TOTAL_TOKENS_PER_SECOND
    axes.plot([*there], [*there.values()], "k^--", label="published")
    for name, style in STYLES.items():
        totals = [
            (users, level["total_tokens_per_second"])
            for users, chat, level in levels(result)
            if chat == name
        ]
        rows = [(users, total) for users, total in totals if total]
        if rows:
            axes.plot([users for users, _ in rows], [total for _, total in rows], style, label=name)
    axes.set(
        xlabel="users at once",
        ylabel="tokens/s, all users",
        title=f"Tokens per second while answers are written{simulated(result)}",
    )
    axes.set_ylim(bottom=0)
    return finished(figure, axes)


def where_it_goes(result: Row) -> bytes:
    """Stacked bars: the seconds of a question, by part."""
    rows = levels(result)
    labels = [f"{users} {name}" for users, name, _ in rows]
    figure, axes = pyplot.subplots(figsize=(8, 1 + 0.45 * len(rows)), layout="constrained")
    left = [0.0] * len(rows)
    for part in part_names(result):
        widths = [level["parts"].get(part, 0.0) for _, _, level in rows]
        axes.barh(labels, widths, left=left, label=part, color=COLOURS.get(part))
        left = [start + width for start, width in zip(left, widths, strict=True)]
    axes.invert_yaxis()
    axes.set(xlabel="seconds a question, mean", title=f"Where the time goes{simulated(result)}")
    return finished(figure, axes)


def swap(result: Row) -> bytes:
    rows = result["rows"]
    figure, axes = pyplot.subplots(figsize=(8, 1 + 0.4 * len(rows)), layout="constrained")
    names = [row["phase"] for row in rows]
    floors = [row.get("floor_seconds") or 0.0 for row in rows]
    axes.barh(names, floors, label="floor", color="#bdc3c7")
    axes.barh(
        names,
        [row["seconds"] - floor for row, floor in zip(rows, floors, strict=True)],
        left=floors,
        label="above it",
        color="#2980b9",
    )
    axes.invert_yaxis()
    axes.set(xlabel="seconds", title="Swap and start, each phase on its floor")
    return finished(figure, axes)


def simulated(result: Row) -> str:
    return " (SIMULATION: paced model)" if result["simulated"] else ""


def finished(figure: Any, axes: Any) -> bytes:
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    into = io.BytesIO()
    figure.savefig(into, format="png", dpi=110)
    pyplot.close(figure)
    return into.getvalue()
