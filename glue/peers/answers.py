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
from glue.core import commands, files, lock
from glue.core.errors import PreconditionFailed
from glue.peers.facts import Facts, facts
from glue.serving import adapters

RECEIVED = "received-from-peer"  # below state/peers; no backup contains it
ORDERED = "for-peer.json"  # in the folder of a night that a peer ordered: how far it is
BEGIN_SECONDS = 120  # from an order to the training lock
# of a night or an adapter: it begins with its time, so it is no other file of these folders
NAME = "[0-9][0-9A-Za-z-]{0,63}"
RECIPE = "[a-z][a-z0-9-]{0,63}"
SHA256 = "[0-9a-f]{64}"
GIVEN = ("result.json", "progress.jsonl", *ADAPTER_FILES)
TAKEN = ("train.jsonl", "preferences.jsonl", "manifest.json", *ADAPTER_FILES)


def status(site: Site) -> Facts:
    """It may be sent bytes, to measure the link."""
    while sys.stdin.buffer.read(2**20):
        pass
    return {**facts(site), "training": training(site.state)}


def training(state: Path) -> Facts:
    """The newest night that a peer ordered; empty if there is none."""
    path = max((state / "nights").glob(f"*/{ORDERED}"), default=None)
    if path is None:
        return {}
    found = files.read_json_if_whole(path, {})
    runs = lock.held(state, lock.TRAINING) or time.time() - path.stat().st_mtime < BEGIN_SECONDS
    if found.get("phase") == "trains" and not runs:
        found |= {"phase": "failed", "reason": "it ended without a result"}
    return found


def received(state: Path, name: str) -> Path:
    return state / "peers" / RECEIVED / name


def receive(site: Site, name: str, file: str, checksum: str) -> Facts:
    """Stores the input under that name, all or nothing. Raises GlueError for another SHA-256."""
    folder = received(site.state, name)
    files.make_folder(folder, 0o700)
    for left in set(folder.parent.iterdir()) - {folder}:  # of an earlier transfer that broke off
        shutil.rmtree(left)
    files.take_checked(sys.stdin.buffer, folder / file, checksum, 0o600)
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
    """Starts the training of what was received, and returns; status says how far it is. deadline:
    the Unix time by which it ends."""
    folder, role = received(site.state, name), site.settings["ROLE"]
    if role != "train" or not (folder / "train.jsonl").exists():
        saw = f"ROLE={role}; received: {files.names(folder.glob('*')) or 'nothing'}"
        do = "there: ROLE=train in env/site.env, then make stop"
        raise PreconditionFailed("this machine cannot train that", saw, do)
    night = site.state / "nights" / name
    with lock.hold(site.state, lock.TRAINING, "take a peer's order"):
        for old in night.parent.glob(f"*/{ORDERED}"):
            for part in ("adapter", "dataset"):
                shutil.rmtree(old.parent / part, ignore_errors=True)
        files.make_folder(night)
        folder.rename(night / "dataset")
        files.write_json(night / ORDERED, {"night": name, "phase": "trains", "reason": ""})
    argv = (sys.executable, "-m", "glue", "peer", "train", name, recipe, deadline)
    commands.start_detached(argv, night / "output.txt")
    return {"begun": name}


def load(site: Site, name: str, checksum: str) -> Facts:
    """Makes an adapter serve that was received, or was here, if its weights have this SHA-256: vLLM
    takes any file under the path, and answers as another model."""
    folder, store = received(site.state, name), site.store
    if (folder / "manifest.json").exists():
        store.take_in(name, folder)
    if (here := store.published(name)[ADAPTER_FILES[1]]) != checksum:
        saw, do = f"here {here}, there {checksum}", "remove one of the two, and send it again"
        raise PreconditionFailed(f"{name} is another adapter here", saw, do)
    return {"adapter": adapters.promote(site, name)}


REQUESTS: dict[str, tuple[Callable[..., Facts | None], tuple[str, ...]]] = {
    "status": (status, ()),
    "receive": (receive, (NAME, "|".join(map(re.escape, TAKEN)), SHA256)),
    "fetch": (fetch, (NAME, "|".join(map(re.escape, GIVEN)))),
    "train": (train, (NAME, RECIPE, "[0-9]{10}")),
    "load": (load, (NAME, SHA256)),
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
