"""What the rooms of this house hand each other: modes, observations, examples, verdicts, and errors with exit codes."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum, StrEnum

from glue import redact


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


class Mode(StrEnum):
    DAY = "day"
    NIGHT = "night"
    MOVING = "moving"
    DOWN = "down"


@dataclass(frozen=True)
class Service:
    """One container as Docker sees it. health is "" for a container without a health check.

    fault: what the health check of an unhealthy one printed last.
    """

    name: str
    state: str
    health: str = ""
    address: str = ""
    restarts: int = 0
    exit_code: int = 0
    fault: str = ""

    @property
    def words(self) -> str:
        return ": ".join(filter(None, (f"{self.state} {self.health}".strip(), self.fault)))

    @property
    def serves(self) -> bool:
        return self.state == "running" and self.health in ("", "healthy")


Services = dict[str, Service]


@dataclass(frozen=True)
class Message:
    role: str
    content: str


@dataclass(frozen=True)
class Origin:
    """Where an example came from, so that it can be found and forgotten. Every field may be empty."""

    kind: str = ""
    chat: str = ""
    user: str = ""
    rating: str = ""
    message: str = ""
    document: str = ""
    note: str = ""


@dataclass(frozen=True)
class Example:
    """A prompt as the model saw it by day, the answer that was right, and where both came from.

    conversation: what is split as one: a chat, a document or a term.
    """

    prompt: tuple[Message, ...]
    answer: str
    source: str
    conversation: str
    origin: Origin = Origin()

    @property
    def question(self) -> str:
        return next((message.content for message in reversed(self.prompt) if message.role == "user"), "")


@dataclass(frozen=True)
class Preference:
    """Two answers to one prompt, of which somebody preferred one. chosen is empty where there was only a thumbs-down."""

    prompt: tuple[Message, ...]
    chosen: str
    rejected: str
    kind: str
    comment: str
    origin: Origin = Origin()


@dataclass(frozen=True)
class Dataset:
    """earlier: what was held out in earlier nights already, so that it shows what is forgotten and not what is learned."""

    train: tuple[Example, ...]
    held_out: tuple[Example, ...]
    general: tuple[Example, ...]
    replay: tuple[Example, ...] = ()
    earlier: tuple[Example, ...] = ()

    @property
    def learned(self) -> tuple[Example, ...]:
        return self.train + self.held_out + self.earlier


@dataclass(frozen=True)
class Verdict:
    """promote, with the reasons in plain words and the figures behind them. faults: each refusal's short name, for machines."""

    promote: bool
    reasons: tuple[str, ...]
    figures: dict[str, float] = field(default_factory=dict)
    faults: tuple[str, ...] = ()
