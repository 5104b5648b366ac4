"""What a person reads in the morning: a page, a short text, a line above every chat. Made from the
night's files alone.

state/nights/<night>/report.html   one file, nothing from elsewhere, for a browser
state/nights/<night>/summary.txt   a few lines, for an e-mail, a webhook or a terminal
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, select_autoescape

from glue.core import files
from learning import report_page

PARTS = ("train", "held_out", "general")
SHOWN_ANSWERS = 5
LONGEST_SHOWN = 600  # characters of an answer
BANNER = "glue-night"
UNDO = "make rollback"
LEARNED = (
    "Last night the assistant learned from what the team rated and corrected. If answers are worse"
    " than they were, rate them down and tell your administrator: the night can be undone in a"
    " moment."
)
OUTCOMES = {
    "promoted": "The assistant learned last night.",
    "refused": "Last night's adapter was refused. The assistant answers as before.",
    "nothing new": "There was nothing new to learn. The assistant answers as before.",
}


@dataclass(frozen=True)
class Morning:
    """end: how the night ended, as the journal has it. steps: seconds by step. losses: (step,
    loss)."""

    night: str
    end: dict[str, Any]
    steps: dict[str, float]
    counts: dict[str, int]
    card: dict[str, Any]
    losses: list[tuple[int, float]]
    verdict: dict[str, Any]
    evidence: dict[str, Any]
    training: dict[str, Any]
    energy: dict[str, float]
    recipe: dict[str, Any]

    @property
    def outcome(self) -> str:
        return str(self.end.get("outcome", "failed"))

    @property
    def headline(self) -> str:
        return OUTCOMES.get(self.outcome, "Last night failed. The assistant answers as before.")

    @property
    def reasons(self) -> list[str]:
        """The gate's only where it had the last word: a night may also fail after it said yes."""
        judged = self.outcome in ("promoted", "refused")
        return (judged and self.verdict.get("reasons")) or [
            str(self.end.get("reason") or "no reason was left")
        ]


def gather(state: Path, night: str) -> Morning:
    """Whatever is missing is left empty: a night may have died anywhere."""
    folder = state / "nights" / night
    rows = [row for row in files.read_lines(state / "journal.jsonl") if row.get("night") == night]
    progress = files.read_lines(folder / "progress.jsonl")
    dataset = folder / "dataset"
    return Morning(
        night=night,
        end=next((row for row in reversed(rows) if "outcome" in row), {}),
        steps=seconds_by_step(rows),
        counts={
            part: len(files.read_lines(dataset / f"{part}.jsonl"))
            for part in PARTS
            if (dataset / f"{part}.jsonl").exists()
        },
        card=files.read_json_if_whole(dataset / "card.json", {}),
        losses=[
            (row["step"], row["loss"])
            for row in progress
            if row.get("phase") == "train" and "loss" in row
        ],
        verdict=files.read_json_if_whole(folder / "verdict.json", {}),
        evidence=files.read_json_if_whole(folder / "evidence.json", {}),
        training=files.read_json_if_whole(folder / "result.json", {}),
        energy=files.read_json_if_whole(folder / "energy.json", {}),
        recipe=files.read_json_if_whole(folder / "recipe.json", {}),
    )


def seconds_by_step(rows: list[dict[str, Any]]) -> dict[str, float]:
    begun: dict[str, datetime] = {}
    found: dict[str, float] = {}
    for row in rows:
        if "step" not in row:
            continue
        moment = datetime.fromisoformat(row["time"])
        if row["phase"] == "begin":
            begun[row["step"]] = moment
        elif row["step"] in begun:
            found[row["step"]] = (moment - begun[row["step"]]).total_seconds()
    return found


# ---------------------------------------------------------------------- words


def summary(morning: Morning, chat_url: str = "") -> str:
    """A few lines of plain text; the first is a subject line."""
    figures = morning.verdict.get("figures", {})
    lines = [f"{morning.headline} (night {morning.night})", ""]
    lines += [f"- {reason}" for reason in morning.reasons]
    if "likelihood_ratio" in figures and figures.get("held_out_units"):
        more = (figures["likelihood_ratio"] - 1) * 100
        lines.append(
            f"- right answers that it never saw: {more:+.0f} % in likelihood, token by token"
        )
    if morning.counts:
        lines.append(
            "- examples: "
            + ", ".join(
                f"{count} {name.replace('_', ' ')}" for name, count in morning.counts.items()
            )
        )
    losses = [loss for _, loss in morning.losses]
    if losses:
        lines.append(f"- loss {losses[0]:.2f} {sparkline(losses, 24)} {losses[-1]:.2f}")
    lines.append(
        f"- {duration(float(morning.end.get('seconds') or 0))}, {energy_words(morning.energy)}"
    )
    if morning.outcome == "promoted":
        lines += ["", f"To undo it: {UNDO}. Nothing restarts, nobody has to do anything."]
    return "\n".join(lines + ([f"The chat: {chat_url}"] if chat_url else [])) + "\n"


def keep_banner(state: Path, morning: Morning) -> None:
    """Above every chat stands what the last night taught, for as long as it serves; other nights
    changed nothing for people."""
    if morning.outcome == "promoted":
        files.write_json(
            state / "banner.json", {"adapter": morning.end.get("adapter"), "text": LEARNED}
        )


def kept_banner(state: Path, serves: str | None) -> dict[str, str]:
    """What WebUI.ensure_banner takes. No text where something else serves: the chat forgets banners
    when it restarts."""
    kept = files.read_json_if_whole(state / "banner.json", {})
    return {
        "name": BANNER,
        "kind": "success",
        "text": kept["text"] if kept and kept["adapter"] == serves else "",
    }


def duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min {rest} s"


def energy_words(energy: dict[str, float]) -> str:
    if not energy:
        return "energy not readable here"
    return (
        f"{energy['watt_hours']:.0f} Wh taken by the GPU in training, on average"
        f" {average_watts(energy):.0f} W"
    )


def average_watts(energy: dict[str, float]) -> float:
    return energy["watt_hours"] * 3600 / max(energy["seconds"], 1)


# ---------------------------------------------------------------------- the page


def page(morning: Morning) -> str:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=select_autoescape(default=True),
        trim_blocks=True,
    )
    return environment.get_template("morning.html.j2").render(
        morning=morning,
        loss_picture=report_page.loss_curve(morning.losses) if len(morning.losses) > 1 else "",
        change_picture=change_picture(morning),
        answers=shown_answers(morning.evidence),
        golden=morning.evidence.get("golden", []),
        duration=duration(float(morning.end.get("seconds") or 0)),
        steps={name: duration(seconds) for name, seconds in morning.steps.items()},
        energy=energy_words(morning.energy),
        undo=UNDO,
    )


def change_picture(morning: Morning) -> str:
    figures, recipe = morning.verdict.get("figures", {}), morning.recipe
    wanted = (
        ("learned, against the current", "gain", recipe.get("least_gain", 0.0)),
        ("right answer against another", "margin", recipe.get("least_gain", 0.0)),
        (
            "known before, against the current",
            "general_change",
            -recipe.get("most_forgetting", 0.0),
        ),
        (
            "known before, against the base",
            "general_change_from_base",
            -recipe.get("most_forgetting", 0.0),
        ),
    )
    rows = [
        (name, figures[key], figures[f"{key}_low"], limit)
        for name, key, limit in wanted
        if f"{key}_low" in figures
    ]
    return report_page.changes(rows) if rows else ""


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


def write(state: Path, night: str, chat_url: str = "") -> Morning:
    """Both files, from whatever the night left."""
    morning = gather(state, night)
    folder = state / "nights" / night
    files.make_folder(folder)
    files.write(folder / "summary.txt", summary(morning, chat_url), mode=0o600)
    files.write(folder / "report.html", page(morning), mode=0o600)
    return morning


BARS = "▁▂▃▄▅▆▇█"


def sparkline(values: Sequence[float], width: int = 40) -> str:
    """For a terminal: the values as small bars, at most width of them."""
    if not values:
        return ""
    share = max(1.0, len(values) / width)
    kept = [values[int(at * share)] for at in range(int(len(values) / share))]
    low, high = min(kept), max(kept)
    return "".join(
        BARS[int((value - low) / ((high - low) or 1.0) * (len(BARS) - 1))] for value in kept
    )
