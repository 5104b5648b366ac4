"""Removes what a person, or a conversation, has left: in data sets, notes, pages and the chat."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from glue.clients import jobs, knowledge
from glue.clients.jobs import Job
from glue.clients.open_webui import WebUI
from glue.clients.site import Site
from glue.core import files, lock, names
from glue.core.errors import GlueError, PreconditionFailed
from glue.operations import notes
from glue.serving import pages

DATASET_SECONDS = 600
UNKNOWN = "unknown"  # in the row of an ID that only the chat may have
IDS = "take the ID from the page of make dataset; a chat's is also in its address"


def forget(site: Site, what: str, value: str) -> dict[str, Any]:
    """what: "chat" or "user"; value: its id in Open WebUI. Safe to run again. Raises Locked while a
    night runs, and PreconditionFailed for an id that nothing has.

    still_in_the_chat: what Open WebUI did not remove, and why. What an adapter has learned cannot
    be taken out of it: those that had seen it are named.
    """
    name = names.hashed(what, value)
    row, path = {"name": name, "time": time.time()}, site.state / names.FORGOTTEN
    with lock.hold(site.state, lock.TRAINING, f"forget a {what}"):
        earlier = [one for one in files.read_lines(path) if one.get("name") == name]
        files.append_line(path, row)
        removed = remove(site, [name])
        deleted, left = forget_in_chat(site, value if what == "user" else "")
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
        "still_in_the_chat": left,
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


def forget_in_chat(site: Site, account: str) -> tuple[int, dict[str, str]]:
    """The number of ratings that were deleted, and what the chat still has: why. One failure stops
    none of the others: data sets are cleared without the chat."""
    deleted, left = 0, {}

    def delete_ratings() -> None:
        nonlocal deleted
        deleted = site.administrator().delete_ratings_of_deleted(account)

    steps: dict[str, Callable[[], None]] = {
        "notes": lambda: notes.clear(site),
        "pages": lambda: pages.ensure_again(site),
        "ratings": delete_ratings if account else lambda: None,
    }
    for words, step in steps.items():
        try:
            step()
        except GlueError as error:
            left[words] = f"{error.what}: {error.saw}"
            site.tell(f"{words} may still be in the chat, run this again: {left[words]}")
    return deleted, left


def remove(site: Site, wanted: Iterable[str]) -> dict[str, int]:
    """Rows removed, by data set and file, of the chats and people with these hashed names."""
    hashed, removed = set(wanted), {}
    with lock.hold(site.state, notes.LOCK, "forget", notes.WAIT_SECONDS):
        theirs = notes.of(site.state, hashed)
        said = [{"text": row["text"], "question": row["question"]} for row in theirs]
        order = {"names": sorted(hashed), "notes": said}
        folders = (site.state / "nights", site.state / "dataset")
        if hashed and any(folder.exists() for folder in folders):
            module = "learning.dataset.forget"
            job = Job(module, order, writes=folders, timeout_seconds=DATASET_SECONDS)
            removed = dict(jobs.run(site, job)["removed"])
        # also of earlier names: a version without paraphrases may have forgotten those
        known = {row["name"] for row in files.read_lines(site.state / names.FORGOTTEN)}
        removed |= remove_paraphrases(site.state, hashed | known)
        notes.take_out(site.state, theirs)  # last: an interrupted forget finds their texts again
    return removed | ({names.NOTES: len(theirs)} if theirs else {})


def remove_paraphrases(state: Path, wanted: set[str]) -> dict[str, int]:
    """Other ways to ask what these chats and people asked, also where others asked the same."""
    path = state / names.PARAPHRASES
    rows = files.read_lines(path)
    kept = [row for row in rows if not wanted & set(row.get("origins", []))]
    if len(kept) == len(rows):
        return {}
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in kept)
    files.write(path, text, mode=0o600)
    return {names.PARAPHRASES: len(rows) - len(kept)}
