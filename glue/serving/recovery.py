"""Undoes what a dead night changed, under the switch lock. day.py handles containers."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

from glue.clients.adapter_store import AdapterStore, shown
from glue.clients.site import Site
from glue.core import desired_state, journal
from glue.core.desired_state import DesiredState, Wanted
from glue.core.errors import PreconditionFailed

FORGOTTEN_SECONDS = 86_400  # an unfinished folder of this age has no writer any more


def undo(site: Site, alive: bool) -> None:
    """Rolls back and records the desired night if it died. alive: the training lock is held."""
    found = desired_state.read(site.state)
    if found is None or not found.night or alive:
        return
    step = journal.unfinished(site.state).get(found.night)
    if step is not None:
        take_back(site, found.night)
        record_death(site.state, found.night, step)
        site.tell(f"night {found.night} died in step {step}; its adapter is not promoted")
    desired_state.write(site.state, DesiredState(Wanted.DAY))
    tidy(site.state)


def take_back(site: Site, night: str) -> None:
    """Rolls back an adapter of this night that has not answered the smoke question."""
    store = site.store
    current = store.current()
    if current is None or store.manifest(current).get("night") != night:
        return
    if night not in journal.unfinished(site.state) or journal.is_confirmed(site.state, night):
        return
    try:
        history = store.before()
    except PreconditionFailed:
        history = [None]
    site.tell(f"{current} was not confirmed: rolling back to {shown(history[-1])}")
    store.retreat(history)


def record_dead_nights(state: Path) -> None:
    """Under the training lock: every earlier night without an end has died."""
    for night, step in journal.unfinished(state).items():
        record_death(state, night, step)
    tidy(state)


def record_death(state: Path, night: str, step: str) -> None:
    journal.note(state, night=night, outcome="died", reason=f"in step {step}", adapter=None)


def tidy(state: Path) -> None:
    """Frees reserved disk space and removes unfinished folders, and checkpoints of nights that
    ended before their verdict. No night may run."""
    store = AdapterStore(state / "adapters")
    for name in store.names():
        known, made = store.manifest(name), store.only_merged(name) and not store.is_merged(name)
        if made and "night" in known and "verdict" not in known:
            store.forget_checkpoint(name)
    for reserve in (state / "nights").glob("*/reserve"):
        reserve.unlink()
    for scratch in (state / "nights").glob("*/scratch"):
        shutil.rmtree(scratch, ignore_errors=True)
    for half in (state / "adapters").glob(".unfinished-*"):
        if time.time() - half.lstat().st_mtime > FORGOTTEN_SECONDS:
            if half.is_dir() and not half.is_symlink():
                shutil.rmtree(half, ignore_errors=True)
            else:
                half.unlink()
