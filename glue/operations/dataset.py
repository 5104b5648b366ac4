"""Builds a night's data set and removes forgotten examples, by jobs."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from glue.clients import jobs, knowledge
from glue.clients.jobs import Job
from glue.clients.open_webui import NOTES
from glue.clients.site import Site
from glue.core import files, lock, names
from glue.core.errors import GlueError
from glue.core.recipes import Recipe
from glue.serving import pages

# writing questions about documents ends after half an hour; the rest takes minutes
BUILD_SECONDS = 3600
FORGET_SECONDS = 600


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
    night runs.

    What an adapter has learned cannot be taken out of it: those that had seen it are named.
    """
    name = names.hashed(what, value)
    with lock.hold(site.state, lock.TRAINING, f"forget a {what}"):
        files.append_line(site.state / names.FORGOTTEN, {"name": name, "time": time.time()})
        removed = remove(site, [name])
        pages.ensure_again(site)
    deleted = delete_ratings(site, value) if what == "user" else 0
    store = site.store
    seen = [
        release for release in store.names() if name in store.manifest(release).get("origins", [])
    ]
    if not (removed or seen or deleted):
        site.tell(
            f"no data set and no adapter has this {what}; the id is in the address of a chat, or in"
            " the list of users"
        )
    return {
        "forgotten": f"{what} {value}",
        "rows_removed": sum(removed.values()),
        "datasets": removed,
        "ratings_deleted": deleted,
        "adapters_that_had_seen_it": seen,
        "serving": store.current() if store.current() in seen else None,
    }


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
