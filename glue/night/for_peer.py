"""Trains for another Spark what it sent, on a machine with ROLE=train."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from glue.clients.site import Site
from glue.core import desired_state, files, lock, upgrade_note
from glue.core.desired_state import DesiredState, Wanted
from glue.core.errors import PreconditionFailed
from glue.night import train as trainer
from glue.night.tonight import Night
from glue.peers.answers import GIVEN, ORDERED, forget, result
from glue.serving import day, model


def train(site: Site, name: str, recipe: str, deadline: str) -> dict[str, Any]:
    """Train the night NAME that a peer sent and ordered.

    Leaves nights/<name>/for-peer.json: phase (trained, failed), reason, and the SHA-256 of each
    result.
    """
    told: dict[str, Any] = {"night": name, "phase": "trains", "reason": ""}
    path = site.state / "nights" / name / ORDERED
    if not path.exists():
        raise PreconditionFailed("no peer ordered this night", name, "make night on the peer")
    try:
        with lock.hold(site.state, lock.TRAINING, f"night {name} for a peer"):
            wanted = replace(site.recipe(recipe), begin_from="base")
            train_alone(Night(site, name, wanted, float(deadline)))
            found = [result(path.parent, name) for name in GIVEN]
            told["sha256"] = {one.name: files.sha256(one) for one in found if one.exists()}
        told["phase"] = "trained"
    except BaseException as error:
        told |= {"phase": "failed", "reason": f"{type(error).__name__}: {error}"}
        raise
    finally:
        forget(path.parent, "dataset")  # so that make forget on the peer misses nothing
        files.write_json(path, told)
    return told


def train_alone(night: Night) -> None:
    """Nothing serves here meanwhile: DOWN, so that the watch starts no day, with the night's name,
    so that make stop and make day end it."""
    site = night.site
    with lock.hold(site.state, lock.SWITCH, "train for a peer", model.SWITCH_WAIT_SECONDS):
        upgrade_note.require_none(site.state)
        if day.serves(site):
            what, do = "the day serves on a machine with ROLE=train", "make stop there"
            raise PreconditionFailed(what, "all its services are healthy", do)
        desired_state.write(site.state, DesiredState(Wanted.DOWN, night.name, night.deadline_time))
    try:
        model.wait_for_memory(site, "NIGHT_FREE_BYTES")
        trainer.train(night)
    finally:
        site.stacks.remove_trainer()
