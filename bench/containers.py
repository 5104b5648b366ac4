"""Container operations that only a bench needs: start times, running a program inside, a second
network."""

from __future__ import annotations

from datetime import datetime

from docker.models.containers import Container

from glue.clients.docker import Stacks
from glue.core.errors import GlueError


def existing(stacks: Stacks, stack: str, service: str) -> Container:
    container = stacks.container(stack, service)
    if container is None:
        raise GlueError(f"{service} does not run", "no container", f"make {stack}")
    return container


def state_time(stacks: Stacks, stack: str, service: str, key: str) -> float:
    """ "StartedAt" or "FinishedAt" of the container as a Unix time, by Docker's clock."""
    state = existing(stacks, stack, service).attrs["State"]
    return datetime.fromisoformat(state[key]).timestamp()


def run_in(stacks: Stacks, stack: str, service: str, command: list[str]) -> tuple[int, str]:
    """Runs command in a running container. Returns its exit code and what it printed."""
    code, output = existing(stacks, stack, service).exec_run(command)
    assert isinstance(output, bytes)
    return int(code or 0), output.decode(errors="replace")


def join_network(stacks: Stacks, service: str, stack: str, network: str) -> None:
    """Connects the container to another stack's network as well."""
    container = existing(stacks, stack, service)
    joined = stacks.docker.networks.get(network)
    joined.reload()
    if container.id not in {found.id for found in joined.containers}:
        joined.connect(container)
