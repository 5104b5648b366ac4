"""The job that removes what is to be forgotten from every data set on this machine.

Its order: names, as FORGOTTEN has them (names.hashed), and notes, each a text that other people's
prompts may quote, and its question. Later nights leave out the same by forgotten().
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from glue.core import files, names
from glue.core.names import FORGOTTEN, NOTE
from learning import job as jobs
from learning.dataset import files as dataset_files
from learning.dataset.passages import SOURCE
from learning.job import Job

# files of a night that may quote answers; they go with them
QUOTING = ("report.html", "summary.txt", "evidence.json", "said.json")


def forgotten(state: Path) -> Callable[[dict[str, Any]], bool]:
    """Whether a rating is to be forgotten. One that was given or changed later is consent anew."""
    until: dict[str, float] = {}
    for row in files.read_lines(state / FORGOTTEN):
        until[row["name"]] = max(until.get(row["name"], 0.0), float(row["time"]))

    def is_forgotten(rating: dict[str, Any]) -> bool:
        chat = names.hashed("chat", str((rating.get("meta") or {}).get("chat_id")))
        user = names.hashed("user", str(rating.get("user_id")))
        given = rating.get("updated_at") or rating.get("created_at") or 0
        return any(given <= until[name] for name in (chat, user) if name in until)

    return is_forgotten


def remove_named(
    state: Path, wanted: set[str], notes: Sequence[dict[str, str]] = ()
) -> dict[str, int]:
    """Rows removed, by data set, of the chats and people with these hashed names, and those whose
    prompts quote the notes."""
    return remove_if(
        state,
        lambda origin: (
            any(
                names.hashed(what, str(origin[what])) in wanted
                for what in ("chat", "user")
                if origin.get(what)
            )
            or any(quotes(origin["read"], note) for note in notes)
        ),
    )


def quotes(read: str, note: dict[str, str]) -> bool:
    """Whether a prompt has the note: whole, in a piece as long notes are cut into, or with another
    value, as changed passages have it."""
    text, question = words(note["text"]), words(note["question"])
    noted = (words(one["text"]) for one in SOURCE.finditer(read) if NOTE in one["attributes"])
    return text in words(read) or any(
        one and (one in text or (question and one.startswith(question))) for one in noted
    )


def words(text: str) -> str:
    """The splitter of Open WebUI removes space at the ends of a piece."""
    return " ".join(text.split())


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


def forget(job: Job) -> dict[str, Any]:
    return {"removed": remove_named(job.state, set(job.order["names"]), job.order.get("notes", ()))}


if __name__ == "__main__":
    jobs.run(forget)
