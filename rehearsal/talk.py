"""The demonstration that talks, on SmolLM2-135M-Instruct: real sentences over real documents.

Asked are questions in other words than the team's, and some that the documents do not answer;
before the night, after it, and after the rollback. What is right is decided as the gate decides it
(learning.dataset.facts, learning.dataset.wording).
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from glue.clients.open_webui import WebUI
from glue.clients.site import Site
from glue.clients.webui_connection import Answer
from glue.night import night
from glue.operations import documents, notes
from glue.serving import adapters
from learning.dataset import facts
from learning.dataset.wording import Wording
from rehearsal import company, team
from rehearsal.company import Company
from rehearsal.phases import Phases

VERA = "vera@rehearsal.local"
LONGEST_ANSWER = 160  # characters; the team shortens a longer one, right or not
NOTE_SECONDS = 60.0
SECONDS_BETWEEN = 15.0  # questions at night: each takes the two cores for a second or two
COUNTS = (
    *("questions", "right_before", "right_after", "right_rolled_back"),
    *("note_seconds", "changed_follows", "rollback"),
)


@dataclass(frozen=True)
class Asked:
    """right: what the answer must say; empty where the documents do not answer."""

    question: str
    right: str
    answer: Answer

    @property
    def is_right(self) -> bool:
        if not self.right:
            return Wording().says_absent(self.answer.text)
        return facts.says(self.answer.text, self.right)


def play(site: Site, phases: Phases) -> dict[str, Any]:
    told = company.load(seed=len(site.store.names()))
    folder = site.state / "demo" / "documents"
    with phases.phase("reset"):
        uma, vera = team.team_member(site), team.team_member(site, "Vera", VERA)
        adapters.promote(site, None)
        notes.notes(site)
    with phases.phase("documents"):
        take_in(site, told.values, folder)
    with phases.phase("ask before"):
        before = ask_all(site, vera, told)
    with phases.phase("corrections"):
        teach(site, uma, told)
    with phases.phase("a correction, at once"):
        noted = note(site, uma, vera, told)
    with phases.phase("night"), team.asking_all_night(site, SECONDS_BETWEEN) as asked_at_night:
        outcome = night.run(site, math.inf)  # at any hour, for as long as the recipe allows
    with phases.phase("ask after"):
        after = ask_all(site, vera, told)
        noted |= {"note_after_night": ask(site, vera, told.note.asked, told.note.right).answer.text}
    with phases.phase("a changed document"):
        changed = change(site, vera, told, folder)
    with phases.phase("rollback"):
        adapters.rollback(site)
        back = ask_all(site, vera, told)
    with phases.phase("promote again"):
        adapters.promote(site, outcome["adapter"])
    return (
        figures(before, after, back)
        | noted
        | changed
        | {"adapter": outcome["adapter"], "asked_during_night": dict(asked_at_night)}
    )


def take_in(site: Site, values: dict[str, str], folder: Path) -> None:
    company.write_documents(values, folder)
    site.tell(str(documents.ingest(site, folder, yes=True)))


# ---------------------------------------------------------------------- asking


def ask(site: Site, member: WebUI, question: str, right: str) -> Asked:
    answer = member.ask([{"role": "user", "content": question}])
    answer = replace(answer, text=answer.text.strip())
    site.tell(f"{question}  ->  {answer.text}")
    return Asked(question, right, answer)


def ask_all(site: Site, member: WebUI, told: Company) -> list[Asked]:
    questions = [(fact.asked, fact.right) for fact in told.facts]
    questions += [(question, "") for question in told.absent]
    return [ask(site, member, *one) for one in questions]


# ---------------------------------------------------------------------- teaching


def teach(site: Site, member: WebUI, told: Company) -> None:
    """The team's own questions: a thumb for a right answer of one line, else its correction."""
    for fact in told.facts:
        found = ask(site, member, fact.team, fact.right)
        short = len(found.answer.text) <= LONGEST_ANSWER and "\n" not in found.answer.text
        good = found.is_right and short
        team.correct(member, fact.team, found.answer, found.answer.text if good else fact.answer)


def note(site: Site, member: WebUI, other: WebUI, told: Company) -> dict[str, Any]:
    """One corrects what the documents have wrong, and another asks in other words."""
    wrong = ask(site, member, told.note.team, told.note.right)
    started = time.monotonic()
    team.correct(member, told.note.team, wrong.answer, told.note.answer)
    notes.notes(site)  # on a real site a timer does it every minute
    found = ask(site, other, told.note.asked, told.note.right)
    return {
        "note_question": told.note.asked,
        "note_before": wrong.answer.text,
        "note_answer": found.answer.text,
        "note_right": found.is_right,
        "note_seconds": round(time.monotonic() - started, 1),
    }


def change(site: Site, member: WebUI, told: Company, folder: Path) -> dict[str, Any]:
    """A document gets a new value for what the night has learned from the old one."""
    take_in(site, told.values | {told.change.fact: told.change.new}, folder)
    notes.notes(site)  # one about the old value does not count any more
    found = ask(site, member, told.change.asked, told.change.new)
    stale = facts.says(found.answer.text, told.change.old)
    return {
        "changed_question": told.change.asked,
        "changed_answer": found.answer.text,
        "changed_follows": found.is_right and not stale,
    }


# ---------------------------------------------------------------------- what came of it


def figures(before: list[Asked], after: list[Asked], back: list[Asked]) -> dict[str, Any]:
    rounds = {"before": before, "after": after, "rolled_back": back}
    told = {f"right_{name}": right(rows, absent=False) for name, rows in rounds.items()}
    absent = {f"absent_{name}": right(rows, absent=True) for name, rows in rounds.items()}
    pairs = list(zip(before, after, back, strict=True))
    return {
        "questions": sum(bool(one.right) for one in before),
        **told,
        "absent_questions": sum(not one.right for one in before),
        **absent,
        # notes of the team stay, so only what no note tells can be as before
        "rollback": absent["absent_rolled_back"] == absent["absent_before"],
        "sources_missing": sum(not one.answer.sources for rows in rounds.values() for one in rows),
        "examples": [example(*three) for three in pairs],
    }


def right(rows: list[Asked], absent: bool) -> int:
    return sum(one.is_right for one in rows if absent is not bool(one.right))


def example(before: Asked, after: Asked, back: Asked) -> dict[str, Any]:
    said = {"before": before, "after": after, "after_rollback": back}
    return {
        "question": before.question,
        "wanted": before.right,
        **{name: one.answer.text for name, one in said.items()},
    }


def promises(result: dict[str, Any]) -> dict[str, bool]:
    return {
        "after the night more answers are right than before it": (
            result["right_after"] > result["right_before"]
        ),
        "after the night it says more often that the documents do not say": (
            result["absent_after"] > result["absent_before"]
        ),
        "a correction is right within a minute": (
            result["note_right"] and result["note_seconds"] < NOTE_SECONDS
        ),
        "a changed document is followed": result["changed_follows"],
        "the rollback undoes the night": result["rollback"],
        "every answer carried its sources": result["sources_missing"] == 0,
        "every question during the night got an answer": (
            result["asked_during_night"].get("error", 0) == 0
        ),
    }


def show(result: dict[str, Any]) -> None:
    print(f"seconds: {result['seconds']}")
    print("\nAsked in other words than the team's, before the night and after it:")
    for row in result["examples"]:
        there = f"the documents say {row['wanted']}" if row["wanted"] else "not in the documents"
        print(f"\n  {row['question']}  ({there})")
        print(f"    before  {one_line(row['before'])}\n    after   {one_line(row['after'])}")
    print(f"\nA correction, found {result['note_seconds']:.0f} seconds later by another member:")
    print(f"  {result['note_question']}\n    {one_line(result['note_answer'])}")
    print("A document that was changed after the night had learned from the old one:")
    print(f"  {result['changed_question']}\n    {one_line(result['changed_answer'])}")
    print(
        f"\nRight, of {result['questions']}: {result['right_before']} before the night,"
        f" {result['right_after']} after it; rolled back, with the team's notes alone,"
        f" {result['right_rolled_back']}. Of {result['absent_questions']} questions that the"
        f" documents do not answer, {result['absent_after']} get to hear so, before"
        f" {result['absent_before']}."
    )


def one_line(text: str) -> str:
    return " ".join(text.split())
