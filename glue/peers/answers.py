"""What this Spark does for a peer that asks by its key: five requests, each word matched whole."""

from __future__ import annotations

import json
import re
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

from glue.clients.adapter_store import ADAPTER_FILES
from glue.clients.site import Site
from glue.core import commands, desired_state, files, lock, upgrade_note
from glue.core.desired_state import DesiredState, Wanted
from glue.core.errors import PreconditionFailed
from glue.peers.facts import Facts, facts
from glue.serving import day

RECEIVED = "received-from-peer"  # below state/peers; no backup contains it
ORDERED = "for-peer.json"  # in the folder of a night that a peer ordered: how far it is
BEGIN_SECONDS = 120  # from an order to the training lock
WAIT_SECONDS = 15  # for a lock; less than link.ANSWER_SECONDS
KEPT_SECONDS = 3600  # what has not been fetched by then goes with the next order
LEFT_SECONDS = 86_400  # what was received and not ordered by then is of a night that failed
# of a night that a peer ordered: it begins with its time, so it is no other file of these folders
NAME = "[0-9][0-9A-Za-z-]{0,63}"
RECIPE = "[a-z][a-z0-9-]{0,63}"
SHA256 = "[0-9a-f]{64}"
GIVEN = ("result.json", "progress.jsonl", *ADAPTER_FILES)
TAKEN = ("train.jsonl", "preferences.jsonl")


def status(site: Site) -> Facts:
    """It may be sent bytes, to measure the link."""
    while sys.stdin.buffer.read(2**20):
        pass
    return {**facts(site), "training": training(site.state)}


def orders(state: Path) -> list[Path]:
    """The file of each night that a peer ordered and may still fetch, oldest first."""
    return sorted((state / "nights").glob(f"*/{ORDERED}"))


def training(state: Path) -> Facts:
    """How far each of them is, by name."""
    locked = lock.held(state, lock.TRAINING)
    return {path.parent.name: how_far(path, locked) for path in orders(state)}


def how_far(path: Path, locked: bool) -> Facts:
    found = {"phase": "trains", "reason": ""} | files.read_json_if_whole(path, {})
    if found["phase"] == "trains" and not locked and age(path) > BEGIN_SECONDS:
        found |= {"phase": "failed", "reason": "it ended without a result"}
    return found


def age(path: Path) -> float:
    return time.time() - path.stat().st_mtime


def received(state: Path, name: str) -> Path:
    return state / "peers" / RECEIVED / name


def receive(site: Site, name: str, file: str, checksum: str) -> Facts:
    """Stores the input under that name, all or nothing. Raises GlueError for another SHA-256."""
    folder = received(site.state, name)
    files.make_folder(folder, 0o700)
    for left in folder.parent.iterdir():
        if age(left) > LEFT_SECONDS:
            shutil.rmtree(left)
    with files.receiving(folder / file, checksum, 0o600) as target:
        shutil.copyfileobj(sys.stdin.buffer, target)
    return {"received": file}


def result(night: Path, file: str) -> Path:
    """Where a night has one of GIVEN."""
    return night / "adapter" / file if file in ADAPTER_FILES else night / file


def fetch(site: Site, name: str, file: str) -> None:
    """Writes a result of a night that a peer ordered; of no other night."""
    night = site.state / "nights" / name
    path = result(night, file)
    if not (night / ORDERED).exists() or not path.exists():
        raise PreconditionFailed("there is no such result", f"{name}/{file}", "train first")
    with path.open("rb") as source:
        shutil.copyfileobj(source, sys.stdout.buffer)
    sys.stdout.buffer.flush()


def train(site: Site, name: str, recipe: str, deadline: str) -> Facts:
    """Starts the training of what was received, once, and returns; status says how far it is.
    deadline: the Unix time by which it ends."""
    folder, role = received(site.state, name), site.settings["ROLE"]
    night = site.state / "nights" / name
    if (night / ORDERED).exists():  # the peer has not heard the answer
        return {"begun": name}
    if night.exists():
        raise PreconditionFailed("a night of that name is not a peer's", name, "make night again")
    if role != "train" or not (folder / "train.jsonl").exists():
        saw = f"ROLE={role}; received: {files.names(folder.glob('*')) or 'nothing'}"
        do = "there: ROLE=train in env/site.env, then make stop"
        raise PreconditionFailed("this machine cannot train that", saw, do)
    with lock.hold(site.state, lock.TRAINING, "take a peer's order"):
        tidy(site.state)
        take_machine(site, DesiredState(Wanted.DOWN, name, float(deadline)))
        files.make_folder(night)
        folder.rename(night / "dataset")
        files.write_json(night / ORDERED, {"phase": "trains", "reason": ""})
    argv = (sys.executable, "-m", "glue", "peer", "train", name, recipe, deadline)
    commands.start_detached(argv, night / "output.txt")
    return {"begun": name}


def tidy(state: Path) -> None:
    """Under the training lock: removes what is left of orders that died or were not fetched."""
    for path in orders(state):
        if how_far(path, True)["phase"] == "trains" or age(path) > KEPT_SECONDS:
            for part in ("adapter", "dataset", "scratch"):
                shutil.rmtree(path.parent / part, ignore_errors=True)
            path.unlink()


def take_machine(site: Site, desired: DesiredState) -> None:
    """Nothing serves here meanwhile: DOWN, so that the watch starts no day, with the night's name,
    so that make stop and make day end it."""
    with lock.hold(site.state, lock.SWITCH, "train for a peer", WAIT_SECONDS):
        upgrade_note.require_none(site.state)
        found = desired_state.read(site.state)
        started = found is not None and found.wanted is not Wanted.DOWN  # it may still be loading
        if started or day.serves(site):
            what, do = "the day serves on a machine with ROLE=train", "make stop there"
            raise PreconditionFailed(what, "make stop was not run there since make day", do)
        desired_state.write(site.state, desired)


def stop(site: Site, name: str) -> Facts:
    """Ends that training, whose result is no longer wanted, and waits until it has ended. What was
    received for it goes. Never ends a night of this machine's own."""
    shutil.rmtree(received(site.state, name), ignore_errors=True)
    with lock.hold(site.state, lock.SWITCH, "stop a peer's training", WAIT_SECONDS):
        found = desired_state.read(site.state)
        ordered = (site.state / "nights" / name / ORDERED).exists()
        if found is None or found.night != name or not ordered:
            return {"stopped": None}
        desired_state.write(site.state, DesiredState(Wanted.DOWN))
        site.stacks.remove_trainer(patience_seconds=0)
    with lock.hold(site.state, lock.TRAINING, "stop a peer's training", WAIT_SECONDS):
        return {"stopped": name}


REQUESTS: dict[str, tuple[Callable[..., Facts | None], tuple[str, ...]]] = {
    "status": (status, ()),
    "receive": (receive, (NAME, "|".join(map(re.escape, TAKEN)), SHA256)),
    "fetch": (fetch, (NAME, "|".join(map(re.escape, GIVEN)))),
    "train": (train, (NAME, RECIPE, "[0-9]{10}")),
    "stop": (stop, (NAME,)),
}


def parse(request: str) -> tuple[Callable[..., Facts | None], list[str]]:
    """What to do, and its words. Raises PreconditionFailed for anything else; no shell reads it."""
    verb, *words = request.split(" ")
    act, patterns = REQUESTS.get(verb, (None, ()))
    if act is None or len(words) != len(patterns) or not all(map(re.fullmatch, patterns, words)):
        do = f"a peer's key may ask for: {', '.join(REQUESTS)}"
        raise PreconditionFailed("this key may not do that", repr(request[:80]), do)
    return act, words


def answer(site: Site, request: str) -> str:
    """Do what another Spark asks, by default in SSH_ORIGINAL_COMMAND."""
    act, words = parse(request)
    found = act(site, *words)
    return "" if found is None else json.dumps(found)
