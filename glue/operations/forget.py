"""Removes what a person, or a conversation, has left: in data sets, notes, pages and the chat."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

from glue.clients import jobs
from glue.clients.jobs import Job
from glue.clients.site import Site
from glue.core import files, lock, names
from glue.core.errors import GlueError
from glue.operations import notes
from glue.serving import pages

DATASET_SECONDS = 600


def forget(site: Site, what: str, value: str) -> dict[str, Any]:
    """what: "chat" or "user"; value: its id in Open WebUI. Safe to run again. Raises Locked while a
    night runs.

    still_in_the_chat: what Open WebUI did not remove, and why. What an adapter has learned cannot
    be taken out of it: those that had seen it are named.
    """
    name = names.hashed(what, value)
    with lock.hold(site.state, lock.TRAINING, f"forget a {what}"):
        files.append_line(site.state / names.FORGOTTEN, {"name": name, "time": time.time()})
        removed = remove(site, [name])
        deleted, left = forget_in_chat(site, value if what == "user" else "")
    store = site.store
    seen = [
        release for release in store.names() if name in store.manifest(release).get("origins", [])
    ]
    if not (removed or seen or deleted or left):
        site.tell(
            f"no data set, no note and no adapter has this {what}; the id is in the address of a"
            " chat, or in the list of users"
        )
    return {
        "forgotten": f"{what} {value}",
        "rows_removed": sum(removed.values()),
        "datasets": removed,
        "ratings_deleted": deleted,
        "still_in_the_chat": left,
        "adapters_that_had_seen_it": seen,
        "serving": store.current() if store.current() in seen else None,
    }


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
        notes.take_out(site.state, theirs)  # last: an interrupted forget finds their texts again
    return removed | ({names.NOTES: len(theirs)} if theirs else {})
