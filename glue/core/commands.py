"""Runs programs of this machine to their end or deadline. Errors quote their output."""

from __future__ import annotations

import os
import queue
import select
import shutil
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import IO, Any

from glue.core.errors import GlueError, PreconditionFailed

LAST_CHARACTERS = 600
LAST_LINES = 15
END_SECONDS = 10.0  # from asking a program to end to killing it

Hear = Callable[[str], None]


@dataclass(frozen=True)
class Done:
    code: int
    text: str


@dataclass(frozen=True)
class Output:
    """What a program writes while it runs. deadline: by the monotonic clock; at the deadline
    late is raised."""

    descriptor: int
    deadline: float
    late: GlueError

    def read(self, size: int) -> bytes:
        """At most this many bytes; empty at the end."""
        left = self.deadline - time.monotonic()
        if left <= 0 or not select.select([self.descriptor], [], [], left)[0]:
            raise self.late
        return os.read(self.descriptor, size)


def run(
    argv: Sequence[str],
    do: str,
    source: IO[bytes] | None = None,
    output: IO[bytes] | None = None,
    environment: dict[str, str] | None = None,
    timeout_seconds: float = 600,
    fine: Sequence[int] = (0,),
) -> Done:
    """Returns its exit code and output. Raises PreconditionFailed if it is not installed, GlueError
    if it fails with a code that is not in fine."""
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
    late, deadline = hangs(argv, timeout_seconds, do), time.monotonic() + timeout_seconds
    with os.fdopen(
        os.memfd_create("words"), "w+b"
    ) as words:  # in memory: the disk may be what is full
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=words,
            start_new_session=True,
        )
        assert process.stdout is not None
        with process.stdout:
            output = Output(process.stdout.fileno(), deadline, late)
            try:
                yield output
                read_to_its_end(process, output)
            except BaseException:
                end(process)
                raise
        if process.returncode != 0:
            words.seek(0)
            raise failed(argv, process.returncode, words.read(), do)


def read_to_its_end(process: subprocess.Popen[bytes], output: Output) -> None:
    while output.read(2**16):
        pass
    try:
        process.wait(max(0.0, output.deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        raise output.late from None


def require_here(program: str, do: str) -> None:
    if shutil.which(program) is None:
        raise PreconditionFailed(f"{program} is not installed", "it is not on the PATH", do)


def hangs(argv: Sequence[str], timeout_seconds: float, do: str) -> GlueError:
    return GlueError(f"{' '.join(argv[:2])} hangs", f"no end after {timeout_seconds:.0f} s", do)


def failed(argv: Sequence[str], code: int, said: bytes, do: str) -> GlueError:
    words = said.decode(errors="replace").strip()[-LAST_CHARACTERS:]
    return GlueError(f"{' '.join(argv[:2])} failed", words or f"exit {code}", do)


def stream(
    command: list[str], environment: dict[str, str], hear: Hear, timeout_seconds: float
) -> tuple[int, str]:
    """Runs it to its end or the deadline; hear gets each line of output. Returns its exit code and
    last lines.

    At the deadline it and everything it started end within END_SECONDS. Raises what hear raises.
    """
    process = subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    lines: deque[str] = deque(maxlen=LAST_LINES)
    deadline = time.monotonic() + timeout_seconds
    try:
        for line in read_until(process, deadline):
            lines.append(line)
            hear(line)
        process.wait(max(0.0, deadline - time.monotonic()))
    except (TimeoutError, subprocess.TimeoutExpired):
        end(process)
    except BaseException:
        end(process)
        raise
    return process.returncode, "\n".join(lines)


def read_until(process: subprocess.Popen[str], deadline: float) -> Iterator[str]:
    """Each line of its output, read in a thread, as a pipe may never close. Raises TimeoutError at
    the deadline."""
    rows: queue.Queue[str | None] = queue.Queue()

    def read() -> None:
        assert process.stdout is not None
        with process.stdout:
            for line in process.stdout:
                rows.put(line.rstrip())
        rows.put(None)

    threading.Thread(target=read, daemon=True).start()
    while (left := deadline - time.monotonic()) > 0:
        try:
            line = rows.get(timeout=left)
        except queue.Empty:
            break
        if line is None:
            return
        yield line
    raise TimeoutError


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
    process.wait()


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Ignores the signals that end a program while the block runs."""
    before = {
        number: signal.signal(number, signal.SIG_IGN)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
