"""Takes the files of an ingest into the collection, each by itself: one that is refused, that takes
too long, or that stops Open WebUI does not keep out the others."""

from __future__ import annotations

import hashlib
import shlex
import time
from dataclasses import dataclass, field

from glue.clients import knowledge
from glue.clients.knowledge import Held
from glue.clients.open_webui import WebUI
from glue.clients.site import Site
from glue.clients.webui_connection import LOGS, Refused, TooSlow
from glue.core import control_words, files, waiting
from glue.core.errors import GlueError
from glue.core.waiting import Seen
from glue.operations import documents_plan as planning
from glue.operations.documents_plan import Document, Plan
from glue.operations.documents_refused import LOOK, by_open_webui, cannot_open, refusal
from glue.operations.documents_text import Unreadable, text_of

STARTS_SECONDS = 300  # Docker starts Open WebUI again when it died; the image's start_period
MOST_DEATHS = 3  # in one ingest: then it is not one file's fault
MOST_SERVER_ERRORS = 2  # in one ingest: then it is not the files' fault
SERVER_ERROR, NO_ACCESS = 500, (401, 403)  # HTTP statuses
MOST_TRIES = 2  # of a file that takes too long or stops Open WebUI, which disturbs people's chats
# {"texts": checksum of a file -> checksum of its text, "clean": checksums of texts without control
# words, "tries": as in Run, "embedding": the model that the index was made with}; without it, an
# ingest asks Open WebUI again
NOTES = "ingest.json"
AGAIN = "the next ingest tries it again"
SMALLER = f"{AGAIN}; if that fails too, split it into smaller files"
FULL = ("No space left on device", "disk is full")


@dataclass
class Run:
    """One ingest. held: what the collection holds now, by id. stays: ids of what is up to date.
    known: keys of what it held before. refused: name -> reason. tries: checksum -> how often Open
    WebUI did not survive such a file, or did not finish it. server_errors: names of
    files at which it answered 500 or more."""

    site: Site
    person: WebUI
    collection: str
    held: dict[str, Held]
    known: frozenset[str | None]
    texts: dict[str, str]
    clean: set[str]
    refused: dict[str, str] = field(default_factory=dict)
    tries: dict[str, int] = field(default_factory=dict)
    deaths: int = 0
    server_errors: list[str] = field(default_factory=list)
    stays: set[str] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)


def take_in_all(run: Run, plan: Plan) -> list[Document]:
    """The added files. Raises GlueError if no further file can be added."""
    took: list[Document] = []
    todo, begun = list(plan.todo), time.monotonic()
    for number, document in enumerate(todo, 1):
        run.site.tell(planning.progress(number, todo, time.monotonic() - begun))
        try:
            if take_in(run, document):
                took.append(document)
        except (GlueError, OSError, Unreadable) as error:
            reason = why_refused(run, document, error)
            if not reason:
                remember(run)
                raise interrupted(len(took), len(todo), error) from error
            refuse(run, document.name, reason)
    for one, other in plan.twins.items():
        if other in run.refused:
            refuse(run, one, run.refused[other])
    return took


def refuse(run: Run, name: str, reason: str) -> None:
    run.refused[name] = reason
    run.site.tell(f"not in: {name}: {reason}")


def take_in(run: Run, document: Document) -> bool:
    """Adds the new version and then removes the old one. False if its text was in already."""
    if run.tries.get(document.checksum, 0) >= MOST_TRIES:
        notes = shlex.quote(str(run.site.state / NOTES))
        do = f"it is tried again when it has changed, or after: rm {notes}"
        raise Unreadable(f"Open WebUI failed at it {MOST_TRIES} times", do)
    own = text_of(document.path)
    args = (document.path, document.name, document.key, document.checksum)
    file_id = knowledge.upload(run.person, *args)
    try:
        text = read(run, document, file_id, own)
        new = settle(run, document, file_id, text)
    except Refused:  # else Open WebUI may still be at work on it; the next ingest looks
        knowledge.discard(run.person, file_id)
        raise
    run.tries.pop(document.checksum, None)
    old = [one for one in run.held.values() if one.key == document.key]
    drop(run, [one for one in old if one.id not in run.stays])
    return new


# ---------------------------------------------------------------------- what can go wrong


def why_refused(run: Run, document: Document, error: Exception) -> str:
    """Why this file is not added; empty if none can be."""
    if isinstance(error, Refused):
        return why_answered(run, document, error)
    if not isinstance(error, GlueError):
        return cannot_open(error) if isinstance(error, OSError) else str(error)
    run.tries[document.checksum] = run.tries.get(document.checksum, 0) + 1
    if isinstance(error, TooSlow):
        seconds = knowledge.deadline_seconds(document.size)
        return refusal(f"Open WebUI did not finish it within {seconds:.0f} s", SMALLER)
    run.deaths += 1
    alive = run.deaths < MOST_DEATHS and answers_again(run)
    return refusal("Open WebUI stopped while it read it", SMALLER) if alive else ""


def why_answered(run: Run, document: Document, error: Refused) -> str:
    """The same for an error that Open WebUI answered: 400 for a file that it cannot read. A server
    error at a second file ends the ingest."""
    if is_full(error) or error.status in NO_ACCESS:
        return ""
    if error.status < SERVER_ERROR:
        return by_open_webui(error.reason, document.path)
    run.server_errors.append(document.name)
    failed = refusal("Open WebUI failed at it", f"{AGAIN}; {LOOK}", error.saw)
    return failed if len(run.server_errors) < MOST_SERVER_ERRORS else ""


def is_full(error: Exception) -> bool:
    return any(words in getattr(error, "reason", "") for words in FULL)


def answers_again(run: Run) -> bool:
    """Whether Open WebUI, which stopped, is there again within STARTS_SECONDS."""
    run.site.tell("Open WebUI stopped; waiting for it")

    def look() -> Seen[None]:
        try:
            run.person.call("GET", "/ready", 10)
        except GlueError as error:
            return Seen(False, error.saw)
        return Seen(True, "it answers")

    try:
        waiting.until("Open WebUI", look, STARTS_SECONDS, 2)
    except GlueError:
        return False
    return True


def interrupted(took: int, todo: int, error: Exception) -> GlueError:
    saw = getattr(error, "saw", str(error))
    cause, do = cause_of(error)
    what = f"{cause}; {took} of {todo} new documents are in"
    return GlueError(what, saw, f"{do}, then the same make ingest again")


def cause_of(error: Exception) -> tuple[str, str]:
    """(why no further file can be added, what to do)"""
    if is_full(error):
        return "Open WebUI's disk is full", "make doctor"
    if not isinstance(error, Refused):
        return "Open WebUI stopped answering", "make status"
    if error.status in NO_ACCESS:
        return "Open WebUI denies glue's account access", "make doctor"
    return "Open WebUI answers with server errors", LOGS


# ---------------------------------------------------------------------- one file


def read(run: Run, document: Document, file_id: str, own: tuple[str, str] | None) -> str:
    """SHA-256 of its text, as Open WebUI has it. own: its text, and a note, where glue read it."""
    seconds = knowledge.deadline_seconds(document.size)
    given, note = own or ("", "")
    text, words = control_words.broken(given or knowledge.read(run.person, file_id, seconds))
    if given:
        knowledge.read(run.person, file_id, seconds, text)
    if document.path.suffix.lower() == ".pdf":
        note_blank_pages(run, document, file_id)
    if words and not given:
        knowledge.rewrite(run.person, file_id, text)
    run.notes += [f"{document.name}: {note}"] if note else []
    run.notes += [f"{document.name}: {broken_words(words)}"] if words else []
    run.texts[document.checksum] = sha256(text)
    return run.texts[document.checksum]


def note_blank_pages(run: Run, document: Document, file_id: str) -> None:
    pages, blank = knowledge.pages(run.person, file_id)
    if blank:
        run.notes.append(f"{document.name}: {blank} of {pages} pages hold no text")


def broken_words(words: tuple[str, ...]) -> str:
    return (
        f"control words of a model in it were broken up, so that they command nothing: {words[0]}"
    )


def settle(run: Run, document: Document, file_id: str, text: str) -> bool:
    """Links it. Returns False, and leaves it out, if its text is in already: Open WebUI stores a
    text only once, so the same text under a removed name goes first."""
    twin = next((one for one in run.held.values() if one.text == text), None)
    if twin and (twin.id in run.stays or twin.key == document.key):
        run.stays.add(twin.id)
        knowledge.discard(run.person, file_id)
        if twin.key != document.key:
            run.notes.append(same_as(document.name, twin.name))
        return False
    if twin:
        drop(run, [twin])
    seconds = knowledge.deadline_seconds(document.size)
    knowledge.link(run.person, run.collection, file_id, seconds)
    new = Held(file_id, document.name, document.key, document.checksum, text, clean=True)
    run.held[file_id] = new
    run.stays.add(file_id)
    return True


def same_as(one: str, other: str) -> str:
    return f"{one}: the same text as {other}, which is in once"


def drop(run: Run, gone: list[Held]) -> None:
    knowledge.remove(run.person, run.collection, gone)
    for one in gone:
        run.held.pop(one.id)


def sha256(text: str) -> str:
    """As Open WebUI has it of a text, to recognise the same text."""
    return hashlib.sha256(text.encode()).hexdigest()


def remember(run: Run) -> None:
    """For the next ingest."""
    noted = {"texts": run.texts, "clean": sorted(run.clean), "tries": run.tries}
    model = {"embedding": run.site.settings["EMBEDDING_MODEL"]}
    files.write_json(run.site.state / NOTES, noted | model)
