"""The job that draws a night's page, report.html: one file for a browser, nothing from elsewhere.

Its order: night (its folder in the state folder), and facts, which are what the template names but
for pictures, answers and what was learned, with verdict, limits and losses beside them.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, select_autoescape

from glue.core import files
from learning import job as jobs
from learning.dataset import card, split
from learning.dataset import files as dataset_files
from learning.evaluation import right_answers
from learning.evaluation.measurements import GoldenAnswer, Reply, Sample
from learning.job import Job

SHOWN_ANSWERS = 5
SHOWN_LEARNED = 50
LONGEST_SHOWN = 600  # characters of an answer
BLUE, GREY, RED = "#2f6f9f", "#9aa5ad", "#b3412e"


def draw(job: Job) -> dict[str, Any]:
    night = job.state / job.order["night"]
    evidence = files.read_json_if_whole(night / "evidence.json", {})
    text = page(job.order["facts"], evidence, learned(night / "dataset"))
    files.write(night / "report.html", text, mode=0o600)
    return {}


def page(facts: dict[str, Any], evidence: dict[str, Any], learned: list[dict[str, Any]]) -> str:
    samples = [sample_from(row) for row in evidence.get("samples", [])]
    golden = [GoldenAnswer(**row) for row in evidence.get("golden", [])]
    rows = right_answers.table(samples, golden)
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=select_autoescape(default=True),
        trim_blocks=True,
    )
    return environment.get_template("report_page.html.j2").render(
        **facts,
        loss_picture=loss_curve(facts["losses"]) if len(facts["losses"]) > 1 else "",
        change_picture=change_picture(facts["verdict"].get("figures", {}), facts["limits"]),
        answers=[shown(asdict(row)) for row in rows],
        known=[shown(known(sample)) for sample in samples if not sample.taught][:SHOWN_ANSWERS],
        learned=learned[:SHOWN_LEARNED],
        more=max(0, len(learned) - SHOWN_LEARNED),
    )


def sample_from(row: dict[str, Any]) -> Sample:
    sides = {side: Reply(**row[side]) for side in ("candidate", "current")}
    return Sample(**row | sides)


def known(sample: Sample) -> dict[str, Any]:
    """An answer about what was known before the night."""
    before, after = sample.current.text.strip(), sample.candidate.text.strip()
    return {"question": sample.question, "before": before, "after": after}


def shown(row: dict[str, Any]) -> dict[str, Any]:
    return {
        key: text[:LONGEST_SHOWN] if isinstance(text, str) else text for key, text in row.items()
    }


def learned(folder: Path) -> list[dict[str, Any]]:
    """What the night trained and no earlier one had, as the data set's page shows it; by person."""
    if not (folder / "card.json").exists():  # too little to build one
        return []
    notes = dataset_files.read_notes(folder)
    new = set(notes.new)
    trained = dataset_files.read(folder).train
    rows = [card.shown("", row, notes) for row in trained if split.fingerprint(row) in new]
    return sorted(rows, key=lambda row: (not row["who"], row["who"]))


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
