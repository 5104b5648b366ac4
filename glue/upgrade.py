"""To another version of this repository, and back by itself if that one does not serve.

A version is a commit: code, compose files and image references together. What is run of the new one is its own `make`, in
processes of their own, so that no old code meets new files. state/upgrade.json is there from before the first change to after
the last; one that a death left behind is undone by the next `make upgrade`, and by the timers if nobody can have chatted since.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, replace
from io import StringIO
from typing import Any

from dotenv import dotenv_values

from glue import backup, chat_volume, commands, files, journal, lock, turn
from glue.day import MOVE_WAIT_SECONDS
from glue.night import uninterrupted
from glue.night_desk import MARK
from glue.plan import Wanted
from glue.restore import version
from glue.settings import HOME
from glue.site import Site
from glue.types import DayNotServing, GlueError, Locked, PreconditionFailed

LOCK = lock.UPGRADE
UNFINISHED = "upgrade.json"
DEADLINE_SECONDS = 6 * 3600  # a new model is 19 GB and comes over the office's line
QUESTION = "Who are you?"


@dataclass(frozen=True)
class Move:
    """From one commit to another. migrates: their Open WebUI differs, so the chat's database may be changed one way.

    served: the new version's day was begun by the upgrade itself; see days_since for those that somebody else began.
    """

    before: str
    after: str
    backup: str
    migrates: bool
    served: bool = False


def upgrade(site: Site, to: str) -> dict[str, Any]:
    """Backup, the new version's images and checks, its day, a question. Returns what was done.

    Raises PreconditionFailed with nothing touched; GlueError with the old version serving again; DayNotServing if not even that.
    """
    with lock.hold(site.state, LOCK, "an upgrade"):
        undo_a_dead_one(site)
        before, after = commit("HEAD"), commit(to)
        if before == after:
            return {"version": after, "changed": False}
        migrates = require_possible(site, before, after)
        move = Move(before, after, backup.backup(site)["backup"], migrates)
        keep(site, move)
        try:
            go(site, move)
        except BaseException as error:
            with uninterrupted():
                go_back(site, move, error)
            saw = f"{type(error).__name__}: {error}"
            raise GlueError(
                f"{to} does not serve; {before[:12]} serves again", saw, "read it, then try another version"
            ) from error
        journal.note(site.state, event="upgrade", result="done", **asdict(move))
        (site.state / UNFINISHED).unlink()
    return {"version": after, "changed": True, "before": before, "backup": move.backup}


def require_possible(site: Site, before: str, after: str) -> bool:
    """Whether Open WebUI changes. Raises PreconditionFailed where it would become an older one, Locked during a night."""
    if lock.held(site.state, lock.NIGHT):
        raise Locked("a night runs", f"{site.state / lock.NIGHT} is held", "upgrade by day")
    old, new = (open_webui(which) for which in (before, after))
    if version(new) < version(old):
        fitting = [folder for folder in backup.there(site) if made_with(folder) == new]
        do = (
            f"git checkout {after[:12]}; make setup; make restore REPLACE=1 FROM={fitting[-1] if fitting else '<a backup of it>'}"
        )
        raise PreconditionFailed("an older Open WebUI cannot read the newer one's database", f"{old}, to {new}", do)
    return old != new


def open_webui(which: str) -> str:
    """The reference that a version names."""
    text = git("show", f"{which}:env/images.env")
    return (dotenv_values(stream=StringIO(text)).get("OPEN_WEBUI_IMAGE") or "").partition("@")[0]


def made_with(folder: Any) -> str:
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    return str(manifest["images"]["OPEN_WEBUI_IMAGE"]).partition("@")[0]


def go(site: Site, move: Move) -> None:
    """Raises GlueError at the first thing that is not as it should be."""
    with lock.hold(site.state, lock.MOVE, "check out another version", MOVE_WAIT_SECONDS):
        journal.note(site.state, event="upgrade", result="begun", after=move.after)
        check_out(site, move.after)
    make(site, "setup")
    keep(site, replace(move, served=True))
    make(site, "day")
    answer = make(site, "ask", f"Q={QUESTION}")
    if MARK in answer or not answer.strip():
        raise GlueError("the new version's model does not answer", answer or "nothing", "make logs SERVICE=vllm")


def go_back(site: Site, move: Move, why: BaseException) -> None:
    """Raises DayNotServing, with what to type, if the old version does not serve again either."""
    site.tell(f"going back to {move.before[:12]}: {why}")
    restore = ["restore", "REPLACE=1", f"FROM={move.backup}"]
    try:
        now = kept(site) or move
        check_out(site, move.before)
        make(site, "setup")
        begun = now.served or "begin" in days_since(site, now) or bool(chat_volume.half_filled(site.state))
        if begun and now.migrates:
            make(site, *restore)
        if begun:
            make(site, "day")
    except GlueError as error:
        do = f"git checkout {move.before[:12]}; make setup; make {' '.join(restore)}; make day"
        raise DayNotServing("neither the new version nor the old one serves", f"{error}; first: {why}", do) from error
    journal.note(site.state, event="upgrade", result="undone", reason=str(why), **asdict(now))
    (site.state / UNFINISHED).unlink(missing_ok=True)


def undo_a_dead_one(site: Site) -> None:
    left = kept(site)
    if left is not None:
        go_back(site, left, GlueError("an upgrade died on its way", left.after, "make upgrade again"))


def days_since(site: Site, move: Move) -> list[str]:
    """What became of the days, whoever began them, since the new version was checked out: "begin", "failed", "done"."""
    rows = files.read_lines(site.state / "journal.jsonl")
    begun = [n for n, row in enumerate(rows) if row.get("event") == "upgrade" and row.get("after") == move.after]
    return [str(row.get("phase")) for row in rows[begun[-1] :] if row.get("event") == "day"] if begun else []


def stopped_by_a_person(site: Site) -> bool:
    """Not by a restore, which is a step of going back and leaves everything stopped too."""
    wanted, rows = turn.read(site.state), files.read_lines(site.state / "journal.jsonl")
    last = [row["event"] for row in rows if row.get("event") in ("stop", "restore")][-1:]
    whole = not chat_volume.half_filled(site.state)
    return wanted is not None and wanted.wanted is Wanted.DOWN and whole and last == ["stop"]


def undo_for_a_timer(site: Site) -> bool:
    """Whether an upgrade that died was undone, and the day of before serves. For a timer that finds no upgrade alive.

    It is not, where the day came up since: the backup that would be put back has not what people have said since then. Nor
    where a person stopped everything. If it cannot be undone either, the version that is there has to do.
    """
    try:
        left = kept(site)
        if left is None or lock.held(site.state, LOCK) or stopped_by_a_person(site):
            return False
        if "done" in days_since(site, left):
            site.tell("an upgrade died after its day had come up: make upgrade, again or back")
            return False
        with lock.hold(site.state, LOCK, "undo an upgrade that died"):
            undo_a_dead_one(site)
            make(site, "day")
    except Exception as error:  # whatever it is, such as a note that another version left: the morning goes on
        site.tell(f"an upgrade that died could not be undone: {error}")
        return False
    return True


def keep(site: Site, move: Move) -> None:
    files.write_json(site.state / UNFINISHED, asdict(move))


def kept(site: Site) -> Move | None:
    path = site.state / UNFINISHED
    return Move(**json.loads(path.read_text(encoding="utf-8"))) if path.exists() else None


def commit(name: str) -> str:
    try:
        return git("rev-parse", "--verify", "--quiet", f"{name}^{{commit}}").strip()
    except GlueError as error:
        raise PreconditionFailed("there is no such version here", name, "git fetch --tags; git tag") from error


def check_out(site: Site, which: str) -> None:
    """What a person changed and the two versions have alike stays; raises GlueError, with nothing done, where they differ."""
    site.tell(f"version {which[:12]}")
    git("checkout", "--quiet", "--detach", which)


def git(*arguments: str) -> str:
    return commands.run(["git", "-C", str(HOME), *arguments], "git status; git stash keeps what you changed here").text


def make(site: Site, *target: str) -> str:
    """Of the version that is checked out now. Returns its last lines. Raises GlueError with them if it fails."""
    environment = dict(os.environ) | {"GLUE_PROFILE": site.settings.profile}
    site.tell(f"make {target[0]}")
    code, last_lines = commands.stream(["make", "--silent", "-C", str(HOME), *target], environment, site.tell, DEADLINE_SECONDS)
    if code != 0:
        raise GlueError(f"make {target[0]} failed", last_lines, f"make {target[0]}")
    return last_lines
