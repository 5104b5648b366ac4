"""The demonstration, from nothing: a day, a team that corrects answers, a night, a better day and a
rollback.

The team is simulated: its questions, corrections and ratings go through Open WebUI's own API, as
its pages send them. Everything behind them is real.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.table import Table

from glue.clients.site import Site, Tell
from glue.core import files, journal
from glue.core.errors import GlueError, PreconditionFailed
from glue.core.settings import REPOSITORY
from glue.night import night
from glue.operations import documents, setup
from glue.serving import adapters, day
from rehearsal import team
from rehearsal.team import Correction, Score
from training import world as worlds

LEAST_LEARNED = 0.8
RIGHT = {
    "before_correct": "before the night",
    "after_correct": "after it",
    "rollback_correct": "rolled back",
}


@dataclass
class Phases:
    """Seconds of each phase; each phase's name is printed when it starts."""

    tell: Tell
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        self.tell(f"--- {name}")
        started = time.monotonic()
        yield
        self.seconds[name] = round(time.monotonic() - started, 1)


def run(profile: str | None, tell: Tell, fact_count: int) -> dict[str, Any]:
    """Returns the result and writes it to state/demo.json. Raises GlueError if a promise is broken;
    the machine then stays as it is, for a look."""
    phases = Phases(tell)
    with phases.phase("setup"):
        site = setup.ensure(profile, tell)
    require_rehearsal(site)
    with phases.phase("day"):
        day.start(site)
    world = worlds.load(REPOSITORY / "env" / "practice-world.toml")
    with phases.phase("documents"):
        team.write_sheets(world, site.state / "demo" / "documents")
        tell(str(documents.ingest(site, site.state / "demo" / "documents", yes=True)))
    result = cycle(site, world, fact_count, phases) | {"seconds": phases.seconds}
    keep(site, result)
    require_kept_promises(result)
    return result


def require_rehearsal(site: Site) -> None:
    if not site.settings.rehearsal:
        raise PreconditionFailed(
            "the demonstration is for the rehearsal",
            f"profile {site.settings.profile}",
            "GLUE_PROFILE=rehearsal make demo",
        )


def cycle(site: Site, world: worlds.World, fact_count: int, phases: Phases) -> dict[str, Any]:
    """Asks the same questions before the night, after it and after the rollback."""
    tell = phases.tell
    with phases.phase("reset"):
        member = team.team_member(site)
        adapters.promote(site, None)
    chosen = team.corrections(world, fact_count, seed=len(site.store.names()))
    questions = team.unseen_questions(world, chosen)
    scores: dict[str, Score] = {}
    with phases.phase("ask before"):
        scores["before"] = team.ask_all(member, questions, tell)
    with phases.phase("corrections"):
        team.teach(site, member, world, chosen)
    with phases.phase("night"), team.asking_all_night(site) as asked_at_night:
        outcome = night.run(site, math.inf)  # at any hour, for as long as the recipe allows
    with phases.phase("ask after"):
        scores["after"] = team.ask_all(member, questions, tell)
    with phases.phase("rollback"):
        adapters.rollback(site)
        scores["rollback"] = team.ask_all(member, questions, tell)
    with phases.phase("promote again"):
        adapters.promote(site, outcome["adapter"])
    return figures(questions, scores) | {
        "adapter": outcome["adapter"],
        "asked_during_night": dict(asked_at_night),
    }


def figures(questions: list[tuple[str, Correction]], scores: Mapping[str, Score]) -> dict[str, Any]:
    before, after, rolled_back = scores["before"], scores["after"], scores["rollback"]
    answers = zip(before.answers, after.answers, rolled_back.answers, strict=True)
    return {
        "questions": len(questions),
        "before_correct": before.correct,
        "after_correct": after.correct,
        "rollback_correct": rolled_back.correct,
        "sources_missing": sum(score.sources_missing for score in scores.values()),
        "examples": [
            {
                "question": question,
                "wanted": correction.new_code,
                "before": old,
                "after": new,
                "after_rollback": back,
            }
            for (question, correction), (old, new, back) in zip(questions, answers, strict=True)
        ],
    }


def keep(site: Site, result: Mapping[str, Any]) -> None:
    files.write_json(site.state / "demo.json", dict(result))
    counts = {key: result[key] for key in ("questions", *RIGHT)}
    journal.record(site.state, event="demo", **counts)


def require_kept_promises(result: dict[str, Any]) -> None:
    asked = result["questions"]
    broken = [
        words
        for words, kept in {
            "before the night the corrected facts were not known": (
                result["before_correct"] <= asked * 0.1
            ),
            "after the night they are known, in phrasings that were not trained": (
                result["after_correct"] >= asked * LEAST_LEARNED
            ),
            "after the rollback they are not": result["rollback_correct"] <= asked * 0.1,
            "every answer carried its sources": result["sources_missing"] == 0,
            "every question during the night got an answer": (
                result["asked_during_night"].get("error", 0) == 0
            ),
        }.items()
        if not kept
    ]
    if broken:
        figures = {
            key: value for key, value in result.items() if key not in ("examples", "seconds")
        }
        raise GlueError(
            "the demonstration broke a promise",
            f"not true: {'; '.join(broken)}; {figures}",
            "see state/demo.json",
        )


def show(result: dict[str, Any]) -> None:
    table = Table(title="The same questions, in phrasings that were not trained", box=None)
    for heading in ("question", "right since today", "before the night", "after it", "rolled back"):
        table.add_column(heading)
    for row in result["examples"]:
        table.add_row(
            row["question"], row["wanted"], row["before"], row["after"], row["after_rollback"]
        )
    console = Console()
    console.print(table)
    asked = result["questions"]
    right = [f"{result[key]} {words}" for key, words in RIGHT.items()]
    console.print(f"right, of {asked}: {', '.join(right)}")
    console.print(
        f"asked during the night: {result['asked_during_night']}; seconds: {result['seconds']}"
    )
