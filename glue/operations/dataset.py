"""Builds a night's data set and removes forgotten examples, by jobs."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from glue.clients import jobs, knowledge
from glue.clients.jobs import Job
from glue.clients.open_webui import NOTES, WebUI
from glue.clients.site import Site
from glue.core import files, lock, names
from glue.core.errors import GlueError, PreconditionFailed
from glue.core.recipes import Recipe
from glue.serving import pages

# writing questions about documents ends after half an hour; the rest takes minutes
BUILD_SECONDS = 3600
FORGET_SECONDS = 600
UNKNOWN = "unknown"  # in the row of an ID that only the chat may have
IDS = "take the ID from the page of make dataset; a chat's is also in its address"


def build(site: Site) -> dict[str, Any]:
    """`glue dataset build`: state/dataset as tonight's would be. Returns its card and where its
    page is. Raises Locked during a night."""
    folder = site.state / "dataset"
    with lock.hold(site.state, lock.TRAINING, "a data set"):
        found = build_in(site, site.recipe(), folder, "tonight", for_night=False)
        address = pages.ensure(site)
    page = {"page": str(folder / "page.html"), "page_in_the_chat": address}
    return {**found["card"], "folder": str(folder), **page}


def build_in(
    site: Site, recipe: Recipe, folder: Path, name: str, for_night: bool = True
) -> dict[str, Any]:
    """Under the lock for nights. Returns what the job says: card, new, too_little (in words; then
    nothing is written), question, fingerprints, origins."""
    state = site.state
    inputs = (
        names.FORGOTTEN,
        names.GLOSSARY,
        names.GOLDEN,
        recipe.replay_file,
        "nights",
        "dataset",
    )
    outputs = [folder] if for_night is False else [folder.parent]
    files.make_folder(outputs[0], 0o755 if for_night else 0o700)
    if recipe.document_questions:
        jobs.ensure_file(state / names.DOCUMENT_QUESTIONS)
        outputs.append(state / names.DOCUMENT_QUESTIONS)
    reads = tuple(state / name for name in inputs if name and state / name not in outputs)
    order = order_for(site, recipe) | {
        "folder": str(folder.relative_to(state)),
        "name": name,
        "for_night": for_night,
    }
    job = Job(
        "learning.dataset.build",
        order,
        reads,
        tuple(outputs),
        online=True,
        timeout_seconds=BUILD_SECONDS,
    )
    return jobs.run(site, job)


def order_for(site: Site, recipe: Recipe) -> dict[str, Any]:
    settings, prompts = site.settings, files.read_lines(site.state / names.PROMPTS)
    person, off = site.administrator(), settings["NOTES"] == "off"
    return {
        "recipe": asdict(recipe),
        "known": sorted(learned_before(site)),
        "knowledge": knowledge.current(person, site.state),
        "notes": None if off else knowledge.current(person, site.state, kind=NOTES),
        "system_prompt": settings["SYSTEM_PROMPT"],
        "earlier_prompts": [row for row in prompts if row.keys() == {"system", "template"}],
        "rag_template": settings["RAG_TEMPLATE"],
        "rag_top_k": settings.number("RAG_TOP_K"),
        "phone_region": settings["PHONE_REGION"],
        "chat": settings.people_url,
    }


def learned_before(site: Site) -> set[str]:
    """Fingerprints of the examples of every adapter, trained or held out, including refused,
    rolled back and pruned ones. Examples of a night without a verdict are still new."""
    return {
        fingerprint
        for manifest in site.store.manifests()
        if "verdict" in manifest or "night" not in manifest
        for fingerprint in manifest.get("examples", [])
    }


def forget(site: Site, what: str, value: str) -> dict[str, Any]:
    """what: "chat" or "user"; value: its id in Open WebUI. Safe to run again. Raises Locked while a
    night runs, and PreconditionFailed for an id that nothing has.

    What an adapter has learned cannot be taken out of it: those that had seen it are named.
    """
    name = names.hashed(what, value)
    row, path = {"name": name, "time": time.time()}, site.state / names.FORGOTTEN
    with lock.hold(site.state, lock.TRAINING, f"forget a {what}"):
        earlier = [one for one in files.read_lines(path) if one.get("name") == name]
        files.append_line(path, row)
        removed = remove(site, [name])
        pages.ensure_again(site)
    deleted = delete_ratings(site, value) if what == "user" else 0
    store = site.store
    seen = [
        release for release in store.names() if name in store.manifest(release).get("origins", [])
    ]
    repeated = bool(earlier) and not earlier[-1].get(UNKNOWN)
    if not (removed or seen or deleted or repeated):
        files.append_line(path, row | {UNKNOWN: True})
        require_in_the_chat(site, what, value)
    return {
        "forgotten": f"{what} {value}",
        "rows_removed": sum(removed.values()),
        "datasets": removed,
        "ratings_deleted": deleted,
        "adapters_that_had_seen_it": seen,
        "serving": store.current() if store.current() in seen else None,
    }


def require_in_the_chat(site: Site, what: str, value: str) -> None:
    """Raises PreconditionFailed unless Open WebUI has this account, or a rating of this chat: it
    shows administrators no other chats."""
    try:
        there = ids_in_the_chat(site.administrator(), what)
    except GlueError as error:
        where = f"no data set, note or adapter has this {what}; the ratings cannot be searched"
        raise GlueError(where, error.saw, "make day, then make forget again") from error
    if value not in there:
        place = f"there is no such {what} in the ratings, notes, data sets and adapters"
        raise PreconditionFailed(place, repr(value), IDS)


def ids_in_the_chat(person: WebUI, what: str) -> set[str | None]:
    if what == "user":
        return {one["id"] for one in person.people()}
    rated = knowledge.listed(person, "/api/v1/evaluations/feedbacks/list")
    return {(one.get("meta") or {}).get("chat_id") for one in rated}


def delete_ratings(site: Site, account: str) -> int:
    """Those in Open WebUI of an account that is deleted there."""
    try:
        return site.administrator().delete_ratings_of_deleted(account)
    except GlueError as error:  # data sets are cleared without the chat
        site.tell(f"ratings in Open WebUI were not looked for: {error}")
        return 0


def remove(site: Site, wanted: Iterable[str]) -> dict[str, int]:
    """Rows removed, by data set and file, of the chats and people with these hashed names."""
    hashed = set(wanted)
    gone = notes_of(site.state, hashed)
    order = {"names": sorted(hashed), "notes": [row["text"] for row in gone]}
    folders, removed = (site.state / "nights", site.state / "dataset"), {}
    if hashed and any(folder.exists() for folder in folders):
        job = Job("learning.dataset.forget", order, writes=folders, timeout_seconds=FORGET_SECONDS)
        removed = dict(jobs.run(site, job)["removed"])
    if gone:  # last: an interrupted forget finds their texts again
        remove_notes(site.state, gone)
        removed[names.NOTES] = len(gone)
    return removed


def notes_of(state: Path, hashed: set[str]) -> list[dict[str, Any]]:
    rows = files.read_json_if_whole(state / names.NOTES, {}).get("notes", [])
    return [
        row
        for row in rows
        if hashed & {names.hashed(what, row[what]) for what in ("chat", "user") if row[what]}
    ]


def remove_notes(state: Path, gone: list[dict[str, Any]]) -> None:
    """Their page is made anew with the next ones, and what the chat has of them goes then."""
    kept = files.read_json(state / names.NOTES, {})
    left = [row for row in kept["notes"] if row not in gone]
    (state / pages.NOTES).unlink(missing_ok=True)
    files.write_json(state / names.NOTES, kept | {"notes": left, "seen": ""}, mode=0o600)
