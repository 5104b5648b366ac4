"""What a peer's key runs in test_night.py, in the place of scripts/glue-peer: the real answers, on
a site of stand-ins for Docker and the trainer. python -m tests.peers.stand_in_peer FOLDER"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

from glue.clients.docker import Stacks
from glue.core import commands, settings
from glue.night import elsewhere, train
from glue.peers import answers, facts
from tests.faults.stand_ins import DockerThatMayDie, Ledger, StandInSite, StandInStacks


def open_site(folder: Path) -> StandInSite:
    """One that stand_ins.make_site made, in a process of its own."""
    state, ledger = folder / "state", Ledger(folder / "ledger.json")
    chosen = settings.load("rehearsal")
    small = dict.fromkeys(("NIGHT_FREE_BYTES", "MEMORY_RESERVE_BYTES"), "1")
    small |= {"STATE_DIR": str(state), "ROLE": "train"}
    chosen = replace(chosen, values=chosen.values | small)
    stacks = cast(Stacks, DockerThatMayDie(StandInStacks(ledger, state)))
    return StandInSite(chosen, stacks, lambda line: None, ledger)


def main(folder: Path) -> None:
    """Where the file dies-at names a request, it dies of that."""
    site, request = open_site(folder), os.environ["SSH_ORIGINAL_COMMAND"]
    dies_at = folder / "dies-at"
    if dies_at.exists() and request.startswith(dies_at.read_text()):
        os.kill(os.getpid(), 9)

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
    sys.stdout.write(answers.answer(site, request))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
