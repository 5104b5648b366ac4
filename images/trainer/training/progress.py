"""progress.jsonl: one line a step, whose age is the trainer's heartbeat; and the end of the run."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path

from training import pause


class Progress:
    """Ends the run at the deadline with what it has learned so far."""

    def __init__(self, folder: Path, deadline_time: float) -> None:
        self.folder = folder
        self.file = (folder / "progress.jsonl").open("a", encoding="utf-8")
        self.deadline_time = deadline_time
        self.stopped_by_deadline = False
        self.step_seconds: list[float] = []
        self.began = time.monotonic()
        self.paused_seconds = 0.0

    def write(self, phase: str, **values: object) -> None:
        line = {"time": round(time.time(), 1), "phase": phase, **values}
        print(json.dumps(line), file=self.file, flush=True)

    def stop_soon(self) -> None:
        """Sets the deadline to now: the current step ends, and what was learned is saved."""
        self.deadline_time = 0.0

    def late(self) -> bool:
        return time.time() > self.deadline_time

    def begin(self, steps: int) -> None:
        self.write("train", step=0, steps=steps)
        self.began, self.step_seconds = time.monotonic(), []

    def give_way(self, *_: object) -> None:
        """A hook before a forward pass: waits while somebody is answered, or until the deadline."""
        began, told = time.monotonic(), -math.inf
        while pause.wanted(self.folder) and not self.late():
            if time.monotonic() - told > pause.HEARTBEAT_SECONDS:
                told = time.monotonic()
                self.write("paused")
            time.sleep(pause.LOOK_SECONDS)
        waited = time.monotonic() - began
        self.paused_seconds += waited
        self.began += waited  # no part of the step

    def step(self, step: int, steps: int, loss: float) -> bool:
        """Writes the line of a step that ended. Returns whether to stop here."""
        now = time.monotonic()
        self.step_seconds.append(now - self.began)
        self.began = now
        self.write("train", step=step, steps=steps, loss=round(loss, 4))
        self.stopped_by_deadline = self.late()
        return self.stopped_by_deadline

    def second_step(self, step: int, steps: int, loss: float) -> bool:
        """The same for the second stage, which the loss curve leaves out."""
        self.write("preferences", step=step, steps=steps, loss=round(loss, 4))
        self.stopped_by_deadline = self.late()
        return self.stopped_by_deadline
