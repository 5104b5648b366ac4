"""Runs programs of this machine to their end or deadline. Errors quote their output."""

from __future__ import annotations

import io
import os
import select
import shutil
import signal
import subprocess
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, NamedTuple

from glue.core.errors import GlueError, PreconditionFailed

LAST_CHARACTERS = 600
LAST_LINES = 15
END_SECONDS = 10.0  # from asking a program to end to killing it

HANGS = -256  # in place of an exit code; a signal's is -64 or more

Hear = Callable[[str], None]


class Done(NamedTuple):
    code: int
    text: str


class Hangs(GlueError):
    """A program that did not end by its deadline."""


class Output(io.RawIOBase):
    """What a program writes while it runs. At the deadline, by the monotonic clock, raises late."""

    def __init__(self, descriptor: int, deadline: float, late: Hangs) -> None:
        self.descriptor, self.deadline, self.late = descriptor, deadline, late

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        left = self.deadline - time.monotonic()
        if left <= 0 or not select.select([self.descriptor], [], [], left)[0]:
            raise self.late
        return os.readv(self.descriptor, [buffer])


def run(
    argv: Sequence[str],
    do: str,
    source: IO[bytes] | None = None,
    output: IO[bytes] | None = None,
    environment: dict[str, str] | None = None,
    timeout_seconds: float = 600,
    fine: Sequence[int] = (0,),
) -> Done:
    """Raises PreconditionFailed if it is not installed, GlueError for a code not in fine."""
    require_here(argv[0], do)
    try:
        done = subprocess.run(
            argv,
            stdin=source or subprocess.DEVNULL,
            stdout=output or subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=dict(os.environ) | (environment or {}),
            timeout=timeout_seconds,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise hangs(argv, timeout_seconds, do) from error
    if done.returncode not in fine:
        raise failed(argv, done.returncode, done.stderr or done.stdout or b"", do)
    return Done(done.returncode, (done.stdout or b"").decode(errors="replace"))


@contextmanager
def reading(argv: Sequence[str], do: str, timeout_seconds: float) -> Iterator[Output]:
    """The program's output as a stream, never held in memory as a whole. It ends with the block.
    Raises as run does."""
    require_here(argv[0], do)
    # what it says on stderr, in memory: the disk may be what is full
    with os.fdopen(os.memfd_create("errors"), "w+b") as errors:
        with started(argv, None, errors, timeout_seconds, do) as (process, output):
            yield output
        if process.returncode != 0:
            errors.seek(0)
            raise failed(argv, process.returncode, errors.read(), do)


@contextmanager
def started(
    argv: Sequence[str],
    environment: dict[str, str] | None,
    errors: int | IO[bytes],
    timeout_seconds: float,
    do: str = "",
) -> Iterator[tuple[subprocess.Popen[bytes], Output]]:
    """A program that runs during the block and ends after it, by itself or at the deadline. errors:
    where its stderr goes. Raises Hangs."""
    late, deadline = hangs(argv, timeout_seconds, do), time.monotonic() + timeout_seconds
    process = subprocess.Popen(
        argv,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=errors,
        start_new_session=True,
    )
    assert process.stdout is not None
    with process.stdout:
        output = Output(process.stdout.fileno(), deadline, late)
        try:
            yield process, output
            while output.read(2**16):
                pass
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            end(process)
            raise late from None
        except BaseException:
            end(process)
            raise


def start_detached(argv: Sequence[str], output: Path) -> None:
    """Starts a program that outlives this one. output: takes what it prints."""
    with output.open("wb") as file, Path(os.devnull).open("rb") as nothing:
        subprocess.Popen(argv, stdin=nothing, stdout=file, stderr=file, start_new_session=True)


def unheard(line: str) -> None:
    """For stream, where no one needs the lines."""


def require_here(program: str, do: str) -> None:
    if shutil.which(program) is None:
        raise PreconditionFailed(f"{program} is not installed", "not on the PATH", do)


def hangs(argv: Sequence[str], timeout_seconds: float, do: str) -> Hangs:
    return Hangs(f"{' '.join(argv[:2])} hangs", f"no end after {timeout_seconds:.0f} s", do)


def failed(argv: Sequence[str], code: int, said: bytes, do: str) -> GlueError:
    words = said.decode(errors="replace").strip()[-LAST_CHARACTERS:]
    return GlueError(f"{' '.join(argv[:2])} failed", words or f"exit {code}", do)


def stream(
    command: Sequence[str], environment: dict[str, str], hear: Hear, timeout_seconds: float
) -> tuple[int, str]:
    """Returns its exit code, or HANGS after the deadline, and its last lines. hear gets each line.
    At the deadline, or if hear raises, everything it started ends within END_SECONDS."""
    last: deque[str] = deque(maxlen=LAST_LINES)
    try:
        with started(command, environment, subprocess.STDOUT, timeout_seconds) as (process, output):
            for line in io.TextIOWrapper(io.BufferedReader(output), "utf-8", errors="replace"):
                last.append(line.rstrip())
                hear(last[-1])
    except Hangs:
        return HANGS, "\n".join(last)
    return process.returncode, "\n".join(last)


def end(process: subprocess.Popen[Any]) -> None:
    """Terminates it, and after END_SECONDS kills the remainder of its process group."""
    process.terminate()
    deadline = time.monotonic() + END_SECONDS
    with suppress(ProcessLookupError):
        while time.monotonic() < deadline:
            process.poll()
            os.killpg(process.pid, 0)
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGKILL)
    with suppress(subprocess.TimeoutExpired):  # nothing can kill one that hangs in a driver
        process.wait(END_SECONDS)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Ignores the signals that end a program while the block runs."""
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, signal.SIG_IGN) for number in signals}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
