"""Keeps a folder of documents and the team's collection in Open WebUI the same.

Each file is handled by itself: the new version can be found before the old one is removed, and a
refused file does not stop the others.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from glue.clients import document_index, knowledge, leftovers, suggestions
from glue.clients.knowledge import Held
from glue.clients.open_webui import WebUI
from glue.clients.site import Site
from glue.core import control_words, files, lock
from glue.core.errors import PreconditionFailed
from glue.operations import documents_plan as planning
from glue.operations.documents_folder import DOCUMENT_TYPES, look_through
from glue.operations.documents_plan import Document, Folder, Plan
from glue.operations.documents_refused import refusal
from glue.operations.documents_take_in import (
    NOTES,
    Run,
    broken_words,
    drop,
    refuse,
    remember,
    same_as,
    sha256,
    take_in_all,
)

LOCK = "ingest.lock"
REFUSED = "not-in.txt"  # what the last ingest refused, a line each
UNLISTED = refusal("Open WebUI does not list it", "make ingest again")


def ingest(
    site: Site,
    folder: Path,
    skip_bad: bool = False,
    yes: bool = False,
    ask: Callable[[str], bool] | None = None,
) -> dict[str, Any]:
    """Adds new files, replaces changed ones, removes missing ones, and checks the result.

    yes: do not ask about a folder without a document of the collection. ask: None without a
    terminal. Raises PreconditionFailed, with nothing changed, for a folder without documents and
    without a yes.
    """
    found = look_through(folder)
    if not found.documents:
        saw = planning.listing([f"{len(found.keys)} other files", *described(found.refused)])
        do = f"put documents into it: {', '.join(DOCUMENT_TYPES)}"
        raise PreconditionFailed("there is no document in the folder", saw, do)
    with lock.hold(site.state, LOCK, "an ingest"):
        run = begin(site)
        plan = planning.compare(found, run.held.values(), run.texts)
        confirm(plan, yes, ask)
        run.stays |= plan.stays
        run.notes += planning.told_kept(plan.kept)
        announce(run, plan, found)
        took = take_in_all(run, plan)
        remove_gone(run, plan, found)
        clean_others(run)
        return conclude(run, plan, found, took, skip_bad)


# ---------------------------------------------------------------------- before anything changes


def begin(site: Site) -> Run:
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
    make_searchable(site, person, collection, held, notes.get("embedding"))
    texts, clean = dict(notes.get("texts", {})), set(notes.get("clean", []))
    by_id, known = {one.id: one for one in held}, frozenset(one.key for one in held)
    tries = dict(notes.get("tries", {}))
    return Run(site, person, collection, by_id, known, texts, clean, tries=tries)


def make_searchable(
    site: Site, person: WebUI, collection: str, held: list[Held], made_with: str | None
) -> None:
    """Has the index made again if it is lost, or made with another embedding model."""
    model = site.settings["EMBEDDING_MODEL"]
    if made_with not in (None, model):
        site.tell(f"the index was made with {made_with}; it is made again with {model}")
        document_index.reindex(person, held)
    elif not document_index.is_searchable(person, collection, held):
        site.tell(f"{knowledge.UNSEARCHABLE}; the index is made again")
        document_index.index_again(person, collection, [one for one in held if one.text])


def confirm(plan: Plan, yes: bool, ask: Callable[[str], bool] | None) -> None:
    """Raises PreconditionFailed if a folder without any document of the collection is a mistake."""
    if not plan.foreign or yes:
        return
    names = planning.listing(one.name for one in plan.gone)
    saw = f"{len(plan.gone)} documents would be removed: {names}"
    what = "the folder has no document in common with the collection"
    if ask and ask(f"{what}: {saw}. Is this the right folder?"):
        return
    saw = "the answer was no" if ask else saw
    do = "if it is the right folder: make ingest DIR=... YES=1"
    raise PreconditionFailed(f"{what}; nothing was changed", saw, do)


def announce(run: Run, plan: Plan, found: Folder) -> None:
    if plan.gone:
        names = planning.listing(one.name for one in plan.gone)
        run.site.tell(f"no longer in the folder, will be removed: {names}")
    if plan.by_hand:
        names = planning.listing(f"{one.name} ({one.person or 'unknown'})" for one in plan.by_hand)
        run.site.tell(f"added by people, kept: {names}")
    for name, reason in sorted(found.refused.items()):
        refuse(run, name, reason)


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
    run.texts = {key: text for key, text in run.texts.items() if key in wanted}
    run.tries = {key: count for key, count in run.tries.items() if key in wanted}
    run.clean &= {one.text for one in held}
    remember(run)
    absent = {one.name for one in missing} | found.refused.keys()
    run.refused = {name: why for name, why in run.refused.items() if name in absent}
    lost = [one.name for one in missing if one.name not in run.refused]
    for name in lost:
        refuse(run, name, UNLISTED)
    twins = [one for one in plan.twins.items() if one[0] not in run.refused]
    total = len(found.documents) + len(found.refused)
    return {
        "added": sorted(one.name for one in took if one.key not in run.known),
        "changed": sorted(one.name for one in took if one.key in run.known),
        "deleted": sum(one.id not in run.held for one in plan.gone),
        "skipped": run.refused,
        "missing": lost,
        "listed_in": list_refused(run),
        "notes": [*run.notes, *(same_as(*one) for one in twins)],
        "not_read": dict(found.not_read),
        "by_hand": [one.name for one in plan.by_hand],
        "documents": len(held) - len(outdated),
        "in": len(found.documents) - len(missing),
        "of": total,
        "incomplete": is_incomplete(run, lost, skip_bad),
    }


def is_incomplete(run: Run, lost: list[str], skip_bad: bool) -> bool:
    """skip_bad accepts bad files, but no server error of Open WebUI."""
    failed = any(name in run.refused for name in run.server_errors)
    return bool(lost) or failed or (bool(run.refused) and not skip_bad)


def described(reasons: Any) -> list[str]:
    return [f"{one}: {reason}" for one, reason in sorted(reasons.items())]


def list_refused(run: Run) -> str:
    """Writes all that was refused, for a long run has told it far above. Returns where; "" without
    any."""
    path = run.site.state / REFUSED
    if not run.refused:
        path.unlink(missing_ok=True)
        return ""
    files.write(path, "".join(f"{line}\n" for line in described(run.refused)), mode=0o600)
    return str(path)


def lines(result: dict[str, Any]) -> list[str]:
    """What people read at the end, beside the refused documents, which are told when they are
    refused; the last line says how many are in."""
    told = list(result["notes"])
    if result["not_read"]:
        do = f"What is read: {', '.join(DOCUMENT_TYPES)}."
        told.append(f"not read: {planning.listing(described(result['not_read']))}. {do}")
    counts = [f"{len(result[what])} {what}" for what in ("added", "changed")]
    told.append(", ".join([*counts, f"{result['deleted']} removed"]))
    where = f"; the others are listed in {result['listed_in']}" if result["listed_in"] else ""
    return [*told, f"{result['in']} of {result['of']} documents are in{where}"]
