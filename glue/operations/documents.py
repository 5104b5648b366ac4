"""Keeps a folder of documents and the team's collection in Open WebUI the same.

Each file is handled by itself: the new version can be found before the old one is removed, and a
refused file does not stop the others.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from glue.clients import knowledge, leftovers, suggestions
from glue.clients.knowledge import Held
from glue.clients.open_webui import WebUI
from glue.clients.site import Site
from glue.clients.webui_connection import Refused, TooSlow
from glue.core import control_words, files, lock
from glue.core.errors import GlueError, PreconditionFailed
from glue.operations import documents_plan as planning
from glue.operations.documents_folder import DOCUMENT_TYPES, look_through
from glue.operations.documents_plan import Document, Folder, Plan

LOCK = "ingest.lock"
# {"texts": checksum of a file -> checksum of its text, "clean": checksums of texts without control
# words}; without it, an ingest asks Open WebUI again
NOTES = "ingest.json"


@dataclass
class Run:
    """One ingest. held: what the collection holds now, by id. stays: ids of what is up to date.
    known: keys of what it held before. refused: name -> reason."""

    site: Site
    person: WebUI
    collection: str
    held: dict[str, Held]
    known: frozenset[str | None]
    texts: dict[str, str]
    clean: set[str]
    refused: dict[str, str]
    stays: set[str] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)


def ingest(
    site: Site,
    folder: Path,
    skip_bad: bool = False,
    yes: bool = False,
    ask: Callable[[str], bool] = lambda question: False,
) -> dict[str, Any]:
    """Adds new files, replaces changed ones, removes missing ones, and checks the result.

    yes: do not ask about a folder without a document of the collection. Raises PreconditionFailed,
    with nothing changed, for a folder without documents and for a no.
    """
    found = look_through(folder)
    if not found.documents:
        saw = planning.listing([f"{len(found.keys)} other files", *described(found.refused)])
        do = f"put documents into it: {', '.join(DOCUMENT_TYPES)}"
        raise PreconditionFailed("there is no document in the folder", saw, do)
    with lock.hold(site.state, LOCK, "an ingest"):
        run = begin(site, found)
        plan = planning.compare(found, run.held.values(), run.texts)
        confirm(plan, yes, ask)
        run.stays |= plan.stays
        announce(site, plan)
        took = take_in_all(run, plan)
        remove_gone(run, plan, found)
        clean_others(run)
        return conclude(run, plan, found, took, skip_bad)


# ---------------------------------------------------------------------- before anything changes


def begin(site: Site, found: Folder) -> Run:
    """The collection, created and attached if it was deleted, and without leftovers of a killed
    ingest."""
    person = site.administrator()
    collection = knowledge.ensure(person, site.state)
    if collection is None:
        site.tell(f"{knowledge.DELETED}; a new one is made")
        collection = knowledge.ensure(person, site.state, anew=True)
    assert collection is not None
    knowledge.attach(person, collection)
    held = knowledge.held(person, collection)
    leftovers.clear(person, collection, held)
    notes = files.read_json_if_whole(site.state / NOTES, {})
    texts, clean = dict(notes.get("texts", {})), set(notes.get("clean", []))
    by_id, known = {one.id: one for one in held}, frozenset(one.key for one in held)
    return Run(site, person, collection, by_id, known, texts, clean, dict(found.refused))


def confirm(plan: Plan, yes: bool, ask: Callable[[str], bool]) -> None:
    """Raises PreconditionFailed if a folder without any document of the collection is a mistake."""
    if not plan.foreign or yes:
        return
    names = planning.listing(one.name for one in plan.gone)
    saw = f"{len(plan.gone)} documents would be removed: {names}"
    what = "the folder has no document in common with the collection"
    if not ask(f"{what}: {saw}. Is this the right folder?"):
        raise PreconditionFailed(what, saw, "if it is the right folder: make ingest DIR=... YES=1")


def announce(site: Site, plan: Plan) -> None:
    if plan.gone:
        names = planning.listing(one.name for one in plan.gone)
        site.tell(f"no longer in the folder, will be removed: {names}")
    if plan.by_hand:
        names = planning.listing(f"{one.name} ({one.person or 'unknown'})" for one in plan.by_hand)
        site.tell(f"added by people, kept: {names}")


# ---------------------------------------------------------------------- each file


def take_in_all(run: Run, plan: Plan) -> list[Document]:
    """The added files. Raises GlueError if Open WebUI stops answering."""
    took: list[Document] = []
    todo, begun = list(plan.todo), time.monotonic()
    for number, document in enumerate(todo, 1):
        run.site.tell(planning.progress(number, todo, time.monotonic() - begun))
        try:
            if take_in(run, document):
                took.append(document)
        except (GlueError, OSError) as error:
            reason = why_refused(error)
            if not reason:
                raise interrupted(len(took), len(todo), error) from error
            run.refused[document.name] = reason
            run.site.tell(f"not added: {document.name}: {reason}")
    refused = {one: run.refused[other] for one, other in plan.twins.items() if other in run.refused}
    run.refused |= refused
    return took


def why_refused(error: Exception) -> str:
    """Why this file is not added; empty if no file can be: Open WebUI does not answer."""
    if isinstance(error, Refused):
        return planning.why_refused(error.reason)
    if isinstance(error, TooSlow):
        return f"Open WebUI did not finish it within {knowledge.FILE_DEADLINE_SECONDS} s"
    return str(error) if isinstance(error, OSError) else ""


def interrupted(took: int, todo: int, error: Exception) -> GlueError:
    saw = getattr(error, "saw", str(error))
    what = f"Open WebUI stopped answering; {took} of {todo} new documents are in"
    return GlueError(what, saw, "make status, then the same make ingest again")


def take_in(run: Run, document: Document) -> bool:
    """Adds the new version and then removes the old one. False if its text was in already."""
    args = (document.path, document.name, document.key, document.checksum)
    file_id = knowledge.upload(run.person, *args)
    try:
        text = read(run, document, file_id)
        new = settle(run, document, file_id, text)
    except Refused:  # else Open WebUI may still be at work on it; the next ingest looks
        knowledge.discard(run.person, file_id)
        raise
    old = [one for one in run.held.values() if one.key == document.key]
    drop(run, [one for one in old if one.id not in run.stays])
    return new


def read(run: Run, document: Document, file_id: str) -> str:
    """SHA-256 of its text, as Open WebUI has it."""
    text = knowledge.read(run.person, file_id)
    if document.path.suffix.lower() == ".pdf":
        pages, blank = knowledge.pages(run.person, file_id)
        if blank:
            run.notes.append(f"{document.name}: {blank} of {pages} pages hold no text")
    text, words = control_words.broken(text)
    if words:
        knowledge.rewrite(run.person, file_id, text)
        run.notes.append(f"{document.name}: {broken_words(words)}")
    run.texts[document.checksum] = sha256(text)
    return run.texts[document.checksum]


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
    knowledge.link(run.person, run.collection, file_id)
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


# ---------------------------------------------------------------------- afterwards


def remove_gone(run: Run, plan: Plan, found: Folder) -> None:
    """Removes missing files, except those that go on under another, refused name."""
    refused = {one.checksum for one in found.documents if one.name in run.refused}
    here = [one for one in plan.gone if one.id in run.held and one.id not in run.stays]
    drop(run, [one for one in here if one.checksum not in refused])


def clean_others(run: Run) -> None:
    """Checks files of people and of earlier versions once."""
    for one in list(run.held.values()):
        if one.clean or not one.text or one.text in run.clean:
            continue
        text, words = control_words.broken(knowledge.text_of(run.person, one.id))
        if words:
            knowledge.rewrite(run.person, one.id, text)
            run.notes.append(f"{one.name}: {broken_words(words)}")
            run.texts |= {one.checksum: sha256(text)} if one.checksum else {}
        run.clean.add(sha256(text) if words else one.text)


def conclude(
    run: Run, plan: Plan, found: Folder, took: list[Document], skip_bad: bool
) -> dict[str, Any]:
    """Reads the collection once more and returns what is in it."""
    held = knowledge.held(run.person, run.collection)
    outdated = planning.outdated(found.documents, held, run.texts)
    knowledge.remove(run.person, run.collection, outdated)
    names = [one.name for one in held if one not in outdated]
    suggestions.ensure(run.person, run.site.state, names)
    contents = planning.contents(held)
    missing = [one for one in found.documents if not planning.is_in(one, contents, run.texts)]
    wanted = {one.checksum for one in found.documents}
    texts = {key: text for key, text in run.texts.items() if key in wanted}
    clean = sorted(run.clean & {one.text for one in held})
    files.write_json(run.site.state / NOTES, {"texts": texts, "clean": clean})
    lost = [one.name for one in missing if one.name not in run.refused]
    twins = [one for one in plan.twins.items() if one[0] not in run.refused]
    total = len(found.documents) + len(found.refused)
    return {
        "added": sorted(one.name for one in took if one.key not in run.known),
        "changed": sorted(one.name for one in took if one.key in run.known),
        "deleted": sum(one.id not in run.held for one in plan.gone),
        "skipped": run.refused,
        "missing": lost,
        "notes": [*run.notes, *(same_as(*one) for one in twins)],
        "not_read": dict(found.not_read),
        "by_hand": [one.name for one in plan.by_hand],
        "documents": len(held) - len(outdated),
        "in": len(found.documents) - len(missing),
        "of": total,
        "incomplete": bool(lost) or (bool(run.refused) and not skip_bad),
    }


def described(reasons: Any) -> list[str]:
    return [f"{one}: {reason}" for one, reason in sorted(reasons.items())]


def sha256(text: str) -> str:
    """As Open WebUI has it of a text, to recognise the same text."""
    return hashlib.sha256(text.encode()).hexdigest()


def lines(result: dict[str, Any]) -> list[str]:
    """What people read at the end; the last line says how many are in."""
    told = [f"not in: {line}" for line in described(result["skipped"])]
    told += [f"not in: {one}: Open WebUI does not list it" for one in result["missing"]]
    told += result["notes"]
    if result["not_read"]:
        told.append(f"not read: {planning.listing(described(result['not_read']))}")
    counts = [f"{len(result[what])} {what}" for what in ("added", "changed")]
    told.append(", ".join([*counts, f"{result['deleted']} removed"]))
    return [*told, f"{result['in']} of {result['of']} documents are in"]
