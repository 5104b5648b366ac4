"""Stand-ins for Docker, vLLM, Open WebUI and the trainer, for crashes and faults that the real ones
do not produce on demand.

They share one file, so that they outlive a killed glue, like containers. glue's own locks, files
and order of steps are real. tests/e2e and `make kill-study` kill the real stacks.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import night_desk
from glue.clients.adapter_store import AdapterStore
from glue.clients.docker import Stacks
from glue.clients.open_webui import WebUI
from glue.clients.site import Site
from glue.clients.vllm import Vllm
from glue.clients.webui_connection import Answer
from glue.core import services as observed
from glue.core import settings
from glue.core.errors import GlueError
from glue.core.names import ADAPTER, BASE
from glue.core.services import Service, Services
from glue.core.settings import Settings
from glue.core.verdict import Verdict

MODEL = settings.load("rehearsal")["SERVED_MODEL"]
FACTS = {"name": MODEL, "expert_count": 0, "expert_layers": [], "quantisation": ""}
# what the job that builds a data set says of it
DATASET: dict[str, Any] = {
    "card": {"parts": dict.fromkeys(("train", "held_out", "earlier", "general", "replay"), 2)},
    "question": "train 0",
    "fingerprints": [f"fingerprint {number}" for number in range(4)],
    "origins": [],
}


class Ledger:
    """The file behind all stand-ins."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.path.read_text())
        return found

    @contextmanager
    def change(self) -> Iterator[dict[str, Any]]:
        with self.path.with_suffix(".lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            value = self.read()
            yield value
            beside = self.path.with_suffix(".new")
            beside.write_text(json.dumps(value))
            beside.replace(self.path)


NOWHERE = Ledger(Path())


class StandInStacks:
    """Docker with containers that start at once. behave: what the trainer does after its start."""

    def __init__(self, ledger: Ledger, state: Path) -> None:
        self.ledger, self.state = ledger, state

    def services(self, stack: str) -> Services:
        found = self.ledger.read()["services"]
        of_night = stack == "night"
        return {
            name: Service(name, *found[name]) for name in found if (name == "trainer") == of_night
        }

    def trainer(self) -> Service | None:
        train(self.ledger, self.state)
        return self.services("night").get("trainer")

    def address(self, service: str) -> str:
        return service

    def up(self, *names: str) -> None:
        with self.ledger.change() as world:
            for name in names or observed.DAY_SERVICES:
                if world["services"].get(name) != ["running", "healthy"]:
                    world["services"][name] = ["running", "healthy"]
                    world["loaded"] = (
                        started_with(self.state) if name == "vllm" else world["loaded"]
                    )

    def stop(self, stack: str, name: str) -> None:
        with self.ledger.change() as world:
            world["services"][name] = ["exited", ""]
            world["hangs"] = world.get("hangs", False) and name != "vllm"

    def compose(self, stack: str, *arguments: str) -> None:
        assert (stack, arguments) == ("day", ("stop",))
        for name in observed.DAY_SERVICES:
            self.stop("day", name)

    def late(self, names: tuple[str, ...], restarts_before: dict[str, int]) -> list[str]:
        if self.ledger.read().get("never_up"):
            raise GlueError("vllm starts and dies", "the stand-in never comes up", "nothing")
        return list(observed.not_serving(self.services("day"), names))

    def start_trainer(self, engine: str, job: str) -> None:
        with self.ledger.change() as world:
            world["services"]["trainer"] = ["running", ""]
            world["night"], world["looks"] = job.split("/")[2], 0

    def remove_trainer(self, patience_seconds: int = 120) -> None:
        with self.ledger.change() as world:
            world["services"].pop("trainer", None)

    def ensure_volumes(self, *names: str) -> None: ...

    def missing_volumes(self, *names: str) -> tuple[str, ...]:
        return ()

    def missing_images(self, references: tuple[str, ...]) -> list[str]:
        return list(references)  # so that no container is asked what the chat's volume holds

    def last_log_lines(self, stack: str, service: str) -> str:
        return "the stand-in's last line"


def train(ledger: Ledger, state: Path) -> None:
    """The trainer advances between two looks at it."""
    world = ledger.read()
    if world["services"].get("trainer", [""])[0] != "running":
        return
    how, folder = world["trainer"], state / "nights" / world["night"]
    if how == "hangs" or world["looks"] == 0:
        with ledger.change() as changed:
            changed["looks"] += 1
        return
    with suppress(OSError):  # on a full disk it ends with nothing
        leave_result(folder, how)
    with ledger.change() as changed:
        if "trainer" in changed["services"]:
            changed["services"]["trainer"] = ["exited", ""]


def leave_result(folder: Path, how: str) -> None:
    if how == "fills the disk":
        (folder / "adapter").mkdir(exist_ok=True)
        with (folder / "adapter" / "adapter_model.safetensors").open("wb") as file:
            while True:
                file.write(bytes(2**16))
    if how in ("trains", "leaves garbage"):
        (folder / "adapter").mkdir(exist_ok=True)
        (folder / "adapter" / "adapter_config.json").write_text("{}")
        (folder / "adapter" / "adapter_model.safetensors").write_text(f"weights of {folder.name}")
        (folder / "result.json").write_text(
            '{"outcome": "trained", "steps": 1}' if how == "trains" else '{"outcome": "tra'
        )


def started_with(state: Path) -> dict[str, str]:
    """The same rule as images/vllm/serve-current.sh."""
    link = state / "adapters" / "current"
    if (merged := AdapterStore(state / "adapters").runs()) is not None:
        return {BASE: f"/adapters/{merged}/checkpoint"}
    return {BASE: MODEL} | ({ADAPTER: f"/adapters/{link.readlink()}"} if link.is_symlink() else {})


class DockerThatMayDie:
    """Docker that does not answer while the ledger says that its daemon is dead."""

    def __init__(self, stacks: StandInStacks) -> None:
        self.stacks = stacks

    def __getattr__(self, name: str) -> Any:
        if self.stacks.ledger.read().get("docker_is_dead"):
            raise OSError("Cannot connect to the Docker daemon: the stand-in's is dead")
        return getattr(self.stacks, name)


@dataclass(frozen=True)
class StandInVllm(Vllm):
    """address: "vllm" or "door"."""

    ledger: Ledger = NOWHERE
    state: Path = Path()

    def up(self) -> bool:
        return bool(self.ledger.read()["services"].get("vllm") == ["running", "healthy"])

    def answers(self) -> bool:
        return self.up() and not self.ledger.read().get("hangs")

    def owner(self) -> str:
        notice = night_desk.read_notice(str(self.state / "desk" / "notice.json"))
        return "vllm" if self.up() and notice["reason"] != "night" else "night-desk"

    def models(self) -> dict[str, str]:
        if not self.up():
            raise GlueError("vLLM did not answer", "the stand-in is down", "nothing")
        found: dict[str, str] = self.ledger.read()["loaded"]
        return found

    def serve(self, name: str, path: str) -> None:
        self.models()
        if self.ledger.read().get("refuses"):
            raise GlueError("vLLM refused /v1/load_lora_adapter", "the stand-in refuses", "nothing")
        with self.ledger.change() as world:
            world["loaded"][name] = path

    def forget(self, name: str) -> None:
        with self.ledger.change() as world:
            world["loaded"].pop(name, None)

    def running_requests(self, timeout_seconds: float = 120) -> int:
        return int(self.ledger.read().get("streaming", 0))


class StandInWebUI:
    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        if self.ledger.read()["services"].get("open-webui") != ["running", "healthy"]:
            raise GlueError("Open WebUI did not answer", "the stand-in is down", "nothing")

    def ensure_filters(self) -> None: ...

    def ensure_assistant(self, settings: Settings, served: str, *_: object) -> None:
        with self.ledger.change() as world:
            world["assistant"] = served

    def registered_models(self) -> dict[str, Any]:
        return {}

    def call(self, method: str, path: str, *_: object, **__: object) -> Any:
        """Of its documents: one collection, with nothing in it. Of its pages: none."""
        if path.startswith("/api/v1/files/search"):
            return []
        return {"id": "knowledge", "items": [], "total": 0}

    def ensure_banner(self, name: str, kind: str, text: str) -> None: ...

    def ask(self, messages: list[dict[str, str]]) -> Answer:
        return Answer("an answer" if not self.ledger.read().get("mute") else "", [])


@dataclass(frozen=True)
class StandInSite(Site):
    ledger: Ledger = NOWHERE

    def vllm(self) -> Vllm:
        return StandInVllm("vllm", "key", self.ledger, self.state)

    def administrator(self) -> WebUI:
        return cast(WebUI, StandInWebUI(self.ledger))


def make_site(
    folder: Path, tell: Callable[[str], None] = lambda line: None, **more: str
) -> StandInSite:
    """A site, all in folder, whose day was started once."""
    state = folder / "state"
    for name in ("adapters", "nights", "desk"):
        (state / name).mkdir(parents=True)
    (state / "base_model.json").write_text(json.dumps(FACTS))
    ledger = Ledger(folder / "ledger.json")
    ledger.path.write_text(
        json.dumps({"services": {}, "loaded": {}, "trainer": "trains", "assistant": ""})
    )
    secrets = dict.fromkeys(settings.SECRETS, "a secret of the stand-ins")
    small = {
        "STATE_DIR": str(state),
        "DAY_FREE_BYTES": "1",
        "NIGHT_FREE_BYTES": "1",
        "MEMORY_RESERVE_BYTES": "1",
    }
    chosen = settings.load("rehearsal")
    chosen = replace(chosen, values=chosen.values | secrets | small | more)
    return StandInSite(
        chosen, cast(Stacks, DockerThatMayDie(StandInStacks(ledger, state))), tell, ledger
    )


def good_verdict(*_: object) -> Verdict:
    return Verdict(True, ("the stand-in's judge says yes",))


def die_for(ledger: Ledger, victim: str) -> None:
    """kill -9 of another process than glue."""
    with ledger.change() as world:
        if victim == "dockerd":
            world["docker_is_dead"] = True
        elif victim == "trainer":
            world["trainer"] = "exits 1"
        else:
            world["services"][victim] = ["exited", ""]


def die() -> None:
    os.kill(os.getpid(), 9)
