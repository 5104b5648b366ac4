"""To another version of this repository, and back by itself if that one does not serve.

A version is a commit: code, compose files and image references together. What is run of the new one
is its own `make`, in
processes of their own, so that no old code meets new files. state/upgrade.json is there from before
the first change to after
the last; one that a death left behind is undone by timers and by the next `make upgrade`, unless
people may have chatted since.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from io import StringIO
from typing import Any

from dotenv import dotenv_values

from glue.clients import host
from glue.clients.site import Site
from glue.core import commands, desired_state, files, journal, lock, waiting
from glue.core.commands import uninterrupted
from glue.core.desired_state import Wanted
from glue.core.errors import DayNotServing, GlueError, Locked, PreconditionFailed
from glue.core.names import MARK
from glue.core.settings import REPOSITORY
from glue.core.waiting import Seen
from glue.operations import backup
from glue.operations.restore import version
from glue.serving.model import MOVE_WAIT_SECONDS

LOCK = lock.UPGRADE
UNFINISHED = backup.UPGRADE
DEADLINE_SECONDS = 6 * 3600  # a new model is 19 GB and comes over the office's line
TIMER_SECONDS = (
    900  # of each make where a timer undoes: its own day is to be tried before systemd ends it
)
QUESTION = "Who are you?"
ASK_SECONDS = 30


@dataclass(frozen=True)
class Move:
    """From one commit to another. migrates: their Open WebUI differs, so the chat's database may be
    changed one way.

    served: the new version's day was begun by the upgrade itself; see days_since for those that
    somebody else began.
    own: the paths, of those that the two do not have alike, that a person had changed; None in a
    note of before that was asked.
    """

    before: str
    after: str
    backup: str
    migrates: bool
    served: bool = False
    own: Sequence[str] | None = None


def upgrade(site: Site, to: str) -> dict[str, Any]:
    """Backup, the new version's images and checks, its day, a question. Returns what was done.

    Raises PreconditionFailed or Locked with nothing touched; GlueError with the old version serving
    again; DayNotServing if not
    even that.
    """
    with lock.hold(site.state, LOCK, "an upgrade"):
        undo_a_dead_one(site)
        before, after = commit("HEAD"), commit(to)
        if before == after:
            return {"version": after, "changed": False}
        migrates = require_possible(site, before, after)
        made = backup.backup(site)["backup"]
        with lock.hold(site.state, backup.LOCK, "an upgrade that may need its backup"):
            go_or_go_back(
                site,
                to,
                Move(before, after, made, migrates, own=sorted(changed_here(before, after))),
            )
    return {"version": after, "changed": True, "before": before, "backup": made}


def go_or_go_back(site: Site, to: str, move: Move) -> None:
    keep(site, move)
    try:
        go(site, move)
    except Locked:  # somebody brings up the day, and nothing was changed yet
        (site.state / UNFINISHED).unlink()
        raise
    except BaseException as error:
        with uninterrupted():
            go_back(site, move, error)
        what, saw = (
            f"{to} does not serve; {move.before[:12]} serves again",
            f"{type(error).__name__}: {error}",
        )
        raise GlueError(what, saw, "read it, then try another version") from error
    finish(site, move)


def finish(site: Site, move: Move) -> None:
    journal.note(site.state, event="upgrade", result="done", **asdict(move))
    (site.state / UNFINISHED).unlink()


def require_possible(site: Site, before: str, after: str) -> bool:
    """Whether Open WebUI changes. Raises PreconditionFailed where it would become an older one,
    Locked during a night."""
    if lock.held(site.state, lock.NIGHT):
        raise Locked("a night runs", f"{site.state / lock.NIGHT} is held", "upgrade by day")
    require_room(site)
    old, new = (open_webui(which) for which in (before, after))
    if version(new) < version(old):
        fitting = [folder for folder in backup.there(site) if made_with(folder) == new]
        do = (
            f"git checkout {after[:12]}; make setup; make restore REPLACE=1"
            f" FROM={fitting[-1] if fitting else '<a backup of it>'}"
        )
        raise PreconditionFailed(
            "an older Open WebUI cannot read the newer one's database", f"{old}, to {new}", do
        )
    return old != new


def require_room(site: Site) -> None:
    """Raises PreconditionFailed where git, there or on the way back, could run out of room in the
    midst of a file."""
    free, least = host.free_disk_bytes(REPOSITORY), site.settings.number("DISK_FREE_BYTES")
    if free < least:
        saw = f"{host.readable(free)} are free, DISK_FREE_BYTES is {host.readable(least)}"
        raise PreconditionFailed(
            f"too little room on the disk of {REPOSITORY}",
            saw,
            "make prune; docker system df; df -h",
        )


def open_webui(which: str) -> str:
    """The reference that a version names."""
    text = git("show", f"{which}:env/images.env")
    return (dotenv_values(stream=StringIO(text)).get("OPEN_WEBUI_IMAGE") or "").partition("@")[0]


def made_with(folder: Any) -> str:
    manifest = files.read_json_if_whole(folder / "manifest.json", {})
    return str(manifest.get("images", {}).get("OPEN_WEBUI_IMAGE")).partition("@")[0]


def go(site: Site, move: Move) -> None:
    """Raises GlueError at the first thing that is not as it should be."""
    with lock.hold(site.state, lock.MOVE, "check out another version", MOVE_WAIT_SECONDS):
        journal.note(site.state, event="upgrade", result="begun", after=move.after)
        check_out(site, move, move.after)
    make(site, "setup")
    keep(site, replace(move, served=True))
    make(site, "day")
    ask(site)


def ask(site: Site) -> None:
    """One answer of the night desk's, or none, is no fault yet: the door may have found the model
    busy just then."""

    def look() -> Seen[None]:
        try:
            answer = make(site, "ask", f"Q={QUESTION}")
        except GlueError as error:
            return Seen(False, error.saw)
        return Seen(bool(answer.strip()) and MARK not in answer, answer or "nothing")

    waiting.until(
        "the new version's model", look, ASK_SECONDS, every_seconds=2, do="make logs SERVICE=vllm"
    )


def go_back(site: Site, move: Move, why: BaseException, seconds: float = DEADLINE_SECONDS) -> None:
    """Raises DayNotServing, with what to type, if the old version does not serve again either.
    seconds: for each make."""
    site.tell(f"going back to {move.before[:12]}: {why}")
    restore = ["restore", "REPLACE=1", f"FROM={move.backup}"]
    try:
        now = kept(site) or move
        with lock.hold(site.state, lock.MOVE, "check out the version of before", MOVE_WAIT_SECONDS):
            check_out(site, now, now.before)
        make(site, "setup", seconds=seconds)
        begun = (
            now.served
            or "begin" in days_since(site, now)
            or bool(desired_state.half_filled(site.state))
        )
        if begun and now.migrates:
            make(site, *restore, seconds=seconds)
            with suppress(
                OSError
            ):  # put back once and never again: from now on people may chat on it
                keep(site, replace(now, migrates=False))
        if begun:
            make(site, "day", seconds=seconds)
    except (GlueError, OSError) as error:
        do = f"git checkout {move.before[:12]}; make setup; make {' '.join(restore)}; make day"
        raise DayNotServing(
            "neither the new version nor the old one serves", f"{error}; first: {why}", do
        ) from error
    journal.note(site.state, event="upgrade", result="undone", reason=str(why), **asdict(now))
    (site.state / UNFINISHED).unlink(missing_ok=True)


def undo_a_dead_one(site: Site, seconds: float = DEADLINE_SECONDS) -> None:
    """One whose day came up is taken as done: its backup has not what people have said since.
    seconds: for each make."""
    left = kept(site)
    if left is None:
        return
    with lock.hold(site.state, backup.LOCK, "undo an upgrade that died"):
        if is_done(site, left):
            site.tell(f"an upgrade died after its day had come up: {left.after[:12]} stays")
            finish(site, left)
        else:
            go_back(
                site,
                left,
                GlueError("an upgrade died on its way", left.after, "make upgrade again"),
                seconds,
            )


def is_done(site: Site, move: Move) -> bool:
    """Whether the new version's day came up, and no going back had begun: people may have chatted
    since the backup."""
    return "done" in days_since(site, move) and commit("HEAD") == move.after


def days_since(site: Site, move: Move) -> list[str]:
    """What became of the days, whoever began them, since the new version was checked out: "begin",
    "failed", "done"."""
    rows = files.read_lines(site.state / "journal.jsonl")
    begun = [
        n
        for n, row in enumerate(rows)
        if row.get("event") == "upgrade" and row.get("after") == move.after
    ]
    return (
        [str(row.get("phase")) for row in rows[begun[-1] :] if row.get("event") == "day"]
        if begun
        else []
    )


def stopped_by_a_person(site: Site) -> bool:
    """Not by a restore, which is a step of going back and leaves everything stopped too."""
    wanted, rows = desired_state.read(site.state), files.read_lines(site.state / "journal.jsonl")
    last = [row["event"] for row in rows if row.get("event") in ("stop", "restore")][-1:]
    whole = not desired_state.half_filled(site.state)
    return wanted is not None and wanted.wanted is Wanted.DOWN and whole and last == ["stop"]


def undo_for_a_timer(site: Site) -> bool:
    """Whether an upgrade that died was undone, and the day of before serves. For a timer that finds
    no upgrade alive.

    It is not, where the day came up since: the backup that would be put back has not what people
    have said since then. Nor
    where a person stopped everything, nor during a night. If it cannot be undone either, the
    version that is there has to do.
    """
    try:
        left = kept(site)
        if (
            left is None
            or any(lock.held(site.state, name) for name in (LOCK, lock.NIGHT))
            or stopped_by_a_person(site)
        ):
            return False
        if is_done(site, left):
            site.tell("an upgrade died after its day had come up: make upgrade, again or back")
            return False
        with lock.hold(site.state, LOCK, "undo an upgrade that died"):
            undo_a_dead_one(site, TIMER_SECONDS)
            make(site, "day", seconds=TIMER_SECONDS)
    except (
        Exception
    ) as error:  # whatever it is, such as a note that another version left: the morning goes on
        site.tell(f"an upgrade that died could not be undone: {error}")
        return False
    return True


def keep(site: Site, move: Move) -> None:
    files.write_json(site.state / UNFINISHED, asdict(move))


def kept(site: Site) -> Move | None:
    """The note, if there is one. What another version of this program also wrote into it is left
    out."""
    path = site.state / UNFINISHED
    if not path.exists():
        return None
    known = {field.name for field in fields(Move)}
    try:
        found = files.read_json(path, {})
        return Move(**{key: value for key, value in found.items() if key in known})
    except (files.Damaged, TypeError) as error:
        do = f"see which version serves (git log -1; make ask Q=...), then rm {path}"
        raise GlueError(
            "the note of an upgrade that died cannot be read", f"{path}: {error}", do
        ) from error


def commit(name: str) -> str:
    try:
        return git("rev-parse", "--verify", "--quiet", f"{name}^{{commit}}").strip()
    except GlueError as error:
        raise PreconditionFailed(
            "there is no such version here", name, "git fetch --tags; git tag"
        ) from error


def check_out(site: Site, move: Move, which: str) -> None:
    """Under the lock for moves. What a person changed and the two versions have alike stays.

    There: raises GlueError, with nothing done, where they differ. Back: also from what a git left
    that was killed or had no room.
    Raises GlueError if a file is not whole afterwards: git itself only warns of some.
    """
    site.tell(f"version {which[:12]}")
    paths = set() if move.own is None else differing(move.before, move.after) - set(move.own)
    if which == move.before:
        put_back(which, paths)
    git("checkout", "--quiet", "--detach", which)
    if broken := unlike(which, paths):
        do = "make room, or see who may write there (df -h; ls -l; lsattr), then make upgrade again"
        raise GlueError(f"git did not write all of {which[:12]}", ", ".join(sorted(broken)), do)


def put_back(which: str, paths: set[str]) -> None:
    """These paths become what that version has of them, whatever is there, and locks of a git that
    died go."""
    for name in ("index.lock", "HEAD.lock"):
        (REPOSITORY / git("rev-parse", "--git-path", name).strip()).unlink(missing_ok=True)
    there = paths & set(names("ls-tree", "-r", which))
    if paths:
        git("reset", "--quiet", which, "--", *sorted(paths))
    for file in (REPOSITORY / path for path in paths - there):
        if file.is_file() or file.is_symlink():
            file.unlink()
    if there:
        git("checkout", "--quiet", which, "--", *sorted(there))


def differing(before: str, after: str) -> set[str]:
    return set(names("diff", "--no-renames", before, after))


def changed_here(before: str, after: str) -> set[str]:
    """Of the paths that the two do not have alike, those that a person has changed, or put a file
    of their own at."""
    return unlike(before, differing(before, after))


def unlike(which: str, paths: set[str]) -> set[str]:
    """Those of the paths that are not here as that version, which is checked out, has them."""
    unknown = paths - set(names("ls-tree", "-r", which))
    extra = {
        path for path in unknown if (REPOSITORY / path).exists() or (REPOSITORY / path).is_symlink()
    }
    return paths & set(names("diff", "--no-renames", which)) | extra


def names(verb: str, *arguments: str) -> list[str]:
    return git(verb, "-z", "--name-only", *arguments).split("\0")[:-1]


def git(*arguments: str) -> str:
    command = ["git", "-C", str(REPOSITORY), "--literal-pathspecs", *arguments]
    return commands.run(command, "git status; git stash keeps what you changed here").text


def make(site: Site, *target: str, seconds: float = DEADLINE_SECONDS) -> str:
    """Of the version that is checked out now. Returns its last lines. Raises GlueError with them if
    it fails."""
    environment = dict(os.environ) | {"GLUE_PROFILE": site.settings.profile}
    site.tell(f"make {target[0]}")
    code, last_lines = commands.stream(
        ["make", "--silent", "-C", str(REPOSITORY), *target], environment, site.tell, seconds
    )
    if code != 0:
        raise GlueError(f"make {target[0]} failed", last_lines, f"make {target[0]}")
    return last_lines
