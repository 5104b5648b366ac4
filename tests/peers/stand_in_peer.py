"""What a peer's key runs in test_training.py, in the place of scripts/glue-peer: the real answers,
on a site of stand-ins for Docker and the trainer. python -m tests.peers.stand_in_peer FOLDER

FOLDER/fault, where there is one, is "<request> <what>". In such a request, or in the training that
it begins, it dies: at once (what is empty), once before it answers ("answer"), when it calls a
function ("glue.night.train.job"), or halfway in a file ("half"). Or its disk is full ("full"), or
its link is cut halfway in a file, once ("cut").
"""

from __future__ import annotations

import errno
import os
import pkgutil
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO, cast

from glue.clients.docker import Stacks
from glue.core import commands, settings
from glue.machine import doctor
from glue.night import elsewhere, train
from glue.peers import answers, facts
from tests.faults import stand_ins
from tests.faults.stand_ins import DockerThatMayDie, Ledger, StandInSite, StandInStacks

CUT_SECONDS = 4


def open_site(folder: Path) -> StandInSite:
    """One that stand_ins.make_site made, in a process of its own."""
    state, ledger = folder / "state", Ledger(folder / "ledger.json")
    chosen = settings.load("rehearsal")
    small = dict.fromkeys(("NIGHT_FREE_BYTES", "MEMORY_RESERVE_BYTES"), "1")
    small |= {"STATE_DIR": str(state), "ROLE": "train"}
    chosen = replace(chosen, values=chosen.values | small)
    stacks = cast(Stacks, DockerThatMayDie(StandInStacks(ledger, state)))
    return StandInSite(chosen, stacks, lambda line: None, ledger)


def die(*_: object) -> None:
    stand_ins.die()


def cut_the_link() -> None:
    """The session's sshd falls silent, and is gone later."""
    session = os.getppid()
    os.kill(session, signal.SIGSTOP)
    time.sleep(CUT_SECONDS)
    os.kill(session, signal.SIGKILL)
    die()


def fail(what: str, fault: Path) -> None:
    """Prepares a fault that comes later."""

    def copy_half(source: IO[bytes], target: IO[bytes]) -> None:
        if what == "full":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        target.write(source.read(4))
        target.flush()
        if what == "cut":
            fault.unlink()
            cut_the_link()
        die()

    if what in ("half", "full", "cut"):
        shutil.copyfileobj = copy_half  # type: ignore[assignment]
    elif what != "answer":
        module, _, name = what.rpartition(".")
        setattr(pkgutil.resolve_name(module), name, die)


def main(folder: Path) -> None:
    site, request = open_site(folder), os.environ["SSH_ORIGINAL_COMMAND"]

    def train_here(argv: Sequence[str], output: Path) -> None:
        """A fork instead of another python -m glue, which would need a real Docker."""
        if os.fork():
            return
        os.setsid()
        with output.open("wb") as file:
            for number in (0, 1, 2):
                os.dup2(file.fileno(), number)
        train.LOOK_SECONDS = 0.01
        elsewhere.train(site, *argv[-3:])
        os._exit(0)

    commands.start_detached = train_here
    facts.image = lambda site, reference: "stand-in"
    facts.version = lambda: "a"
    doctor.require = lambda site, aim: None
    fault = folder / "fault"
    verb, _, what = (fault.read_text() if fault.exists() else "").partition(" ")
    comes = request.split(" ")[0] == verb
    if comes and not what:
        die()
    if "." in what:  # the training that dies; in a status too, which tells of it
        answers.BEGIN_SECONDS = 1
    if comes:
        fail(what, fault)
    answer = answers.answer(site, request)
    if comes and what == "answer":
        fault.unlink()
        die()
    sys.stdout.write(answer)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
