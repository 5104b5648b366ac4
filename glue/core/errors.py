"""Errors that a person must read, and the exit codes that timers and scripts act on."""

from __future__ import annotations

from enum import IntEnum

from glue.core import redact


class Exit(IntEnum):
    """Exit codes are an interface: timers and scripts act on them."""

    DONE = 0
    FAILED = 1
    MISCONFIGURED = 2
    REFUSED = 3
    PRECONDITION = 10
    LOCKED = 11
    DAY_NOT_SERVING = 12
    OVERDUE = 13
    INTERRUPTED = 130


class GlueError(Exception):
    """Something a person must read: what is wrong, what was seen, what to do."""

    exit_code = Exit.FAILED

    def __init__(self, what: str, saw: str, do: str) -> None:
        super().__init__(what)
        self.what, self.saw, self.do = map(redact.urls, (what, saw, do))

    def __str__(self) -> str:
        return f"ERROR {int(self.exit_code)}: {self.what}\n  saw:  {self.saw}\n  do:   {self.do}"


class Misconfigured(GlueError):
    exit_code = Exit.MISCONFIGURED


class GateRefused(GlueError):
    """The normal end of a night that did not help."""

    exit_code = Exit.REFUSED


class PreconditionFailed(GlueError):
    """Nothing was touched."""

    exit_code = Exit.PRECONDITION


class Locked(GlueError):
    exit_code = Exit.LOCKED


class DayNotServing(GlueError):
    exit_code = Exit.DAY_NOT_SERVING
