"""Builds the report of a night at its end, and stores and shows it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from glue.core import files, journal
from glue.night.tonight import Night
from glue.serving import last_night, pages
from glue.serving.last_night import Report

PARTS = ("train", "held_out", "general")
LIMITS = ("least_gain", "most_forgetting")


def build(night: Night, outcome: str, reason: str, seconds: float) -> Report:
    parts = night.dataset.get("card", {}).get("parts", {})
    rows = files.read_lines(night.folder / "progress.jsonl")
    trained = (row for row in rows if row.get("phase") == "train" and "loss" in row)
    return Report(
        night=night.name,
        outcome=outcome,
        reason=reason,
        adapter=night.release or None,
        seconds=round(seconds),
        verdict=asdict(night.verdict) if night.verdict else {},
        counts={part: parts[part] for part in PARTS if parts.get(part)},
        rejected=night.card.get("rejected", {}),
        steps=night.steps,
        losses=[(row["step"], row["loss"]) for row in trained],
        energy=night.energy,
        limits={name: getattr(night.recipe, name) for name in LIMITS},
        searched=searched(night.result.get("search")),
    )


def searched(found: dict[str, Any] | None) -> str:
    """What the trainer tried, in a line; empty for a recipe without a search."""
    if not found:
        return ""
    setting = found["setting"]
    return (
        f"{found['settings']} settings to try; trained with learning rate"
        f" {setting['learning_rate']:g}, {setting['most_passes']} passes, rank {setting['rank']}:"
        f" {found['note']}"
    )


def close(night: Night, report: Report) -> None:
    """Records the end in the journal. A failure to write files or the banner is only printed."""
    site = night.site
    journal.note(site.state, night=night.name, **report.end)
    try:
        last_night.write(night.folder, report, pages.links(site))
        last_night.keep_banner(site.state, report)
        if report.outcome == "promoted":
            banner = last_night.kept_banner(site.state, site.store.current())
            site.administrator().ensure_banner(**banner)
        site.tell(report.headline)
        site.tell(f"The page: {last_night.draw(site, night.folder, report)}")
        site.tell(f"For administrators, in the chat: {pages.ensure(site)}")
    except Exception as error:
        site.tell(f"the night's report could not be written: {error}")
