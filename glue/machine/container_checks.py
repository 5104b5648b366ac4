"""Checks of Docker and of what runs in it."""

from __future__ import annotations

from glue.clients.containers import SYSTEM_SOCKET
from glue.clients.docker import Engine
from glue.core.image_tags import version
from glue.machine.check_types import Host, View, fail, ok, warn

ENGINE_LEAST = (25,)  # health checks with start_interval
COMPOSE_LEAST = (2, 24, 4)  # `!override` in the rehearsal's files
EMBEDDING_IN_IMAGE = "sentence-transformers/all-MiniLM-L6-v2"  # in the stock Open WebUI image
SYSTEM_DOCKER = (
    "sudo bash scripts/install-docker.sh; docker context use default;"
    " unset DOCKER_HOST DOCKER_CONTEXT"
)
RESTART = "sudo systemctl restart docker"
UNUSABLE = {
    "rootless": "rootless: its containers cannot read the state folder or be reached from here",
    "snap": "from snap: it sees no folder outside /home",
    "Docker Desktop": "Docker Desktop: its containers run in a virtual machine",
    "Podman Engine": "Podman: only Docker Engine is supported",
}


def engine_fault(engine: Engine) -> tuple[str, str]:
    """Why no day can run on this engine, and what to do; empty if it can."""
    if "userns" in engine.options:
        do = f'remove "userns-remap" from /etc/docker/daemon.json, {RESTART}, make setup'
        return "user namespaces are remapped: containers cannot read the state folder", do
    snap = "snap" if "/snap/" in f"{engine.folder}/" else ""
    marks = (*engine.options, *engine.system.split(", "), snap)
    if words := next((UNUSABLE[mark] for mark in marks if mark in UNUSABLE), ""):
        return words, SYSTEM_DOCKER
    if engine.address.startswith(("tcp:", "ssh:", "http")):
        return f"Docker runs on another machine: DOCKER_HOST is {engine.address}", SYSTEM_DOCKER
    return "", ""


def docker(seen: Host) -> View:
    engine = seen.engine
    words = f"engine {engine.version}, compose {engine.compose or 'none'}"
    fault, do = engine_fault(engine)
    if fault:
        return fail(f"{words}; {fault}", do)
    if version(engine.version) < ENGINE_LEAST or version(engine.compose) < COMPOSE_LEAST:
        return fail(words, "update Docker to engine 25 and compose 2.24.4 or newer")
    if engine.driver == "vfs":
        do = "use overlay2: see storage-driver in /etc/docker/daemon.json"
        return warn(f"{words}; the storage driver vfs copies every layer", do)
    if engine.address not in (SYSTEM_SOCKET, "unix:///run/docker.sock"):
        saw = f"{words}; DOCKER_HOST is {engine.address}, which timers do not know"
        return warn(saw, "unset DOCKER_HOST")
    if engine.context:
        do = "docker context use default; unset DOCKER_CONTEXT"
        return warn(f"{words}{engine.context}", do)
    return ok(words)


def toolkit(seen: Host) -> View:
    if seen.engine.gpus:
        return ok("containers can use the GPU")
    configure = "sudo nvidia-ctk runtime configure --runtime=docker"
    do = f"install nvidia-container-toolkit, {configure}, {RESTART}"
    return fail("Docker gives containers no GPU", do)


def images(seen: Host, night: bool = False) -> View:
    trainer = seen.settings.image("TRAINER_IMAGE")
    missing = [name for name in seen.engine.missing_images if (name == trainer) == night]
    if missing:
        return fail(f"not on this machine: {', '.join(missing)}", "make setup")
    return ok("on this machine")


def answer(seen: Host) -> View:
    if seen.answer_fault is None:
        return ok("not asked: vLLM does not run, or is starting")
    if seen.answer_fault:
        do = "make day restarts it; for the cause: make logs SERVICE=vllm"
        return fail(f"vLLM runs and writes no token: {seen.answer_fault}", do)
    return ok("vLLM writes tokens")


def embedding(seen: Host) -> View:
    name = seen.settings["EMBEDDING_MODEL"]
    if name != EMBEDDING_IN_IMAGE and not name.startswith("/"):
        do = f"set EMBEDDING_MODEL={EMBEDDING_IN_IMAGE}, or a folder in that image"
        return fail(f"{name} is not in Open WebUI's image", do)
    return ok(name)
