"""Waiting, with a deadline and with what was last seen."""

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
    """done, a few words for people, and the value that was waited for."""

    done: bool
    words: str
    value: T | None = None


def next_moment(clock: str) -> float:
    """The Unix time at which clock, such as "07:00", comes next. Raises ValueError."""
    now = datetime.now()  # local, because the offset may change before then
    moment = datetime.combine(now.date(), time.fromisoformat(clock))
    return (moment if moment > now else moment + timedelta(days=1)).timestamp()


def until(
    what: str,
    look: Callable[[], Seen[T]],
    deadline_seconds: float,
    every_seconds: float = 0.5,
    do: str = "make status",
    error: Callable[[str, str, str], GlueError] = GlueError,
    tell: Callable[[str], None] = lambda words: None,
) -> Seen[T]:
    """Looks until done. tell gets the words of each look. Raises error at the deadline."""
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
        wrong = f"timed out after {deadline_seconds:.0f} s waiting for {what}"
        raise error(wrong, last.words, do) from None


@contextmanager
def beside(act: Callable[[threading.Event], object], end_seconds: float = 60) -> Iterator[None]:
    """Runs act in a thread while the block runs; its event is set when the block ends."""
    over = threading.Event()
    thread = threading.Thread(target=act, args=(over,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(timeout=end_seconds)
