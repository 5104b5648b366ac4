"""The team's corrections as notes that the assistant finds beside the documents, within a minute.

Notes are made of the ratings again whenever these have changed (learning.dataset.notes), and the
collection in Open WebUI is made the same: what is withdrawn, forgotten or restored needs no more.
"""

from __future__ import annotations

import hashlib
import tempfile
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from glue.clients import jobs, knowledge, leftovers
from glue.clients.knowledge import NOTE_KEY, Held
from glue.clients.open_webui import NOTES, WebUI
from glue.clients.site import Site
from glue.clients.webui_connection import Refused
from glue.core import control_words, desired_state, files, lock, names
from glue.core.desired_state import Wanted
from glue.core.errors import GlueError, Locked, PreconditionFailed
from glue.core.names import ACCEPT, DROP, SERVED
from glue.operations import dataset, documents_take_in
from glue.serving import pages

Json = dict[str, Any]
# names.NOTES holds {"seen": what the notes were made of, "time": when, "whole": whether the chat
# has them, "decided": note -> ACCEPT or DROP, "notes": as learning.dataset.notes.Note, "compared":
# when all were compared with the documents, "documents": the checksum of what these were, "error":
# why the last try failed}
LOCK = "notes.lock"
JOB_SECONDS, WAIT_SECONDS = 600, 120
MADE_OF = (names.GLOSSARY, names.ANSWERS, names.FORGOTTEN, documents_take_in.NOTES)
# what no rating shows, such as a document that a person added in the chat
ANEW_SECONDS, AFTER_FAILURE_SECONDS = 3600, 60
RATINGS = "/api/v1/evaluations/feedbacks/all/ids"
COUNTED = "/api/v1/evaluations/feedbacks/list?page=1000000"  # no rows, which hold whole chats


def notes(site: Site, accept: str = "", drop: str = "") -> list[Json]:
    """All notes, in step with the ratings now. Raises PreconditionFailed with NOTES=off, or for an
    id that no note has."""
    if site.settings["NOTES"] == "off":
        do = "set NOTES=auto or NOTES=review in env/site.env, then make day"
        raise PreconditionFailed("the team's corrections do not become notes", "NOTES=off", do)
    with lock.hold(site.state, LOCK, "notes", WAIT_SECONDS):
        kept = renewed(site)
        for note, decision in ((accept, ACCEPT), (drop, DROP)):
            if note:
                require(note, kept["notes"])
                kept["decided"][note] = decision
        return list((renewed(site, kept["decided"]) if accept or drop else kept)["notes"])


def keep_in_step(site: Site) -> list[Json]:
    """For the timer: nothing but a look at the ratings' times, unless something has changed."""
    desired = desired_state.read(site.state)
    by_day = desired is not None and desired.wanted is Wanted.DAY and not desired.night
    if site.settings["NOTES"] == "off" or not by_day:
        return []
    with suppress(Locked), lock.hold(site.state, LOCK, "notes"):
        try:
            seen = made_of(site, site.administrator())
        except GlueError:  # why the chat does not answer is told elsewhere
            return []
        if is_due(read(site.state), seen, time.time()):
            return list(renewed(site)["notes"])
    return []


def is_due(kept: Json, seen: str, now: float) -> bool:
    """Something has changed, all are to be compared again, or the last try failed a while ago."""
    if kept["seen"] != seen:
        return True
    stale = kept["whole"] and not 0 <= now - kept["compared"] <= ANEW_SECONDS
    return stale or (not kept["whole"] and not 0 <= now - kept["time"] <= AFTER_FAILURE_SECONDS)


def read(state: Path) -> Json:
    empty: Json = {"seen": "", "time": 0.0, "whole": False, "decided": {}, "notes": []}
    empty |= {"compared": 0.0, "documents": "", "error": ""}
    return empty | files.read_json_if_whole(state / names.NOTES, {})


def write(state: Path, kept: Json) -> None:
    files.write_json(state / names.NOTES, kept, mode=0o600)


def require(note: str, known: Sequence[Json]) -> None:
    if note not in {row["id"] for row in known}:
        raise PreconditionFailed("there is no such note", repr(note), "make notes lists them")


def made_of(site: Site, person: WebUI) -> str:
    """The same until a rating, an account with ratings, a setting or a file changes."""
    rated = [(row["id"], row["updated_at"]) for row in person.call("GET", RATINGS)]
    count = person.call("GET", COUNTED)["total"]  # without those of deleted accounts
    state = [checksum(site.state / name) for name in MADE_OF]
    parts = (rated, count, site.settings["NOTES"], state)
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def checksum(path: Path) -> str:
    return files.sha256(path) if path.exists() else ""


# ---------------------------------------------------------------------- made anew


def renewed(site: Site, decided: Json | None = None) -> Json:
    """Under the lock. Makes the notes of what is there now, and the collection the same."""
    person, kept = site.administrator(), read(site.state)
    kept |= {"seen": made_of(site, person), "time": time.time(), "whole": False}
    kept |= {"decided": kept["decided"] if decided is None else decided}
    write(site.state, kept)  # what fails is tried again, but not every time
    try:
        fault = make(site, person, kept)
    except Locked:  # a data set is built at this moment
        raise
    except GlueError as error:
        write(site.state, kept | {"error": f"{error.what}: {error.saw}"})
        raise
    if fault:  # the rest is served; another look each minute finds the same
        fault = f"Invalid {names.ANSWERS} in the state folder: {fault}"
        site.tell(fault)
    kept |= {"whole": True, "error": fault}
    write(site.state, kept)
    return kept


def make(site: Site, person: WebUI, kept: Json) -> str:
    """Returns what is wrong with the site's own list."""
    documents_now = checksum(site.state / documents_take_in.NOTES)
    known = compared(kept, documents_now)
    found = jobs.run(site, job(site, kept["decided"], known))
    kept["notes"] = found["notes"]
    if not known:
        kept |= {"compared": kept["time"], "documents": documents_now}
    write(site.state, kept)
    try:
        serve(person, site.state, [row for row in kept["notes"] if row["state"] == SERVED])
    finally:
        pages.ensure(site)
    return str(found["fault"])


def compared(kept: Json, documents_now: str) -> dict[str, Json]:
    """By note what the documents say, from an earlier time; empty if they may have changed. It
    costs a search for each note."""
    old = not 0 <= time.time() - kept["compared"] <= ANEW_SECONDS
    if old or kept["documents"] != documents_now:
        return {}
    return {row["id"]: row["documents"] for row in kept["notes"] if row["documents"]}


def job(site: Site, decided: Json, known: dict[str, Json]) -> jobs.Job:
    folder = site.state / pages.NOTES.parent
    files.make_folder(folder, 0o700)
    inputs = (*MADE_OF, "nights", "dataset")
    order = dataset.order_for(site, site.recipe()) | {
        "decided": decided,
        "compared": known,
        "review": site.settings["NOTES"] == "review",
        "page": str(pages.NOTES),
    }
    reads = tuple(site.state / name for name in inputs)
    return jobs.Job("learning.dataset.notes", order, reads, (folder,), (), True, JOB_SECONDS)


def serve(person: WebUI, state: Path, rows: Sequence[Json]) -> None:
    """The collection has these notes, and what people put into it. Raises GlueError with the notes
    that Open WebUI refuses; the others are in."""
    collection = knowledge.ensure(person, state, anew=True, kind=NOTES)
    assert collection is not None
    held, wanted = knowledge.held(person, collection), {key_of(row) for row in rows}
    # first: what is withdrawn waits for no other note, and Open WebUI refuses the same text twice
    knowledge.remove(person, collection, outdated(held, wanted))
    kept = [one for one in held if one.key is None or one.key in wanted]
    leftovers.clear(person, collection, kept, NOTES)
    knowledge.attach(person, collection, NOTES)
    refused, there = [], {one.key for one in kept}
    for row in (row for row in rows if key_of(row) not in there):
        try:
            add(person, collection, row)
        except Refused as error:
            refused.append(f"{row['question']!r}: {error}")
    if refused:
        do = "they are tried again each minute; reword them, or make notes DROP=<id>"
        raise GlueError("Open WebUI refuses notes of the team", "; ".join(refused), do)


def key_of(row: Json) -> str:
    """Another name or day is another file: people see both as the source."""
    return f"{NOTE_KEY}{row['id']}-{hashlib.sha256(name_of(row).encode()).hexdigest()[:6]}"


def outdated(held: Iterable[Held], wanted: set[str]) -> list[Held]:
    return [one for one in held if one.key is not None and one.key not in wanted]


def add(person: WebUI, collection: str, row: Json) -> None:
    text = control_words.broken(row["text"])[0]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "note.txt")
        path.write_text(text, encoding="utf-8")
        args = (path, name_of(row), key_of(row), files.sha256(path))
        file = knowledge.upload(person, *args)
    knowledge.read(person, file)
    knowledge.link(person, collection, file)


def name_of(row: Json) -> str:
    """What people see as the source; a prompt does not have it."""
    day = f", {datetime.fromtimestamp(row['when']):%Y-%m-%d}" if row["when"] else ""
    return f"Team note: {row['who']}{day}"
