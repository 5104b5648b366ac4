"""The report of a night, built once at its end, and everything that shows it.

state/nights/<night>/report.json   the report, for make status and other programs
state/nights/<night>/report.html   one self-contained page, for a browser
state/nights/<night>/summary.txt   a few lines, for a message or a terminal
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from glue.clients import jobs
from glue.clients.site import Site
from glue.core import files
from glue.core.errors import GateRefused

BANNER = "glue-night"
UNDO = "make rollback"
LEARNED = (
    "Last night the assistant learned from the team's ratings and corrections. If its answers are"
    " worse than before, rate them down and tell your administrator, who can undo the night at"
    " once."
)
OUTCOMES = {
    "promoted": "The assistant learned last night.",
    "refused": "Last night's adapter was refused. The assistant answers as before.",
    "nothing new": "There was nothing new to learn. The assistant answers as before.",
}


@dataclass(frozen=True)
class Report:
    """outcome: promoted, refused, nothing new, preempted, failed or died. seconds: of the night.

    verdict: promote, reasons and figures. counts: examples by part of the data set. rejected:
    left-out examples by reason. steps: seconds by step. losses: (step, loss). energy: watt_hours
    and seconds. limits: the recipe's least_gain and most_forgetting, in nats a token. searched:
    what settings were tried, and which one trained. It contains no text that people wrote.
    """

    night: str
    outcome: str
    reason: str = ""
    adapter: str | None = None
    seconds: float = 0.0
    verdict: dict[str, Any] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    rejected: dict[str, int] = field(default_factory=dict)
    steps: dict[str, float] = field(default_factory=dict)
    losses: list[tuple[int, float]] = field(default_factory=list)
    energy: dict[str, float] = field(default_factory=dict)
    limits: dict[str, float] = field(default_factory=dict)
    searched: str = ""

    @property
    def end(self) -> dict[str, Any]:
        """For the journal and the command line."""
        return {key: getattr(self, key) for key in ("outcome", "reason", "seconds", "adapter")}

    @property
    def headline(self) -> str:
        return OUTCOMES.get(self.outcome, "Last night failed. The assistant answers as before.")

    @property
    def reasons(self) -> list[str]:
        """The gate's, if it decided the outcome."""
        judged = self.outcome in ("promoted", "refused")
        return (judged and self.verdict.get("reasons")) or [self.reason or "no reason was recorded"]

    @property
    def figures(self) -> dict[str, float]:
        found: dict[str, float] = self.verdict.get("figures", {})
        return found


class NightRefused(GateRefused):
    def __init__(self, report: Report, folder: Path) -> None:
        self.report = report
        what = "the night's adapter was refused; the day serves as before"
        super().__init__(what, report.reason, f"see {folder}/verdict.json")


def write(folder: Path, report: Report, links: Sequence[str]) -> None:
    files.make_folder(folder)
    files.write_json(folder / "report.json", asdict(report), mode=0o600)
    files.write(folder / "summary.txt", summary(report, links), mode=0o600)


def draw(site: Site, folder: Path, report: Report) -> Path:
    """report.html, by a job, since pictures need the trainer image."""
    order = {"night": str(folder.relative_to(site.state)), "facts": facts(report)}
    jobs.run(site, jobs.Job("learning.report_page", order, writes=(folder,)))
    return folder / "report.html"


def facts(report: Report) -> dict[str, Any]:
    """What the page shows, without the answers."""
    return asdict(report) | {
        "headline": report.headline,
        "reasons": report.reasons,
        "duration": duration(report.seconds),
        "steps": {name: duration(took) for name, took in report.steps.items() if took >= 1},
        "energy": energy_words(report.energy),
        "undo": UNDO,
        "score": right_answers(report),
    }


def read(state: Path, end: dict[str, Any]) -> Report:
    """The report of a night. end: its row in the journal, which is used if there is no report."""
    known = {one.name for one in fields(Report)}
    found = files.read_json_if_whole(state / "nights" / str(end["night"]) / "report.json", {})
    row = found if found.get("outcome") == end["outcome"] else end
    return Report(**{key: value for key, value in row.items() if key in known and value})


# ---------------------------------------------------------------------- words


def summary(report: Report, links: Sequence[str] = ()) -> str:
    """A few lines of plain text. The first can be a subject."""
    lines = [f"{report.headline} (night {report.night})", ""]
    unjudged = report.verdict.get("notes", [])
    lines += [f"- {line}" for line in (*report.reasons, *unjudged, *figure_lines(report))]
    if report.outcome == "promoted":
        lines += ["", f"To undo it: {UNDO}. Nothing restarts."]
    return "\n".join([*lines, *links]) + "\n"


def right_answers(report: Report) -> str:
    """Empty if no answer was checked."""
    if "asked" not in report.figures:
        return ""
    counts = (report.figures[key] for key in ("right", "asked", "right_before"))
    return "{:.0f} of {:.0f} questions answered right ({:.0f} before)".format(*counts)


def figure_lines(report: Report) -> list[str]:
    lines = []
    if right := right_answers(report):
        lines.append(right)
    if "likelihood_ratio" in report.figures and report.figures.get("held_out_units"):
        more = (report.figures["likelihood_ratio"] - 1) * 100
        lines.append(f"likelihood of correct answers it has not seen: {more:+.0f} % a token")
    if report.counts:
        named = (f"{count} {name.replace('_', ' ')}" for name, count in report.counts.items())
        lines.append(f"examples: {', '.join(named)}")
    if report.losses:
        (_, first), (_, last) = report.losses[0], report.losses[-1]
        lines.append(f"loss {first:.2f} to {last:.2f}")
    if report.searched:
        lines.append(report.searched)
    return [*lines, f"{duration(report.seconds)}, {energy_words(report.energy)}"]


def keep_banner(state: Path, report: Report) -> None:
    """For as long as the adapter of a night serves."""
    if report.outcome == "promoted":
        files.write_json(state / "banner.json", {"adapter": report.adapter, "text": LEARNED})


def kept_banner(state: Path, serves: str | None) -> dict[str, str]:
    """What WebUI.ensure_banner takes. Open WebUI forgets banners when it restarts."""
    kept = files.read_json_if_whole(state / "banner.json", {})
    text = kept["text"] if kept and kept["adapter"] == serves else ""
    return {"name": BANNER, "kind": "success", "text": text}


def duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min {rest} s"


def energy_words(energy: dict[str, float]) -> str:
    if not energy:
        return "energy cannot be read on this machine"
    watts = energy["watt_hours"] * 3600 / max(energy["seconds"], 1)
    return f"training took {energy['watt_hours']:.0f} Wh on the GPU, {watts:.0f} W on average"
