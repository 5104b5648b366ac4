"""A night on two machines: with ROLE=serve the day serves all night, with ROLE=train one trains."""

from __future__ import annotations

import shutil
import time
from dataclasses import replace
from typing import Any

from glue.clients.site import Site
from glue.core import desired_state, files, lock, upgrade_note, waiting
from glue.core.desired_state import DesiredState, Wanted
from glue.core.errors import GlueError, Misconfigured, PreconditionFailed
from glue.core.waiting import Seen
from glue.night import train as here
from glue.night.tonight import Night
from glue.peers import link
from glue.peers.answers import GIVEN, ORDERED, result
from glue.peers.facts import Facts, differences, facts
from glue.peers.link import Peer
from glue.serving import day, model

LOOK_SECONDS = 15.0
GONE_SECONDS = 600.0  # the longest that a peer that trains may not answer


def train_there(night: Night) -> None:
    """Has a peer train tonight's data set. Raises GlueError if it leaves no adapter or is gone."""
    peer = trainer(night)
    order(night, peer)
    size = night.site.settings.model.adapter_bytes_per_rank * night.recipe.largest_rank
    hashes = wait(night, peer)["sha256"]
    files.make_folder(night.folder / "adapter")
    for name in (name for name in GIVEN if name in hashes):  # no other name that a peer may tell
        link.fetch(peer, night.name, result(night.folder, name), hashes[name], size)
    here.take_result(night, f"on {peer.host}")


def trainer(night: Night) -> Peer:
    """The first peer with ROLE=train that answers. Raises PreconditionFailed if it has another
    version, image or model: an adapter fits one base model only."""
    seen = {peer: link.look(peer) for peer in link.peers(night.site.state)}
    for peer, found in seen.items():
        if found.get("role") == "train" and "gone" not in found:
            if wrong := differences(facts(night.site)["alike"], found["alike"]):
                do = f"upgrade both, then make setup-peer HOST={peer.host}"
                raise PreconditionFailed(f"{peer.host} is not like this machine", wrong[0], do)
            return peer
    saw = "; ".join(f"{peer.host}: {found['words']}" for peer, found in seen.items())
    do = "make setup-peer HOST=<the other Spark>, and there ROLE=train; or ROLE=both here"
    raise PreconditionFailed("no peer trains for this machine", saw or "it has no peers", do)


def order(night: Night, peer: Peer) -> None:
    recipe = night.recipe
    if recipe.begin_from != "base":
        do = f'set begin_from = "base" in env/recipes/{recipe.name}.toml'
        raise Misconfigured("a peer trains new adapters only", f"{recipe.begin_from!r}", do)
    files.write_json(night.folder / "job.json", here.job(night))
    for path in map((night.folder / "dataset").joinpath, ("train.jsonl", "preferences.jsonl")):
        if path.exists():
            link.send(peer, night.name, path)
    link.ask(peer, "train", night.name, recipe.name, str(int(night.deadline_time)))


def wait(night: Night, peer: Peer) -> Facts:
    """What the peer says of the night that it has trained."""
    heard = time.monotonic()

    def look() -> Seen[Facts]:
        nonlocal heard
        found = link.look(peer)
        gone, told = "gone" in found, found.get("training", {})
        heard = heard if gone else time.monotonic()
        failed = told.get("phase") == "failed" and told["night"] == night.name
        if failed or time.monotonic() - heard > GONE_SECONDS:
            do = f"ssh {peer.host}; there: nights/{night.name}/output.txt in the state folder"
            raise GlueError(f"{peer.host} did not train", found["words"], do)
        done = not gone and (told.get("night"), told.get("phase")) == (night.name, "trained")
        return Seen(done, f"{peer.host}: {found['words']}", told)

    patience = night.deadline_time - time.time() + here.SILENT_TRAINER_SECONDS
    tell = night.site.tell
    return waiting.until("the training", look, patience, LOOK_SECONDS, tell=tell).value or {}


def start_judging(night: Night) -> None:
    """The first moment at which this night changes what serves: the candidate comes beside it."""
    state = night.site.state
    with lock.hold(state, lock.SWITCH, "judge a night", model.SWITCH_WAIT_SECONDS):
        desired = DesiredState(Wanted.JUDGING, night.name, here.until_time(night))
        desired_state.begin(state, desired, "make day; the next night trains again")
    night.switched = True
    day.start_for_judging(night.site, night.name)


# ---------------------------------------------------------------------- on the peer


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
        shutil.rmtree(
            path.parent / "dataset", ignore_errors=True
        )  # so that make forget on the peer misses nothing
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
        here.wait_for_memory(night)
        here.train(night)
    finally:
        site.stacks.remove_trainer()
