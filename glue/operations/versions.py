"""Versions of this repository, checked out by git so that no file is half of each."""

from __future__ import annotations

from glue.core import commands, files
from glue.core.errors import GlueError, PreconditionFailed
from glue.core.settings import REPOSITORY


def commit(name: str) -> str:
    try:
        return git("rev-parse", "--verify", "--quiet", f"{name}^{{commit}}").strip()
    except GlueError as error:
        do = "git fetch --tags; git tag"
        raise PreconditionFailed("this repository has no such version", name, do) from error


def require_unchanged(before: str, after: str) -> None:
    """Raises PreconditionFailed if a person changed a file that differs between the versions."""
    if changed := unlike(before, differing(before, after)):
        do = "git stash --include-untracked keeps them; settings belong in env/site.env"
        saw = f"in {REPOSITORY}: {files.names(sorted(changed))}"
        raise PreconditionFailed("files that the upgrade replaces were changed here", saw, do)


def check_out(before: str, after: str, which: str) -> None:
    """Replaces every file that differs between before and after by that of which, also after a git
    that was killed. which: before or after.

    Raises GlueError if a file is incomplete afterwards: git only warns of some.
    """
    # on the way back a lock belongs to a dead git; on the way there to a running one
    for name in ("index.lock", "HEAD.lock") if which == before else ():
        (REPOSITORY / git("rev-parse", "--git-path", name).strip()).unlink(missing_ok=True)
    paths = differing(before, after)
    there = paths & set(paths_of("ls-tree", "-r", which))
    if paths:
        git("reset", "--quiet", which, "--", *sorted(paths))
    for path in (REPOSITORY / name for name in paths - there):
        if path.is_file() or path.is_symlink():
            path.unlink()
    if there:
        git("checkout", "--quiet", which, "--", *sorted(there))
    git("checkout", "--quiet", "--detach", which)
    if broken := unlike(which, paths):
        do = "make room, or see who may write there (df -h; ls -l; lsattr), then make upgrade again"
        saw = files.names(sorted(broken))
        raise GlueError(f"git did not write all of {which[:12]}", saw, do)


def differing(before: str, after: str) -> set[str]:
    return set(paths_of("diff", "--no-renames", before, after))


def unlike(which: str, paths: set[str]) -> set[str]:
    """Those of the paths that differ from that version."""
    unknown = paths - set(paths_of("ls-tree", "-r", which))
    extra = {
        path for path in unknown if (REPOSITORY / path).exists() or (REPOSITORY / path).is_symlink()
    }
    return paths & set(paths_of("diff", "--no-renames", which)) | extra


def paths_of(verb: str, *arguments: str) -> list[str]:
    return git(verb, "-z", "--name-only", *arguments).split("\0")[:-1]


def git(*arguments: str) -> str:
    command = ["git", "-C", str(REPOSITORY), "--literal-pathspecs", *arguments]
    return commands.run(command, "git status; git stash keeps what you changed here").text
