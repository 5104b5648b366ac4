"""A night on two machines: with ROLE=serve the day serves all night, with ROLE=train one trains."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar, cast

from glue.clients.site import Site
from glue.core import desired_state, files, lock, waiting
from glue.core.desired_state import DesiredState, Wanted
from glue.core.errors import GlueError, Misconfigured, PreconditionFailed
from glue.core.services import Mode
from glue.core.waiting import Seen
from glue.night import collect
from glue.night import train as here
from glue.night.tonight import Night
from glue.peers import link
from glue.peers.answers import GIVEN, ORDERED, TAKEN, result
from glue.peers.facts import Facts, alike, differences
from glue.peers.link import Peer
from glue.serving import day, model

T = TypeVar("T")
LOOK_SECONDS = 15.0
GONE_SECONDS = 600.0  # the longest that a peer may not answer, or that a request is repeated
AGAIN = "make day; the next night trains again"


def train_there(night: Night) -> None:
    """Has a peer train tonight's data set. Raises GlueError if it leaves no adapter or is gone, and
    Preempted after make stop; the peer then stops."""
    require_new(night)
    peer = repeat(night, "a peer that can train", partial(trainer, night))
    name = f"{night.name}-{link.mark(peer)}"
    try:
        order(night, peer, name)
        hashes = wait(night, peer, name)["sha256"]
        fetch(night, peer, name, hashes)
    except BaseException:
        with suppress(GlueError):
            link.ask(peer, "stop", name)
        raise
    here.take_result(night, f"on {peer.host}")


def require_new(night: Night) -> None:
    if night.recipe.begin_from != "base":
        do = f'set begin_from = "base" in env/recipes/{night.recipe.name}.toml'
        what, saw = "a peer trains new adapters only", f"{night.recipe.begin_from!r}"
        raise Misconfigured(what, saw, do)


def trainer(night: Night) -> Peer:
    """The first peer that can train tonight. Raises GlueError with each one's reason, and
    PreconditionFailed if waiting for one that is gone cannot help."""
    mine, seen = alike(night.site), {}
    for peer in link.peers(night.site.state):
        seen[peer.host] = found = after_dead_nights(peer, link.look(peer))
        if not unfit(found, mine):
            return peer
    saw = "; ".join(f"{host}: {unfit(found, mine)}" for host, found in seen.items())
    do = (
        "make setup-peer HOST=<the other Spark>; on it ROLE=train, and the same version, MODEL and"
        " RECIPE; or ROLE=both here"
    )
    kind = GlueError if any("gone" in found for found in seen.values()) else PreconditionFailed
    raise kind("no peer can train tonight", saw or "it has no peers", do)


def unfit(found: Facts, mine: dict[str, str]) -> str:
    """Why a peer cannot train now; empty if it can. mine: what must be equal there: an adapter fits
    one base model only."""
    if "gone" in found or found["role"] != "train":
        return str(found["words"])
    busy = [name for name, row in found["training"].items() if row["phase"] == "trains"]
    wrong = [f"it trains night {name}" for name in busy] + differences(mine, found["alike"])
    if found["mode"] == Mode.DAY:  # as after make upgrade there
        wrong.append("its day serves: make stop there")
    return "; ".join(filter(None, (found["clock"], *wrong)))


def after_dead_nights(peer: Peer, found: Facts) -> Facts:
    """Stops what this machine ordered earlier: this night holds the training lock, so the one that
    waited has died, as when this machine restarted."""
    trained = {} if "gone" in found else found["training"]
    left = [name for name, row in trained.items() if row["phase"] == "trains"]
    for name in (name for name in left if name.endswith(link.mark(peer))):
        with suppress(GlueError):
            link.ask(peer, "stop", name)
            found = link.look(peer)
    return found


def order(night: Night, peer: Peer, name: str) -> None:
    files.write_json(night.folder / "job.json", here.job(night))
    for path in map((night.folder / "dataset").joinpath, TAKEN):
        if path.exists():
            repeat(night, f"sending {path.name}", partial(link.send, peer, name, path))
    words = ("train", name, night.recipe.name, str(int(night.deadline_time)))
    repeat(night, "starting the training there", partial(link.ask, peer, *words))


def fetch(night: Night, peer: Peer, name: str, hashes: dict[str, str]) -> None:
    size = night.site.settings.model.adapter_bytes_per_rank * night.recipe.largest_rank
    files.make_folder(night.folder / "adapter")
    for file in (file for file in GIVEN if file in hashes):  # no other name that a peer may tell
        given = (peer, name, result(night.folder, file), hashes[file], size)
        repeat(night, f"fetching {file}", partial(link.fetch, *given))


def repeat(night: Night, what: str, act: Callable[[], T]) -> T:
    """Repeats what fails while a link is cut, or a peer restarts. Raises its last error, and at
    once a PreconditionFailed."""
    last: list[GlueError] = []

    def look() -> Seen[T]:
        desired_state.require_not_stopped(night.site.state, night.name, AGAIN)
        try:
            return Seen(True, what, act())
        except PreconditionFailed:
            raise
        except GlueError as error:
            last.append(error)
            return Seen(False, f"{error.what}: {error.saw}")

    tell = night.site.tell
    seen = waiting.until(
        what, look, GONE_SECONDS, LOOK_SECONDS, error=lambda *_: last[-1], tell=tell
    )
    return cast(T, seen.value)


def wait(night: Night, peer: Peer, name: str) -> Facts:
    """What the peer says of the night that it has trained."""
    heard = time.monotonic()

    def look() -> Seen[Facts]:
        nonlocal heard
        desired_state.require_not_stopped(night.site.state, night.name, AGAIN)
        found = link.look(peer)
        gone = "gone" in found
        told = {} if gone else found["training"].get(name, {"phase": "failed"})
        heard = heard if gone else time.monotonic()
        if told.get("phase") == "failed" or time.monotonic() - heard > GONE_SECONDS:
            do = f"ssh {peer.host}; there: nights/{name}/output.txt in the state folder"
            raise GlueError(f"{peer.host} did not train", found["words"], do)
        return Seen(told.get("phase") == "trained", f"{peer.host}: {found['words']}", told)

    patience = night.deadline_time - time.time() + here.SILENT_TRAINER_SECONDS
    tell = night.site.tell
    return waiting.until("the training", look, patience, LOOK_SECONDS, tell=tell).value or {}


def start_judging(night: Night) -> None:
    """The first moment at which this night changes what serves: the candidate comes beside it."""
    state = night.site.state
    with lock.hold(state, lock.SWITCH, "judge a night", model.SWITCH_WAIT_SECONDS):
        desired = DesiredState(Wanted.JUDGING, night.name, here.until_time(night))
        desired_state.begin(state, desired, AGAIN)
    night.switched = True
    day.start_for_judging(night.site, night.name)


# ---------------------------------------------------------------------- on the peer


def train(site: Site, name: str, recipe: str, deadline: str) -> dict[str, Any]:
    """Train the night NAME that a peer sent and ordered.

    Leaves nights/<name>/for-peer.json: phase (trained, failed), reason, and the SHA-256 of each
    result.
    """
    path = site.state / "nights" / name / ORDERED
    if not path.exists():
        raise PreconditionFailed("no peer ordered this night", name, "make night on the peer")
    told: dict[str, Any] = {"phase": "failed", "reason": ""}
    try:
        with lock.hold(site.state, lock.TRAINING, f"night {name} for a peer"):
            wanted = replace(site.recipe(recipe), begin_from="base")
            train_alone(Night(site, name, wanted, float(deadline)))
            found = [result(path.parent, name) for name in GIVEN]
            told["sha256"] = {one.name: files.sha256(one) for one in found if one.exists()}
        told["phase"] = "trained"
    except BaseException as error:
        told["reason"] = f"{type(error).__name__}: {error}"
        raise
    finally:  # the data set and copies of it go, so that make forget on the peer misses nothing
        for part in ("dataset", "scratch"):
            shutil.rmtree(path.parent / part, ignore_errors=True)
        files.write_json(path, told)
    return told


def train_alone(night: Night) -> None:
    """Under the desired state that the order set."""
    try:
        collect.require_trainable(night)
        here.wait_for_memory(night)
        here.train(night)
    finally:
        night.reserve.unlink(missing_ok=True)
        night.site.stacks.remove_trainer()
