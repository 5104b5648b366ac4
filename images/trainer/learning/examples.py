"""What a night learns from and is judged on: messages, examples and preferences."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Message:
    role: str
    content: str


@dataclass(frozen=True)
class Origin:
    """Where an example came from, so that it can be found and forgotten. Every field may be
    empty."""

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
        return next(
            (message.content for message in reversed(self.prompt) if message.role == "user"), ""
        )

    @property
    def asked(self) -> str:
        """The question; of a follow-up, the one before it too, without which it means nothing."""
        said = [message.content for message in self.prompt if message.role == "user"]
        return "\n".join(said[-2:])


@dataclass(frozen=True)
class Preference:
    """Two answers to one prompt, one of them preferred. chosen is empty if there was only a
    thumbs-down."""

    prompt: tuple[Message, ...]
    chosen: str
    rejected: str
    kind: str
    comment: str
    origin: Origin = Origin()


@dataclass(frozen=True)
class Dataset:
    """earlier: what was held out in earlier nights already, so that it shows what is forgotten and
    not what is learned."""

    train: tuple[Example, ...]
    held_out: tuple[Example, ...]
    general: tuple[Example, ...]
    replay: tuple[Example, ...] = ()
    earlier: tuple[Example, ...] = ()

    @property
    def learned(self) -> tuple[Example, ...]:
        return self.train + self.held_out + self.earlier
