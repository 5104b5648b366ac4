"""Errors with what to do, and exit codes."""

from __future__ import annotations

from enum import IntEnum

from glue.core import redact


class Exit(IntEnum):
    """An interface: timers and scripts act on them."""

    DONE = 0
    FAILED = 1
    MISCONFIGURED = 2
    REFUSED = 3
    PRECONDITION = 10
    LOCKED = 11
    DAY_NOT_SERVING = 12
    OVERDUE = 13
    INTERRUPTED = 130


def steps(*lines: str) -> str:
    """Several things to do, or to choose from, as numbered lines."""
    return "\n".join(f"{number}. {line}" for number, line in enumerate(lines, 1))


class GlueError(Exception):
    """What is wrong, what was seen, and what to do: a line, or the lines of steps()."""

    exit_code = Exit.FAILED

    def __init__(self, what: str, saw: str, do: str) -> None:
        super().__init__(what)
        self.what, self.saw, self.do = map(redact.urls, (what, saw, do))

    def __str__(self) -> str:
        do = self.do.replace("\n", "\n        ")
        return f"ERROR {int(self.exit_code)}: {self.what}\n  saw:  {self.saw}\n  do:   {do}"


class Misconfigured(GlueError):
    exit_code = Exit.MISCONFIGURED


class Invalid(Misconfigured):
    """A wrong key or value in a person's file, in one line; do is a sentence."""

    def __str__(self) -> str:
        return f"ERROR {int(self.exit_code)}: {self.what}: {self.saw}. {self.do}"


class GateRefused(GlueError):
    """The end of a night whose adapter does not help. It is not a failure."""

    exit_code = Exit.REFUSED


class PreconditionFailed(GlueError):
    """Something is missing; nothing was changed."""

    exit_code = Exit.PRECONDITION


class PortInUse(PreconditionFailed):
    """Another program has a port of the day; nothing is broken."""


class Locked(GlueError):
    exit_code = Exit.LOCKED


class DayNotServing(GlueError):
    exit_code = Exit.DAY_NOT_SERVING
