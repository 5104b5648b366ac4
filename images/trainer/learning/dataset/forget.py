"""Forget a conversation or a person: what datasets on this machine hold of them goes, and no later
night reads it again.

What an adapter has learned cannot be taken out of it; which ones had seen it is said, so that they
can be rolled back, and the
next night can begin anew from the base model.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from glue.clients.site import Site
from glue.core import files, lock
from learning.dataset import files as dataset_files
from learning.dataset import split

FORGOTTEN = "forgotten.jsonl"
QUOTING = (
    "report.html",
    "summary.txt",
    "evidence.json",
)  # a night's own pages may quote answers; they go with them


def forgotten(state: Path) -> Callable[[dict[str, Any]], bool]:
    """Whether a rating is one that was asked to be forgotten. One that was given or changed after
    that is consent anew."""
    until: dict[str, float] = {}
    for row in files.read_lines(state / FORGOTTEN):
        until[row["name"]] = max(until.get(row["name"], 0.0), float(row["time"]))

    def is_forgotten(rating: dict[str, Any]) -> bool:
        chat = split.name_of("chat", str((rating.get("meta") or {}).get("chat_id")))
        user = split.name_of("user", str(rating.get("user_id")))
        given = rating.get("updated_at") or rating.get("created_at") or 0
        return any(given <= until[name] for name in (chat, user) if name in until)

    return is_forgotten


def forget(site: Site, what: str, value: str) -> dict[str, Any]:
    """what: "chat" or "user", value: its id in Open WebUI. Safe to run again. Raises Locked while a
    night runs."""
    name = split.name_of(what, value)
    with lock.hold(site.state, lock.TRAINING, f"forget a {what}"):
        files.append_line(site.state / FORGOTTEN, {"name": name, "time": time.time()})
        removed = remove(site.state, what, value)
    releases = site.releases
    seen = [
        release
        for release in releases.names()
        if name in releases.manifest(release).get("origins", [])
    ]
    if not (removed or seen):
        site.tell(
            f"nothing that was learned from names this {what}; its id is in the address of a chat,"
            " or in the list of users"
        )
    return {
        "forgotten": f"{what} {value}",
        "rows_removed": sum(removed.values()),
        "datasets": removed,
        "adapters_that_had_seen_it": seen,
        "serving": releases.current() if releases.current() in seen else None,
    }


def remove(state: Path, what: str, value: str) -> dict[str, int]:
    """Rows removed, by dataset, of what has this id."""
    return remove_if(state, lambda origin: origin.get(what) == value)


def remove_named(state: Path, names: set[str]) -> dict[str, int]:
    """The same by what FORGOTTEN keeps of ids."""
    return remove_if(
        state,
        lambda origin: any(
            split.name_of(what, str(origin[what])) in names
            for what in ("chat", "user")
            if origin.get(what)
        ),
    )


def remove_if(state: Path, unwanted: Callable[[dict[str, Any]], bool]) -> dict[str, int]:
    """What else a night has left that may quote them goes first: as long as rows are left, the next
    try finds all of it again."""
    removed = {}
    for folder in dataset_files.folders(state):
        if dataset_files.holds(folder, unwanted):
            for file in QUOTING if folder != state / "dataset" else ():
                (folder.parent / file).unlink(missing_ok=True)
            shutil.rmtree(
                folder.parent / "scratch", ignore_errors=True
            )  # a training that died leaves its copy there
        count = dataset_files.remove(folder, unwanted)
        if count:
            removed[str(folder.relative_to(state))] = count
    return removed
