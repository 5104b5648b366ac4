"""Upgrades to another version of this repository, and back if that one does not serve.

A version is a commit: code, compose files and image references together. Its own `make` runs it in
separate processes, so that old code never reads new files. state/upgrade.json exists from before
the first change to after the last. If an upgrade dies, timers start nothing, and the next `make
upgrade` finishes or undoes it.
"""

from __future__ import annotations

import os
from contextlib import nullcontext, suppress
from dataclasses import asdict, dataclass, fields, replace
from io import StringIO
from pathlib import Path
from typing import Any

from dotenv import dotenv_values

from glue.clients import host
from glue.clients.site import Site
from glue.core import commands, desired_state, files, image_tags, journal, lock, waiting
from glue.core.commands import uninterrupted
from glue.core.errors import DayNotServing, GlueError, Locked, PreconditionFailed
from glue.core.names import MARK
from glue.core.settings import REPOSITORY
from glue.core.upgrade_note import NOTE, came_up, days_since
from glue.core.waiting import Seen
from glue.operations import backup, versions
from glue.serving.model import SWITCH_WAIT_SECONDS

DEADLINE_SECONDS = 6 * 3600  # of each make: a new model is 19 GB and comes over the office's line
QUESTION = "Who are you?"
ASK_SECONDS = 30


@dataclass(frozen=True)
class Move:
    """An upgrade, as in state/upgrade.json.

    before, after: commits. migrates: they have different versions of Open WebUI, which changes the
    database one way. served: a day started on the new version. undoing: going back has started.
    """

    before: str
    after: str
    backup: str
    migrates: bool
    served: bool = False
    undoing: bool = False


def upgrade(site: Site, to: str) -> dict[str, Any]:
    """Makes a backup, checks out the version, sets it up, starts the day and asks a question.

    Raises PreconditionFailed or Locked with nothing changed; GlueError if the old version serves
    again; DayNotServing if that one does not serve either.
    """
    with lock.hold(site.state, lock.UPGRADE, "an upgrade"):
        end_a_dead_one(site)
        before, after = versions.commit("HEAD"), versions.commit(to)
        if before == after:
            return {"version": after, "changed": False}
        migrates = require_possible(site, before, after)
        made = backup.backup(site)["backup"]
        with lock.hold(site.state, backup.LOCK, "an upgrade that may need its backup"):
            go_or_go_back(site, to, Move(before, after, made, migrates))
    return {"version": after, "changed": True, "before": before, "backup": made}


def go_or_go_back(site: Site, to: str, move: Move) -> None:
    try:
        go(site, move)
    except BaseException as error:
        if not (site.state / NOTE).exists():  # nothing was changed yet
            raise
        with uninterrupted():
            go_back(site, move, error)
        what = f"{to} does not serve; {move.before[:12]} serves again"
        saw, do = f"{type(error).__name__}: {error}", "correct the cause, or use another version"
        raise GlueError(what, saw, do) from error
    end(site, move, "done")


def end(site: Site, move: Move, result: str, reason: str = "") -> None:
    """result: "done" or "undone"."""
    journal.note(site.state, event="upgrade", result=result, reason=reason, **asdict(move))
    (site.state / NOTE).unlink(missing_ok=True)


# ---------------------------------------------------------------------- before it


def require_possible(site: Site, before: str, after: str) -> bool:
    """Whether Open WebUI changes. Raises PreconditionFailed if to an older one, Locked at night."""
    if lock.held(site.state, lock.TRAINING):
        what = "cannot upgrade while a night is running"
        raise Locked(what, lock.holder(site.state, lock.TRAINING), lock.WAIT)
    versions.require_unchanged(before, after)
    require_room(site)
    old, new = open_webui(before), open_webui(after)
    if image_tags.is_older(new, old):
        fitting = [folder for folder in backup.there(site) if made_with(folder) == new]
        source = fitting[-1] if fitting else "<a backup of it>"
        do = f"git checkout {after[:12]}; make setup; make restore REPLACE=1 FROM={source}"
        what = "an older Open WebUI cannot read the newer one's database"
        raise PreconditionFailed(what, f"{old}, to {new}", do)
    return old != new


def require_room(site: Site) -> None:
    """Raises PreconditionFailed if git could run out of disk space while it writes a file."""
    free, least = host.free_disk_bytes(REPOSITORY), site.settings.number("DISK_FREE_BYTES")
    if free < least:
        saw = f"{host.readable(free)} are free, DISK_FREE_BYTES is {host.readable(least)}"
        do = "make prune; docker system df; df -h"
        raise PreconditionFailed(f"too little room on the disk of {REPOSITORY}", saw, do)


def open_webui(which: str) -> str:
    """Its image in a version, without the digest."""
    text = versions.git("show", f"{which}:env/images.env")
    return (dotenv_values(stream=StringIO(text)).get("OPEN_WEBUI_IMAGE") or "").partition("@")[0]


def made_with(folder: Path) -> str:
    manifest = files.read_json_if_whole(folder / files.MANIFEST, {})
    return str(manifest.get("images", {}).get("OPEN_WEBUI_IMAGE")).partition("@")[0]


# ---------------------------------------------------------------------- there and back


def go(site: Site, move: Move) -> None:
    with lock.hold(site.state, lock.SWITCH, "check out another version", SWITCH_WAIT_SECONDS):
        versions.require_unchanged(move.before, move.after)
        keep(site, move)
        journal.note(site.state, event="upgrade", result="begun", after=move.after)
        site.tell(f"version {move.after[:12]}")
        versions.check_out(move.before, move.after, move.after)
    make(site, "setup")
    keep(site, replace(move, served=True))
    make(site, "day")
    ask(site)


def ask(site: Site) -> None:
    """Asks again after an error or an answer of the night desk: the model may be busy."""

    def look() -> Seen[None]:
        try:
            answer = make(site, "ask", f"Q={QUESTION}")
        except GlueError as error:
            return Seen(False, error.saw)
        return Seen(bool(answer.strip()) and MARK not in answer, answer or "nothing")

    what, do = "the new version's model", "make logs SERVICE=vllm"
    waiting.until(what, look, ASK_SECONDS, every_seconds=2, do=do)


def go_back(site: Site, move: Move, why: BaseException) -> None:
    """Raises DayNotServing, with the commands to type, if the old version does not serve either."""
    site.tell(f"going back to {move.before[:12]}: {why}")
    restore = ["restore", "REPLACE=1", f"FROM={move.backup}"]
    try:
        with lock.hold(site.state, lock.SWITCH, "check out the old version", SWITCH_WAIT_SECONDS):
            now = as_undoing(site, kept(site) or move)
            versions.check_out(now.before, now.after, now.before)
        make(site, "setup")
        if now.served and now.migrates:
            make(site, *restore)
            # only once: from now on people may chat on it
            keep(site, replace(now, migrates=False))
        if now.served:
            make(site, "day")
    except (GlueError, OSError) as error:
        do = f"git checkout {move.before[:12]}; make setup; make {' '.join(restore)}; make day"
        what = "neither the new version nor the old one serves"
        raise DayNotServing(what, f"{error}; first: {why}", do) from error
    end(site, now, "undone", str(why))


def as_undoing(site: Site, move: Move) -> Move:
    """A day that a person started on the new version may have changed the database."""
    began = "begin" in days_since(site.state, move.after)
    served = move.served or began or bool(desired_state.unfinished_restore(site.state))
    return keep(site, replace(move, served=served, undoing=True))


def end_a_dead_one(site: Site) -> None:
    """Finishes an upgrade whose day started: the backup lacks later messages. Undoes any other."""
    left = kept(site)
    if left is None:
        return
    with lock.hold(site.state, backup.LOCK, "end an upgrade that died"):
        if came_up(site.state, asdict(left)):
            site.tell(f"an upgrade died after its day had come up: {left.after[:12]} stays")
            end(site, left, "done")
        else:
            go_back(site, left, GlueError("the upgrade died", left.after, "make upgrade"))


def keep(site: Site, move: Move) -> Move:
    """On the way back a full disk is ignored."""
    with suppress(OSError) if move.undoing else nullcontext():
        files.write_json(site.state / NOTE, asdict(move))
    return move


def kept(site: Site) -> Move | None:
    """The note, without keys of other versions of glue; None if there is none."""
    path = site.state / NOTE
    if not path.exists():
        return None
    known = {field.name for field in fields(Move)}
    try:
        found = files.read_json(path, {})
        return Move(**{key: value for key, value in found.items() if key in known})
    except (files.Damaged, TypeError) as error:
        what = "the note of an upgrade that died cannot be read"
        do = f"see which version serves (git log -1; make ask Q=...), then rm {path}"
        raise GlueError(what, f"{path}: {error}", do) from error


def make(site: Site, *target: str) -> str:
    """Runs make in the version that is checked out. Returns its last lines."""
    site.tell(f"make {target[0]}")
    command = ["make", "--silent", "-C", str(REPOSITORY), *target]
    environment = dict(os.environ) | {"GLUE_PROFILE": site.settings.profile}
    code, last_lines = commands.stream(command, environment, site.tell, DEADLINE_SECONDS)
    if code != 0:
        raise GlueError(f"make {target[0]} failed", last_lines, f"make {target[0]}")
    return last_lines
