"""Pictures as SVG text, to stand inside a page. matplotlib is loaded only where one is drawn: it
takes a second."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

BLUE, GREY, RED = "#2f6f9f", "#9aa5ad", "#b3412e"


def loss_curve(points: Sequence[tuple[int, float]]) -> str:
    """Loss over steps, as it was and smoothed."""
    figure, axes = blank(7, 2.6)
    steps, losses = [step for step, _ in points], [loss for _, loss in points]
    width = max(1, len(losses) // 20)
    smooth = [
        sum(losses[max(0, at - width) : at + 1]) / len(losses[max(0, at - width) : at + 1])
        for at in range(len(losses))
    ]
    axes.plot(steps, losses, color=GREY, linewidth=0.8)
    axes.plot(steps, smooth, color=BLUE, linewidth=2)
    axes.set_xlabel("step")
    axes.set_ylabel("loss")
    axes.set_ylim(bottom=0)
    return text(figure)


def changes(rows: Sequence[tuple[str, float, float, float]]) -> str:
    """For each row (name, mean, low end, the recipe's limit): where it lies, and where it had to
    be."""
    figure, axes = blank(7, 0.7 + 0.5 * len(rows))
    for at, (_, mean, low, limit) in enumerate(rows):
        colour = BLUE if low > limit else RED
        axes.plot([low, mean], [at, at], color=colour, linewidth=3, solid_capstyle="butt")
        axes.plot([mean], [at], "o", color=colour)
        axes.plot([limit, limit], [at - 0.35, at + 0.35], color="black", linewidth=1.2)
    axes.axvline(0, color=GREY, linewidth=0.8)
    axes.set_yticks(range(len(rows)), [name for name, *_ in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlabel("nats a token: right of its black mark is good")
    return text(figure)


def blank(width: float, height: float) -> tuple[Any, Any]:
    from matplotlib.figure import (
        Figure,
    )  # and not pyplot, which wants a display and keeps what it drew

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def text(figure: Any) -> str:
    from matplotlib import rc_context

    out = io.StringIO()
    with rc_context({"svg.hashsalt": "night", "svg.fonttype": "none"}):
        figure.savefig(out, format="svg", metadata={"Date": None})
    return out.getvalue()[out.getvalue().index("<svg") :]
