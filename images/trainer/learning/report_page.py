"""The job that draws a night's page, report.html: one file for a browser, nothing from elsewhere.

Its order: night (its folder in the state folder), and facts, which are what the template names but
for pictures and answers, with verdict, limits and losses beside them.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, select_autoescape

from glue.core import files
from learning import job as jobs
from learning.job import Job

SHOWN_ANSWERS = 5
LONGEST_SHOWN = 600  # characters of an answer
BLUE, GREY, RED = "#2f6f9f", "#9aa5ad", "#b3412e"


def draw(job: Job) -> dict[str, Any]:
    night = job.state / job.order["night"]
    evidence = files.read_json_if_whole(night / "evidence.json", {})
    files.write(night / "report.html", page(job.order["facts"], evidence), mode=0o600)
    return {}


def page(facts: dict[str, Any], evidence: dict[str, Any]) -> str:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=select_autoescape(default=True),
        trim_blocks=True,
    )
    return environment.get_template("report_page.html.j2").render(
        **facts,
        loss_picture=loss_curve(facts["losses"]) if len(facts["losses"]) > 1 else "",
        change_picture=change_picture(facts["verdict"].get("figures", {}), facts["limits"]),
        answers=shown_answers(evidence),
        golden=evidence.get("golden", []),
    )


def shown_answers(evidence: dict[str, Any]) -> list[dict[str, str]]:
    """Five answers before and after: first of all about what was taught."""
    samples = sorted(evidence.get("samples", []), key=lambda sample: not sample["taught"])
    return [
        {
            "question": sample["question"],
            "wanted": sample["wanted"][:LONGEST_SHOWN],
            "before": sample["current"]["text"].strip()[:LONGEST_SHOWN],
            "after": sample["candidate"]["text"].strip()[:LONGEST_SHOWN],
        }
        for sample in samples[:SHOWN_ANSWERS]
    ]


# ---------------------------------------------------------------------- pictures, as SVG text


def change_picture(figures: dict[str, float], limits: dict[str, float]) -> str:
    gain, loss = limits.get("least_gain", 0.0), -limits.get("most_forgetting", 0.0)
    wanted = (
        ("learned, against the current", "gain", gain),
        ("right answer against another", "margin", gain),
        ("known before, against the current", "general_change", loss),
        ("known before, against the base", "general_change_from_base", loss),
    )
    rows = [
        (name, figures[key], figures[f"{key}_low"], limit)
        for name, key, limit in wanted
        if f"{key}_low" in figures
    ]
    return changes(rows) if rows else ""


def loss_curve(points: Sequence[tuple[int, float]]) -> str:
    """Loss over steps, as measured and smoothed."""
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
    """rows: name, mean, lower bound, and the recipe's limit, which the bound must be above."""
    figure, axes = blank(7, 0.7 + 0.5 * len(rows))
    for at, (_, mean, low, limit) in enumerate(rows):
        colour = BLUE if low > limit else RED
        axes.plot([low, mean], [at, at], color=colour, linewidth=3, solid_capstyle="butt")
        axes.plot([mean], [at], "o", color=colour)
        axes.plot([limit, limit], [at - 0.35, at + 0.35], color="black", linewidth=1.2)
    axes.axvline(0, color=GREY, linewidth=0.8)
    axes.set_yticks(range(len(rows)), [name for name, *_ in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlabel("nats a token; good is right of the black mark")
    return text(figure)


def blank(width: float, height: float) -> tuple[Any, Any]:
    # not pyplot, which wants a display and keeps what it drew
    from matplotlib.figure import Figure

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


if __name__ == "__main__":
    jobs.run(draw)
