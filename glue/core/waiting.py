"""Waiting, always with a deadline and always telling what was last seen."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from typing import Generic, TypeVar

import tenacity

from glue.core.errors import GlueError

T = TypeVar("T")


@dataclass(frozen=True)
class Seen(Generic[T]):
    """One look at the world: done or not, a few words for people, and what was waited for."""

    done: bool
    words: str
    value: T | None = None


def next_moment(clock: str) -> float:
    """The next moment at which the clock shows this time of day, such as "07:00", as a Unix
    time."""
    now = datetime.now()  # without an offset, which may be another one by then
    moment = datetime.combine(now.date(), time.fromisoformat(clock))
    return (moment if moment > now else moment + timedelta(days=1)).timestamp()


def until(
    what: str,
    look: Callable[[], Seen[T]],
    deadline_seconds: float,
    every_seconds: float = 0.5,
    do: str = "make status",
    error: type[GlueError] = GlueError,
    tell: Callable[[str], None] = lambda words: None,
) -> Seen[T]:
    """Looks until done. tell gets the words of each look. Raises `error` with the last words at the
    deadline."""
    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_result(lambda seen: not seen.done),
        stop=tenacity.stop_after_delay(deadline_seconds),
        wait=tenacity.wait_fixed(every_seconds),
    )

    def looked() -> Seen[T]:
        seen = look()
        tell(seen.words)
        return seen

    try:
        return retrying(looked)
    except tenacity.RetryError as failure:
        last = failure.last_attempt.result()
        raise error(
            f"{what} was waited for, {deadline_seconds:.0f} s long", last.words, do
        ) from None


@contextmanager
def beside(act: Callable[[threading.Event], object], end_seconds: float = 60) -> Iterator[None]:
    """act runs in a thread of its own for as long as the block does; its event says that it is
    over."""
    over = threading.Event()
    thread = threading.Thread(target=act, args=(over,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(timeout=end_seconds)
