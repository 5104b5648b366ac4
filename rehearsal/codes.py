"""The demonstration of codes, on the practice model of a million parameters: fast, for tests.

The night teaches ten facts that no document holds, in phrasings that are not trained.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from glue.clients.site import Site
from glue.core.settings import REPOSITORY
from glue.night import night
from glue.operations import documents
from glue.serving import adapters
from rehearsal import team
from rehearsal.phases import Phases
from rehearsal.team import Correction, Score
from training import world as worlds

FACTS = 10
LEAST_LEARNED = 0.8
RIGHT = {
    "before_correct": "before the night",
    "after_correct": "after it",
    "rollback_correct": "rolled back",
}
COUNTS = ("questions", *RIGHT)


def play(site: Site, phases: Phases) -> dict[str, Any]:
    world = worlds.load(REPOSITORY / "env" / "practice-world.toml")
    with phases.phase("documents"):
        folder = site.state / "demo" / "documents"
        team.write_sheets(world, folder)
        site.tell(str(documents.ingest(site, folder, yes=True)))
    return cycle(site, world, phases)


def cycle(site: Site, world: worlds.World, phases: Phases) -> dict[str, Any]:
    """Asks the same questions before the night, after it and after the rollback."""
    tell = phases.tell
    with phases.phase("reset"):
        members = team.team_members(site)
        member = members[0]
        adapters.promote(site, None)
    chosen = team.corrections(world, FACTS, seed=len(site.store.names()))
    questions = team.unseen_questions(world, chosen)
    scores: dict[str, Score] = {}
    with phases.phase("ask before"):
        scores["before"] = team.ask_all(member, questions, tell)
    with phases.phase("corrections"):
        team.teach(site, members, world, chosen)
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


def promises(result: dict[str, Any]) -> dict[str, bool]:
    asked = result["questions"]
    return {
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
    }


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
