"""The page of a training bench: two tables and two pictures, each beside the case study's."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

Row = dict[str, Any]

# Signal65, "NVIDIA DGX Spark case study: RAG inference by day, fine-tuning by night", June 2026: on
# a DGX Spark, with
# trained weights, 100 steps of 8 rows, 160,266 real tokens
PUBLISHED = {
    "tokens_per_second": 425,
    "tokens_per_second_with_warm_up": 376,
    "step_seconds": 3.77,
    "peak_bytes": 68.7e9,
}
PUBLISHED_SECONDS = {
    "1-5": 13.6,
    "6-10": 3.62,
    "11-15": 3.69,
    "16-20": 3.94,
    "50": 3.72,
    "100": 3.72,
}
PUBLISHED_LOSS = (1.05, 0.88)
MIDDLE = {"1-5": 3, "6-10": 8, "11-15": 13, "16-20": 18, "50": 50, "100": 100}


def name(row: Row) -> str:
    packing = "packed" if row["packing"] else "not packed"
    return (
        f"{row['engine']}, {row['recipe']}, {row['tokens_per_step']:,} tokens, {packing},"
        f" checkpointing {row['checkpointing']}"
    )


def measured(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if "step_seconds" in row]


# ---------------------------------------------------------------------- tables

THROUGHPUT = (
    "setting",
    "s a step",
    "tokens/s",
    "with warm-up",
    "× loop",
    "peak GB",
    "foretold",
    "of its floor",
    "MFU",
)


def throughput(rows: Sequence[Row]) -> list[tuple[str, ...]]:
    """Table 5. tokens/s without padding; without the warm-up, and with it."""
    published = (
        "case study, DGX Spark",
        f"{PUBLISHED['step_seconds']:.2f}",
        f"{PUBLISHED['tokens_per_second']:,}",
        f"{PUBLISHED['tokens_per_second_with_warm_up']:,}",
        "",
        f"{PUBLISHED['peak_bytes'] / 1e9:.1f}",
        "",
        "",
        "",
    )
    return [published, *(throughput_of(row) for row in rows)]


def throughput_of(row: Row) -> tuple[str, ...]:
    if "error" in row:
        return (name(row), row["error"], *[""] * (len(THROUGHPUT) - 2))
    return (
        name(row),
        f"{row['step_seconds']:.3f}",
        f"{row['tokens_per_second']:,.0f}",
        f"{row['tokens_per_second_with_warm_up']:,.0f}",
        number(row.get("ratio_to_loop"), "{:.1f}"),
        number(row.get("peak_bytes"), "{:.1f}", 1e-9),
        number(row.get("predicted_peak_bytes"), "{:.1f}", 1e-9),
        number(row.get("floor_fraction"), "{:.0f} %", 100),
        number(row.get("model_flop_utilisation"), "{:.0f} %", 100),
    )


def number(value: float | None, form: str, times: float = 1.0) -> str:
    return "" if value is None else form.format(value * times)


def profile(rows: Sequence[Row]) -> list[tuple[str, ...]]:
    """Table 6: seconds a step, by section of the run. The first steps compile kernels."""
    published = (
        "case study, DGX Spark",
        *(f"{seconds:.2f}" for seconds in PUBLISHED_SECONDS.values()),
    )
    return [
        published,
        *((name(row), *sections(row["seconds_of_each_step"])) for row in measured(rows)),
    ]


def sections(seconds: Sequence[float]) -> list[str]:
    found = []
    for section in PUBLISHED_SECONDS:
        first, _, last = section.partition("-")
        part = seconds[int(first) - 1 : int(last or first)]
        found.append(f"{sum(part) / len(part):.3f}" if part else "")
    return found


# ---------------------------------------------------------------------- pictures


def step_picture(rows: Sequence[Row]) -> bytes:
    """Figure 3: seconds of each step, as PNG."""
    figure, axes = blank()
    axes.plot(
        [*MIDDLE.values()], [*PUBLISHED_SECONDS.values()], "k^--", label="case study, DGX Spark"
    )
    for row in measured(rows):
        seconds = row["seconds_of_each_step"]
        axes.plot(
            range(1, len(seconds) + 1),
            seconds,
            marker=".",
            markersize=3,
            linewidth=1,
            label=name(row),
        )
    axes.set(
        yscale="log", xlabel="step", ylabel="seconds a step", title="Seconds a step, from the first"
    )
    return finished(figure, axes)


def loss_picture(rows: Sequence[Row], random_weights: bool) -> bytes:
    figure, axes = blank()
    for row in measured(rows):
        losses = row["loss_of_each_step"]
        axes.plot(range(1, len(losses) + 1), losses, linewidth=1, label=name(row))
    what = "random weights and random tokens: not comparable with" if random_weights else "beside"
    axes.plot([1, 100], PUBLISHED_LOSS, "k^--", label="case study, step 1 and 100")
    axes.set(xlabel="step", ylabel="loss, nats a token", title=f"Loss ({what} the case study's)")
    return finished(figure, axes)


def blank() -> tuple[Any, Any]:
    """A figure without a window, and its axes. matplotlib takes half a second to import, so
    other verbs do not import it."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 5), layout="constrained")
    return figure, figure.subplots()


def finished(figure: Any, axes: Any) -> bytes:
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7)
    into = io.BytesIO()
    figure.savefig(into, format="png", dpi=120)
    return into.getvalue()


# ---------------------------------------------------------------------- the page

STYLE = """body{font:15px/1.5 system-ui,sans-serif;max-width:72rem;margin:2rem auto;padding:0 1rem;
color:#1b1b1b}
table{border-collapse:collapse;margin:1rem 0}
td,th{padding:.3rem .7rem;border-bottom:1px solid #ddd;text-align:right}
td:first-child,th:first-child{text-align:left}img{max-width:100%}tr:nth-child(2){background:#f3f3f3}"""


def table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    body = "".join(table_row(row, "td") for row in rows)
    return f"<table>{table_row(heading, 'th')}{body}</table>"


def table_row(cells: Sequence[str], tag: str) -> str:
    return "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells) + "</tr>"


def picture(png: bytes, words: str) -> str:
    return (
        f'<img alt="{escape(words)}" src="data:image/png;base64,{base64.b64encode(png).decode()}">'
    )


def page(result: Row) -> str:
    rows, random_weights = result["rows"], not result["base_model"]
    weights = "random weights of the real architecture" if random_weights else result["base_model"]
    versions = ", ".join(f"{package} {version}" for package, version in result["versions"].items())
    about = (
        f"{result['date']}, {result['machine']}, {result['layers']} layers, {weights}. {versions}."
        f" {result.get('command', '')}"
    )
    return "\n".join(
        (
            "<!doctype html><meta charset=utf-8><title>Training bench</title>",
            f"<style>{STYLE}</style>",
            "<h1>Training bench</h1>",
            f"<p>{escape(about)}</p>",
            (
                "<p>The case study's figures are of a DGX Spark; compare ratios within this table,"
                " not times across machines.</p>"
            ),
            "<h2>Table 5: tokens a second and memory</h2>",
            table(THROUGHPUT, throughput(rows)),
            "<h2>Table 6: seconds a step</h2>",
            table(("setting", *(f"step {s}" for s in PUBLISHED_SECONDS)), profile(rows)),
            "<h2>Figure 3: seconds a step</h2>",
            picture(step_picture(rows), "seconds of every step"),
            "<h2>Loss</h2>",
            picture(loss_picture(rows, random_weights), "loss of every step"),
        )
    )


def write(result: Row, folder: Path, stem: str) -> list[Path]:
    """Writes STEM.html, STEM-steps.png and STEM-loss.png into folder."""
    made = {
        f"{stem}.html": page(result).encode(),
        f"{stem}-steps.png": step_picture(result["rows"]),
        f"{stem}-loss.png": loss_picture(result["rows"], not result["base_model"]),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for file, content in made.items():
        (folder / file).write_bytes(content)
    return [folder / file for file in made]
