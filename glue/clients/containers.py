"""The stacks' containers as Docker reports them: state, address, last log lines."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Any

import docker
import docker.errors
from docker.context.config import get_current_context_name
from docker.models.containers import Container

from glue.clients.compose import DAY, NIGHT, Compose, remedy
from glue.core import services as core_services
from glue.core.commands import LAST_LINES
from glue.core.errors import GlueError, PreconditionFailed
from glue.core.services import Service, Services
from glue.core.settings import Settings

CONFLICT = 409  # "removal of container ... is already in progress"
REMOVAL_SECONDS = 60
SYSTEM_SOCKET = "unix:///var/run/docker.sock"
# Docker restarts a vLLM that dies while loading without end; this many restarts are a fault.
DEATHS_ARE_A_FAULT = 2


class Containers(Compose):
    def __init__(self, settings: Settings) -> None:
        """Raises PreconditionFailed where no Docker Engine answers."""
        self.settings = settings
        # else the docker command goes by its context, which docker-py does not
        os.environ.setdefault("DOCKER_HOST", SYSTEM_SOCKET)
        try:
            self.docker = docker.from_env(timeout=60)
            self.docker.ping()
        except docker.errors.DockerException as error:
            saw = f"{os.environ['DOCKER_HOST']}: {error}{other_context()}"
            do = "sudo bash scripts/install-docker.sh, or: systemctl start docker"
            what = "Docker does not answer"
            raise PreconditionFailed(what, saw, remedy(str(error)) or do) from error

    def found(self, stack: str, service: str = "") -> list[Container]:
        """The containers of a stack, or of one of its services, in any state."""
        labels = [f"com.docker.compose.project={self.settings['PROJECT']}-{stack}"]
        labels += [f"com.docker.compose.service={service}"] if service else []
        listed = self.docker.containers.list
        return list(listed(all=True, filters={"label": labels}, ignore_removed=True))

    def services(self, stack: str) -> Services:
        """Every container of the stack, by service name."""
        return {service.name: service for service in map(observed, self.found(stack))}

    def trainer(self) -> Service | None:
        return self.services(NIGHT).get("trainer")

    def container(self, stack: str, service: str) -> Container | None:
        return next(iter(self.found(stack, service)), None)

    def last_log_lines(self, stack: str, service: str, count: int = LAST_LINES) -> str:
        container = self.container(stack, service)
        if container is None:
            return "(no container)"
        output = container.logs(tail=count, stream=False)
        assert isinstance(output, bytes)
        return self.settings.hide(output.decode(errors="replace").strip())

    def address(self, service: str) -> str:
        """host:port of a day service on the compose network, which this host reaches directly."""
        found = self.services(DAY).get(service)
        if found is None or not found.address:
            saw = found.state if found else "no container"
            raise GlueError(f"{service} has no address", saw, "make day")
        return f"{found.address}:8000"

    def late(self, services: tuple[str, ...], restarts_before: dict[str, int]) -> list[str]:
        """Those of the day's services that do not serve yet, in words. restarts_before: Docker's
        count for each when the wait began. Raises GlueError for one that keeps crashing."""
        found = self.services(DAY)
        waiting = core_services.not_serving(found, services)
        for name in waiting.keys() & found.keys():
            if found[name].restarts - restarts_before.get(name, 0) >= DEATHS_ARE_A_FAULT:
                saw, do = self.last_log_lines(DAY, name), f"make logs SERVICE={name}"
                raise GlueError(f"{name} keeps crashing at its start", saw, do)
        return [f"{name} {state}" for name, state in waiting.items()]


def remove(container: Container) -> None:
    """Ensures that it is gone, also if Docker is removing it, as after `run --rm`."""
    with suppress(docker.errors.NotFound):
        try:
            container.remove(force=True)
        except docker.errors.APIError as error:
            if error.status_code != CONFLICT:
                raise
            container.wait(condition="removed", timeout=REMOVAL_SECONDS)


def other_context() -> str:
    """The docker command's context where it may name another engine than glue's; else empty."""
    context = os.environ.get("DOCKER_CONTEXT") or get_current_context_name()
    if context == "default":
        return ""
    return f"; people's own docker commands go to the context {context!r}"


def observed(container: Container) -> Service:
    details: dict[str, Any] = container.attrs
    state = details["State"]
    health = state.get("Health", {})
    networks = details["NetworkSettings"]["Networks"].values()
    return Service(
        name=container.labels.get("com.docker.compose.service", container.name or ""),
        state=state["Status"],
        health=health.get("Status", ""),
        address=next((network["IPAddress"] for network in networks if network["IPAddress"]), ""),
        restarts=details.get("RestartCount", 0),
        exit_code=state.get("ExitCode", 0),
        fault=last_line(health.get("Log") or []) if health.get("Status") == "unhealthy" else "",
    )


def last_line(checks: list[dict[str, Any]]) -> str:
    """What the newest of a container's health checks printed last."""
    return (checks[-1]["Output"].strip().splitlines() or [""])[-1] if checks else ""
