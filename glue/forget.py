"""Forget a conversation or a person: what datasets on this machine hold of them goes, and no later night reads it again.

What an adapter has learned cannot be taken out of it; which ones had seen it is said, so that they can be rolled back, and the
next night can begin anew from the base model.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from glue import dataset_files, files
from glue.learning import dataset
from glue.site import Site

FORGOTTEN = "forgotten.jsonl"
QUOTING = ("report.html", "summary.txt", "evidence.json")  # a night's own pages may quote answers; they go with them


def forgotten(state: Path) -> Callable[[dict[str, Any]], bool]:
    """Whether a rating is one that was asked to be forgotten. One that was given or changed after that is consent anew."""
    until: dict[str, float] = {}
    for row in files.read_lines(state / FORGOTTEN):
        until[row["name"]] = max(until.get(row["name"], 0.0), float(row["time"]))

    def is_forgotten(rating: dict[str, Any]) -> bool:
        chat = dataset.name_of("chat", str((rating.get("meta") or {}).get("chat_id")))
        user = dataset.name_of("user", str(rating.get("user_id")))
        given = rating.get("updated_at") or rating.get("created_at") or 0
        return any(given <= until[name] for name in (chat, user) if name in until)

    return is_forgotten


def forget(site: Site, what: str, value: str) -> dict[str, Any]:
    """what: "chat" or "user", value: its id in Open WebUI. Safe to run again."""
    name = dataset.name_of(what, value)
    files.append_line(site.state / FORGOTTEN, {"name": name, "time": time.time()})

    def comes_from(origin: dict[str, Any]) -> bool:
        return origin.get(what) == value

    folders = [*sorted(site.state.glob("nights/*/dataset")), site.state / "dataset"]
    removed = {
        str(folder.relative_to(site.state)): count for folder in folders if (count := dataset_files.remove(folder, comes_from))
    }
    for folder in removed:
        for file in QUOTING if folder.startswith("nights/") else ():
            (site.state / folder).parent.joinpath(file).unlink(missing_ok=True)
    releases = site.releases
    seen = [release for release in releases.names() if name in releases.manifest(release).get("origins", [])]
    return {
        "forgotten": f"{what} {value}",
        "rows_removed": sum(removed.values()),
        "datasets": removed,
        "adapters_that_had_seen_it": seen,
        "serving": releases.current() if releases.current() in seen else None,
    }
