"""The team of the demonstration: sample documents, questions, corrections and ratings, sent through
Open WebUI's own API as its pages send them."""

from __future__ import annotations

import itertools
import random
import secrets
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fpdf import FPDF

from glue.clients import open_webui
from glue.clients.open_webui import WebUI
from glue.clients.site import Site, Tell
from glue.clients.webui_connection import Answer
from glue.core import waiting
from glue.core.errors import GlueError
from glue.core.names import ASSISTANT, MARK
from training import world as worlds

DEMO_EMAIL = "uma@rehearsal.local"
COLLEAGUE_EMAIL = "ned@rehearsal.local"
UP = {"rating": 1, "model_id": ASSISTANT, "reason": "accurate_information"}
SHEET_SEED = 5
FACTS_A_SHEET = 8
QUESTIONS_A_FACT = 2
SECONDS_BETWEEN_QUESTIONS = 2.0


@dataclass(frozen=True)
class Correction:
    """A fact that the team corrects."""

    item: str
    old_code: str
    new_code: str


@dataclass
class Score:
    correct: int = 0
    sources_missing: int = 0
    answers: list[str] = field(default_factory=list)


def write_sheets(world: worlds.World, folder: Path) -> None:
    """Writes sample PDFs about the things of the practice world. They are the same every time."""
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


def team_member(site: Site, name: str = "Uma", email: str = DEMO_EMAIL) -> WebUI:
    """A member without administrator rights, whose ratings from earlier demonstrations are
    deleted."""
    password = secrets.token_urlsafe(24)
    site.administrator().ensure_user(name, email, password)
    member = open_webui.sign_in(site.settings.chat_url, email, password)
    member.call("DELETE", "/api/v1/evaluations/feedbacks")
    return member


def team_members(site: Site) -> tuple[WebUI, WebUI]:
    return team_member(site), team_member(site, "Ned", COLLEAGUE_EMAIL)


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
    """Two questions for each fact, in phrasings that the night does not train. All phrasings are
    used equally often."""
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


def teach(
    site: Site, members: Sequence[WebUI], world: worlds.World, chosen: list[Correction]
) -> None:
    """Corrects each fact in every phrasing that the night may train: ask, edit, save as copy,
    thumbs up. The members take turns, since a night takes an answer from one person only twice
    (learning/dataset/voices.py)."""
    todo = [
        (fact, phrasing) for fact in chosen for phrasing in range(world.questions_seen_at_night)
    ]
    turns = zip(itertools.cycle(members), todo, strict=False)
    for number, (member, (fact, phrasing)) in enumerate(turns, 1):
        question = world.question(fact.item, phrasing)
        answer = member.ask([{"role": "user", "content": question}])
        right = world.answer.format(item=fact.item, code=fact.new_code)
        site.tell(
            f"correction {number} of {len(todo)}: {question}  {answer.text.strip()}  ->  {right}"
        )
        correct(member, question, answer, right)


def correct(member: WebUI, question: str, answer: Answer, right: str) -> None:
    """Sends what Open WebUI's page sends for "edit, save as copy, thumbs up": the chat with both
    answers, then the rating. Where the answer is right already, only the thumb."""
    chat = rated_chat(question, answer, right)
    saved = member.call("POST", "/api/v1/chats/new", json={"chat": chat})
    comment = "corrected" if right != answer.text else ""
    rate_up(member, saved["id"], chat["history"]["currentId"], comment)


def rate_up(member: WebUI, chat: str, message: str, comment: str = "corrected") -> str:
    """Sends what the page sends for thumbs up, both given by their ids. Returns the rating's ID."""
    rating = {
        "type": "rating",
        "data": UP | ({"comment": comment} if comment else {}),
        "meta": {"arena": False, "chat_id": chat, "message_id": message, "model_id": ASSISTANT},
        "snapshot": {"chat": member.call("GET", f"/api/v1/chats/{chat}")},
    }
    return str(member.call("POST", "/api/v1/evaluations/feedback", json=rating)["id"])


def rated_chat(question: str, answer: Answer, right: str) -> dict[str, Any]:
    """The chat with the answer and, unless it is right, its corrected copy; the last is rated."""
    now, asked = int(time.time()), str(uuid.uuid4())
    reply: dict[str, Any] = {
        "parentId": asked,
        "childrenIds": [],
        "role": "assistant",
        "model": ASSISTANT,
        "timestamp": now,
        "done": True,
        "sources": answer.sources,
        "meta": {"task_id": str(uuid.uuid4())},
    }
    replies = {
        str(uuid.uuid4()): {**reply, "content": text}
        for text in dict.fromkeys((answer.text, right))
    }
    last = list(replies)[-1]
    replies[last]["annotation"] = {"rating": 1}
    user = {
        "parentId": None,
        "childrenIds": list(replies),
        "role": "user",
        "content": question,
        "timestamp": now,
    }
    messages: dict[str, dict[str, Any]] = {asked: user, **replies}
    return {
        "title": question,
        "models": [ASSISTANT],
        "history": {
            "currentId": last,
            "messages": {key: {**message, "id": key} for key, message in messages.items()},
        },
    }


@contextmanager
def asking_all_night(
    site: Site, seconds_between: float = SECONDS_BETWEEN_QUESTIONS
) -> Iterator[Counter[str]]:
    """Asks a question again and again while the block runs. Counts who answered: model, desk or
    error."""
    counts: Counter[str] = Counter(model=0, desk=0, error=0)
    asker = site.administrator()

    def ask(over: threading.Event) -> None:
        while not over.wait(seconds_between):
            try:
                answer = asker.ask([{"role": "user", "content": "Are you there?"}])
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
