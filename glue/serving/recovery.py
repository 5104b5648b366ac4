"""What a night that died leaves, undone. Under the lock for moves; the containers are the day's own
business."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

from glue.clients.adapter_store import Releases, shown
from glue.clients.site import Site
from glue.core import desired_state, journal
from glue.core.desired_state import Turn, Wanted
from glue.core.errors import PreconditionFailed

# the step of a night that begins once its adapter has answered a question through the front
AFTER_CONFIRMATION = "report"
FORGOTTEN_SECONDS = 86_400  # an unfinished folder of this age belongs to nobody who still writes


def undo(site: Site, alive: bool) -> None:
    """If the night whose turn it is has died: what it promoted and did not confirm is taken back,
    and its end is written down."""
    found = desired_state.read(site.state)
    if found is None or not found.night or alive:
        return
    step = journal.unfinished(site.state).get(found.night)
    if step is not None:
        take_back(site, found.night)
        journal.note(
            site.state, night=found.night, outcome="died", reason=f"in step {step}", adapter=None
        )
        site.tell(f"night {found.night} died in step {step}; nothing of it serves")
    desired_state.take(site.state, Turn(Wanted.DAY))
    tidy(site.state)


def take_back(site: Site, night: str) -> None:
    """The link goes back to what served before, if it is on an adapter of this night that no
    question has confirmed."""
    releases = site.releases
    current, step = (
        releases.current(),
        journal.unfinished(site.state).get(night, AFTER_CONFIRMATION),
    )
    if (
        step == AFTER_CONFIRMATION
        or current is None
        or releases.manifest(current).get("night") != night
    ):
        return
    try:
        history = releases.before()
    except PreconditionFailed:
        history = [None]
    site.tell(f"{current} was not confirmed: back to {shown(history[-1])}")
    releases.retreat(history)


def close_books(state: Path) -> None:
    """Under the night's own lock: every earlier night without an end has died, and is written down
    so."""
    for night, step in journal.unfinished(state).items():
        journal.note(state, night=night, outcome="died", reason=f"in step {step}", adapter=None)
    tidy(state)


def tidy(state: Path, now: float | None = None) -> None:
    """No night is alive: reserved room, what trainers left behind, and what is half written go back
    to the disk."""
    for reserve in (state / "nights").glob("*/reserve"):
        reserve.unlink()
    for scratch in (state / "nights").glob("*/scratch"):
        shutil.rmtree(scratch, ignore_errors=True)
    for half in Releases(state / "adapters").folder.glob(".unfinished-*"):
        if (now or time.time()) - half.lstat().st_mtime > FORGOTTEN_SECONDS:
            (
                half.unlink()
                if half.is_symlink() or half.is_file()
                else shutil.rmtree(half, ignore_errors=True)
            )
