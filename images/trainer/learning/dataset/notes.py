"""The job that makes notes of what people corrected and of the site's own answers. The day finds
them beside the documents.

Its order: as for a data set (build.py), and decided (note -> DROP or ACCEPT), compared (note ->
what documents said, if these have not changed), review, page (a file in the state folder).
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, select_autoescape

from glue.core import files as core_files
from glue.core.names import ACCEPT, ANSWERS, DROP, SERVED
from learning import job as jobs
from learning.dataset import (
    build,
    card,
    files,
    forget,
    prepare,
    ratings,
    split,
    support,
    taught,
    voices,
)
from learning.dataset import passages as in_prompt
from learning.dataset.prompt import PromptForm
from learning.dataset.wording import Wording
from learning.examples import Example, Message, Origin
from learning.job import Job

WAITS = "waits for an administrator"
DROPPED = "dropped by an administrator"
CONFLICT = "in conflict"
RETIRED = "retired: a document says it now"
OUTDATED = "outdated: a document was changed afterwards"
CORRECTIONS = ("corrected answer", "edited answer")
ID_LETTERS = 10
SETTLED = (SERVED, RETIRED, DROPPED)
WORDS = Wording()


@dataclass(frozen=True)
class Note:
    """id: of the text. state: SERVED, or why it is not served. when: Unix time, 0 if
    unknown. user, chat: IDs, empty for the site's own. documents: as compare has it."""

    id: str
    question: str
    answer: str
    text: str
    who: str = ""
    when: float = 0.0
    user: str = ""
    chat: str = ""
    state: str = SERVED
    documents: dict[str, Any] = field(default_factory=dict)


def notes(job: Job) -> dict[str, Any]:
    """Writes the page. Returns the notes, newest first, and what is wrong with the site's list."""
    own, fault = answers(job.state / ANSWERS)
    noted = {note.id: note for note in gather(job, own)}
    found = sorted(noted.values(), key=lambda one: -one.when)
    chat = job.order["chat"]
    rows = [asdict(note) | {"link": f"{chat}/c/{note.chat}" * bool(note.chat)} for note in found]
    path = job.state / job.order["page"]
    core_files.write(path, page(rows), mode=0o600)
    return {"notes": rows, "fault": fault}


def gather(job: Job, own: Sequence[Example]) -> Iterator[Note]:
    form = PromptForm(job.order["system_prompt"], job.order["rag_template"])
    people = {str(one["id"]): str(one["name"]) for one in job.chat.people()}
    given = job.chat.call("GET", "/api/v1/evaluations/feedbacks/all/ids")
    when = {str(row["id"]): float(row["updated_at"]) for row in given}
    for row, why in corrections(job, form, frozenset(people)):
        note = of(row, people.get(row.origin.user, card.NO_ACCOUNT), when.get(row.origin.rating, 0))
        yield judged(job, note, row, why)
    for row in [*one_each(build.terms(job, form)), *own]:
        note = of(row, row.origin.document, 0.0)
        yield replace(note, state=DROPPED if job.order["decided"].get(note.id) == DROP else SERVED)


def corrections(
    job: Job, form: PromptForm, people: frozenset[str]
) -> Iterator[tuple[Example, str]]:
    """(masked example, why other people's answers stand against it, or empty). A correction is
    right whatever else the model was given, such as a folder's prompt."""
    region = job.order["phone_region"]
    known = ratings.Known(forget.forgotten(job.state), people, None)
    collected = ratings.collect(job.chat.ratings(), form, known)
    rated, _ = prepare.edited(collected.examples, files.earlier_preferences(job.state), region)
    for row, why in zip(rated, voices.heard(rated).reasons, strict=True):
        if why != voices.REPEATED and is_correction(row):
            for clean in prepare.prepare([row], [], lambda _: True, region).examples:
                yield clean, why


def is_correction(row: Example) -> bool:
    """It shows that it was corrected, or its passages do not hold it: an answer that was edited in
    its place looks like any other."""
    return row.origin.kind in CORRECTIONS or taught.fate(row) in taught.LEFT_OUT


def one_each(terms: Sequence[Example]) -> list[Example]:
    """The first question about each term."""
    return list({row.conversation: row for row in reversed(terms)}.values())


def answers(path: Path) -> tuple[list[Example], str]:
    """The site's own list, and what is wrong with it: one bad line costs no other note."""
    if not path.exists():
        return [], ""
    try:
        rows = list(csv.reader(io.StringIO(path.read_text(encoding="utf-8-sig"), newline="")))
    except (UnicodeDecodeError, csv.Error) as error:
        return [], f"{error}. Save it as CSV in UTF-8."
    good = [row for row in rows if len(row) == 2 and all(text.strip() for text in row)]
    bad = [str(number) for number, row in enumerate(rows, 1) if row and row not in good]
    origin = Origin(kind="term", document=ANSWERS)
    found = [
        Example((Message("user", question.strip()),), answer.strip(), ANSWERS, ANSWERS, origin)
        for question, answer in good
        if (question, answer) != ("question", "answer")  # a heading
    ]
    do = "Expected on each line: question,answer; in quotes where they hold a comma."
    return found, f"line {', '.join(bad)}. {do}" if bad else ""


def of(row: Example, who: str, when: float) -> Note:
    text, origin = WORDS.noted(row.asked, row.answer), row.origin
    # not of the last question alone: "And in years?" is asked of many things
    name = hashlib.sha256(split.normal(text).encode()).hexdigest()[:ID_LETTERS]
    return Note(name, row.asked, row.answer, text, who, when, origin.user, origin.chat)


# ---------------------------------------------------------------------- what becomes of it


def judged(job: Job, note: Note, row: Example, why: str) -> Note:
    said = job.order["compared"].get(note.id) or compare(job, note, row)
    decided, review = job.order["decided"].get(note.id, ""), job.order["review"]
    state = state_of(why, decided, agrees=said["agree"], newer=said["newer"], review=review)
    return replace(note, state=state, documents=said)


def compare(job: Job, note: Note, row: Example) -> dict[str, Any]:
    """What the day finds in documents. agree: they say it, and did not when it was given.
    otherwise: names of those that say otherwise. newer: one of these was added after the note."""
    found = list(passages(job.look_up_documents(row.asked)))
    denied = [one for one in found if says(one[0], row) == support.CONTRADICTED]
    new = [about for text, about in denied if not was_shown(text, row)]
    holds = support.by_texts(row.question, row.answer, [text for text, _ in found])
    return {
        "agree": holds == support.SUPPORTED and support.of(row) != support.SUPPORTED,
        "otherwise": list(dict.fromkeys(str(about.get("name")) for _, about in denied)),
        "newer": any(changed_at(job, about) > note.when for about in new),
    }


def says(text: str, row: Example) -> str:
    return support.by_texts(row.question, row.answer, [text])


def was_shown(text: str, row: Example) -> bool:
    """What it says about the answer stood in the prompt already, when the note was given."""
    said = support.evidence(row.question, row.answer, [text])
    return any(said in passage.text for passage in in_prompt.of(row))


def state_of(why: str, decided: str, *, agrees: bool, newer: bool, review: bool) -> str:
    """why: other people's answers stand against it. agrees: documents say now what they did not
    say when it was given. newer: one that says otherwise came after it."""
    if decided == DROP:
        return DROPPED
    if agrees:
        return RETIRED
    if decided == ACCEPT:
        return SERVED
    if why:
        return f"{CONFLICT}: {why}"
    if newer:
        return OUTDATED
    return WAITS if review else SERVED


def passages(sources: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """(text, metadata) of each passage."""
    for source in sources:
        yield from zip(source["document"], source["metadata"], strict=False)


def changed_at(job: Job, about: Mapping[str, Any]) -> float:
    """When this version of the document was added; 0 if it is not known."""
    file = about.get("file_id")
    return float(job.chat.call("GET", f"/api/v1/files/{file}")["created_at"]) if file else 0.0


def page(rows: Sequence[Mapping[str, Any]]) -> str:
    """One self-contained HTML file, what needs a decision first. All text is escaped."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=select_autoescape(default=True),
        trim_blocks=True,
    )
    environment.filters["day"] = lambda when: f"{datetime.fromtimestamp(when):%Y-%m-%d}"
    first = sorted(rows, key=lambda row: row["state"] in SETTLED)
    return environment.get_template("notes.html.j2").render(rows=first, settled=SETTLED)


if __name__ == "__main__":
    jobs.run(notes)
