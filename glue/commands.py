"""Programs of this machine, run to their end: argv in, words out, and an error that says what they said."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO

from glue.types import GlueError, PreconditionFailed

LAST_CHARACTERS = 600


@dataclass(frozen=True)
class Done:
    code: int
    text: str


def run(
    argv: Sequence[str],
    do: str,
    source: IO[bytes] | None = None,
    output: IO[bytes] | None = None,
    environment: dict[str, str] | None = None,
    timeout_seconds: float = 600,
    fine: Sequence[int] = (0,),
) -> Done:
    """text: what it wrote, unless output takes that. Raises PreconditionFailed if it is not here, GlueError if it failed."""
    if shutil.which(argv[0]) is None:
        raise PreconditionFailed(f"there is no {argv[0]} here", "none on the PATH", do)
    done = subprocess.run(
        argv,
        stdin=source or subprocess.DEVNULL,
        stdout=output or subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=dict(os.environ) | (environment or {}),
        timeout=timeout_seconds,
        check=False,
    )
    if done.returncode not in fine:
        words = (done.stderr or done.stdout or b"").decode(errors="replace").strip()
        raise GlueError(f"{' '.join(argv[:2])} failed", words[-LAST_CHARACTERS:] or f"exit {done.returncode}", do)
    return Done(done.returncode, (done.stdout or b"").decode(errors="replace"))
