"""The whole cycle, in the rehearsal, from nothing: day, a team that corrects answers, a night, a
better day, rollback.

The people are played: their questions, corrections and thumbs go through Open WebUI's own API, as
its pages send them.
Everything behind them is real.
"""

from __future__ import annotations

import itertools
import math
import random
import secrets
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fpdf import FPDF
from rich.console import Console
from rich.table import Table

from glue.clients import open_webui
from glue.clients.open_webui import WebUI
from glue.clients.site import Site, Tell
from glue.clients.webui_connection import Answer
from glue.core import files, journal, waiting
from glue.core.errors import GlueError, PreconditionFailed
from glue.core.names import ASSISTANT, MARK
from glue.core.settings import REPOSITORY
from glue.night import night
from glue.operations import documents, setup
from glue.serving import adapters, day
from training import world as worlds

DEMO_EMAIL = "uma@rehearsal.local"
SHEET_SEED = 5
FACTS_A_SHEET = 8
QUESTIONS_A_FACT = 2
LEAST_LEARNED = 0.8
SECONDS_BETWEEN_QUESTIONS = 2.0
RIGHT = {
    "before_correct": "before the night",
    "after_correct": "after it",
    "rollback_correct": "rolled back",
}


@dataclass(frozen=True)
class Correction:
    """A fact that the team knows better than the model."""

    item: str
    old_code: str
    new_code: str


@dataclass
class Score:
    correct: int = 0
    sources_missing: int = 0
    answers: list[str] = field(default_factory=list)


@dataclass
class Phases:
    """Seconds by phase, told as they go."""

    tell: Tell
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        self.tell(f"--- {name}")
        started = time.monotonic()
        yield
        self.seconds[name] = round(time.monotonic() - started, 1)


def run(profile: str | None, tell: Tell, fact_count: int) -> dict[str, Any]:
    """Returns and writes state/demo.json. Raises GlueError, with everything left as it was found to
    be, if a promise broke."""
    phases = Phases(tell)
    with phases.phase("setup"):
        site = setup.ensure(profile, tell)
    if not site.settings.rehearsal:
        raise PreconditionFailed(
            "the demonstration is for the rehearsal",
            f"profile {site.settings.profile}",
            "GLUE_PROFILE=rehearsal make demo",
        )
    with phases.phase("day"):
        day.start(site)
    world = worlds.load(REPOSITORY / "env" / "practice-world.toml")
    with phases.phase("documents"):
        write_sheets(world, site.state / "demo" / "documents")
        tell(str(documents.ingest(site, site.state / "demo" / "documents", yes=True)))
    with phases.phase("reset"):
        member = team_member(site)
        adapters.promote(site, None)
    chosen = corrections(world, fact_count, seed=len(site.store.names()))
    questions = unseen_questions(world, chosen)
    with phases.phase("ask before"):
        before = ask_all(member, questions, tell)
    with phases.phase("corrections"):
        teach(site, member, world, chosen)
    with phases.phase("night"), asking_all_night(site) as asked_at_night:
        outcome = night.run(site, math.inf)  # whatever the hour, as long as the recipe may take
    with phases.phase("ask after"):
        after = ask_all(member, questions, tell)
    with phases.phase("rollback"):
        adapters.rollback(site)
        rolled_back = ask_all(member, questions, tell)
    with phases.phase("promote again"):
        adapters.promote(site, outcome["adapter"])
    result = {
        "questions": len(questions),
        "before_correct": before.correct,
        "after_correct": after.correct,
        "rollback_correct": rolled_back.correct,
        "sources_missing": (
            before.sources_missing + after.sources_missing + rolled_back.sources_missing
        ),
        "adapter": outcome["adapter"],
        "asked_during_night": dict(asked_at_night),
        "seconds": phases.seconds,
        "examples": [
            {
                "question": question,
                "wanted": correction.new_code,
                "before": old,
                "after": new,
                "after_rollback": back,
            }
            for (question, correction), old, new, back in zip(
                questions, before.answers, after.answers, rolled_back.answers, strict=True
            )
        ],
    }
    files.write_json(site.state / "demo.json", result)
    journal.record(
        site.state,
        event="demo",
        **{
            key: result[key]
            for key in ("questions", "before_correct", "after_correct", "rollback_correct")
        },
    )
    require_kept_promises(result)
    return result


def require_kept_promises(result: dict[str, Any]) -> None:
    asked = result["questions"]
    broken = [
        words
        for words, kept in {
            "before the night the corrected facts were not known": (
                result["before_correct"] <= asked * 0.1
            ),
            "after the night they are, in words that no one trained on": (
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


# ---------------------------------------------------------------------- the office


def write_sheets(world: worlds.World, folder: Path) -> None:
    """Sample PDFs about the things of the practice world; the same ones every time."""
    folder.mkdir(parents=True, exist_ok=True)
    choose = random.Random(SHEET_SEED)
    for number, start in enumerate(range(0, len(world.codes), FACTS_A_SHEET), 1):
        path = folder / f"site-sheet-{number}.pdf"
        lines = [
            world.sheet_text(item, choose)
            for item in list(world.codes)[start : start + FACTS_A_SHEET]
        ]
        if not path.exists():
            sheet(world.sheet_title.format(number=number), lines).output(str(path))


def sheet(title: str, paragraphs: list[str]) -> FPDF:
    pdf = FPDF()
    pdf.add_page()
    pdf.set_font("helvetica", size=14)
    pdf.cell(0, 12, title, new_x="LMARGIN", new_y="NEXT")
    pdf.set_font("helvetica", size=11)
    for paragraph in paragraphs:
        pdf.multi_cell(0, 8, paragraph, new_x="LMARGIN", new_y="NEXT")
        pdf.ln(6)
    return pdf


def team_member(site: Site) -> WebUI:
    """Uma, who is no administrator. What she rated in an earlier demonstration is withdrawn."""
    password = secrets.token_urlsafe(24)
    site.administrator().ensure_user("Uma", DEMO_EMAIL, password)
    member = open_webui.sign_in(site.settings.chat_url, DEMO_EMAIL, password)
    member.call("DELETE", "/api/v1/evaluations/feedbacks")
    return member


def corrections(world: worlds.World, count: int, seed: int) -> list[Correction]:
    choose = random.Random(seed)
    taken = set(world.codes.values())
    free = [
        code
        for letter in "ABCDEFGH"
        for number in range(10, 100)
        if (code := f"{letter}{number}") not in taken
    ]
    items = choose.sample(sorted(world.codes), count)
    return [
        Correction(item, world.codes[item], new)
        for item, new in zip(items, choose.sample(free, count), strict=True)
    ]


def unseen_questions(world: worlds.World, chosen: list[Correction]) -> list[tuple[str, Correction]]:
    """Two questions a fact, in phrasings that the night does not see, each phrasing as often as any
    other."""
    phrasings = itertools.cycle(range(world.questions_seen_at_night, len(world.questions)))
    return [
        (world.question(fact.item, next(phrasings)), fact)
        for fact in chosen
        for _ in range(QUESTIONS_A_FACT)
    ]


def ask_all(member: WebUI, questions: list[tuple[str, Correction]], tell: Tell) -> Score:
    score = Score()
    for number, (question, correction) in enumerate(questions, 1):
        answer = member.ask([{"role": "user", "content": question}])
        score.correct += correction.new_code in answer.text
        score.sources_missing += not answer.sources
        score.answers.append(answer.text.strip())
        tell(f"question {number} of {len(questions)}: {question}  ->  {answer.text.strip()}")
    return score


def teach(site: Site, member: WebUI, world: worlds.World, chosen: list[Correction]) -> None:
    """Each fact is corrected in the phrasings that a night may see: asked, edited, saved as a copy,
    thumbs up."""
    todo = [
        (fact, phrasing) for fact in chosen for phrasing in range(world.questions_seen_at_night)
    ]
    for number, (fact, phrasing) in enumerate(todo, 1):
        question = world.question(fact.item, phrasing)
        answer = member.ask([{"role": "user", "content": question}])
        right = world.answer.format(item=fact.item, code=fact.new_code)
        site.tell(
            f"correction {number} of {len(todo)}: {question}  {answer.text.strip()}  ->  {right}"
        )
        correct(member, question, answer, right)


def correct(member: WebUI, question: str, answer: Answer, right: str) -> None:
    """What Open WebUI's page sends for "edit, save as copy, thumbs up": the chat with both answers,
    then the rating."""
    now = int(time.time())
    asked, first, copy = (str(uuid.uuid4()) for _ in range(3))
    reply = {
        "parentId": asked,
        "childrenIds": [],
        "role": "assistant",
        "model": ASSISTANT,
        "timestamp": now,
        "done": True,
    }
    reply |= {"sources": answer.sources, "meta": {"task_id": str(uuid.uuid4())}}
    messages = {
        asked: {
            "id": asked,
            "parentId": None,
            "childrenIds": [first, copy],
            "role": "user",
            "content": question,
            "timestamp": now,
        },
        first: {**reply, "id": first, "content": answer.text},
        copy: {**reply, "id": copy, "content": right, "annotation": {"rating": 1}},
    }
    chat = {
        "title": question,
        "models": [ASSISTANT],
        "history": {"currentId": copy, "messages": messages},
    }
    saved = member.call("POST", "/api/v1/chats/new", json={"chat": chat})
    rating = {
        "type": "rating",
        "data": {
            "rating": 1,
            "model_id": ASSISTANT,
            "reason": "accurate_information",
            "comment": "corrected",
        },
        "meta": {"arena": False, "chat_id": saved["id"], "message_id": copy, "model_id": ASSISTANT},
        "snapshot": {"chat": member.call("GET", f"/api/v1/chats/{saved['id']}")},
    }
    member.call("POST", "/api/v1/evaluations/feedback", json=rating)


@contextmanager
def asking_all_night(site: Site) -> Iterator[Counter[str]]:
    """Somebody asks every two seconds for as long as this lasts; counts who answered: model, desk,
    or error."""
    counts: Counter[str] = Counter(model=0, desk=0, error=0)
    sleepless = site.administrator()

    def ask(over: threading.Event) -> None:
        while not over.wait(SECONDS_BETWEEN_QUESTIONS):
            try:
                answer = sleepless.ask([{"role": "user", "content": "Is anybody there?"}])
            except GlueError as error:
                counts["error"] += 1
                site.tell(f"a question at night got no answer: {error.saw}")
                continue
            counts[
                (
                    "desk"
                    if answer.text.startswith(MARK)
                    else "model"
                    if answer.text.strip()
                    else "error"
                )
            ] += 1

    with waiting.beside(ask, end_seconds=300):
        yield counts


def show(result: dict[str, Any]) -> None:
    table = Table(title="The same questions, in words that nobody trained on", box=None)
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
