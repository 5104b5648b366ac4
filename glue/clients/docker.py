"""What is done with the stacks' containers, volumes and images."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import docker.errors

from glue.clients.compose import DAY, NIGHT, compose_version
from glue.clients.containers import SYSTEM_SOCKET, Containers, other_context, remove
from glue.core.errors import PreconditionFailed
from glue.core.services import Service, Services
from glue.core.settings import REPOSITORY

# what containers and builds read
MOUNTED = tuple(
    REPOSITORY / name
    for name in ("images", "bench", "glue", "env/models", "env/practice-world.toml")
)
VOLUMES = ("models", "serving-cache", "webui-data", "trainer-cache")
# The HTTPS proxy's name in earlier versions. It holds the port, and Compose 5 may start containers
# while it removes orphans: https://github.com/docker/compose/blob/main/pkg/compose/reconcile.go
FORMER_HTTPS_PROXY = "gate"


@dataclass(frozen=True)
class Engine:
    """Docker on this machine. gpus: whether containers can get one. folder: of images and volumes.
    options: for security, such as "rootless". system: such as "Podman Engine". context: the engine
    of people's own docker commands, in words; empty if it is the same."""

    version: str
    compose: str
    gpus: bool
    folder: Path
    missing_images: tuple[str, ...]
    missing_volumes: tuple[str, ...]
    services: Services
    trainer: Service | None
    options: tuple[str, ...] = ()
    system: str = ""
    driver: str = ""
    address: str = SYSTEM_SOCKET
    context: str = ""


class Stacks(Containers):
    """The day's and the night's containers of one profile."""

    def engine(self) -> Engine:
        facts = self.docker.info()
        devices = [device.get("ID", "") for device in facts.get("DiscoveredDevices") or []]
        parts = [part.get("Name", "") for part in self.docker.version().get("Components") or []]
        options = ",".join(facts.get("SecurityOptions") or [])
        return Engine(
            version=facts.get("ServerVersion") or "",
            compose=compose_version(),
            gpus="nvidia" in (facts.get("Runtimes") or {})
            or any(device.startswith("nvidia.com/gpu") for device in devices),
            folder=Path(facts.get("DockerRootDir") or "/"),
            missing_images=tuple(self.missing_images(self.settings.images)),
            missing_volumes=self.missing_volumes(),
            services=self.services(DAY),
            trainer=self.trainer(),
            options=tuple(re.findall(r"name=([\w-]+)", options)),
            system=", ".join(filter(None, [facts.get("OperatingSystem"), *parts])),
            driver=facts.get("Driver") or "",
            address=os.environ["DOCKER_HOST"],
            context=other_context(),
        )

    # ------------------------------------------------------------------ volumes and images

    def volumes(self, *names: str) -> tuple[str, ...]:
        """Docker's names of these volumes, or of all."""
        return tuple(f"{self.settings['PROJECT']}-{name}" for name in names or VOLUMES)

    def missing_volumes(self, *names: str) -> tuple[str, ...]:
        there = {volume.name for volume in self.docker.volumes.list()}
        return tuple(name for name in self.volumes(*names) if name not in there)

    def ensure_volumes(self, *names: str) -> None:
        """These, or all. Compose does not make them, so `down --volumes` does not remove them."""
        for name in self.volumes(*names):
            self.docker.volumes.create(name)

    def missing_images(self, references: tuple[str, ...]) -> list[str]:
        return [reference for reference in references if not self.has_image(reference)]

    def image_id(self, reference: str) -> str:
        return str(self.docker.images.get(self.settings.local(reference)).id)

    def has_image(self, reference: str) -> bool:
        try:
            self.image_id(reference)
        except docker.errors.ImageNotFound:
            return False
        return True

    def digest(self, reference: str) -> str:
        """ "sha256:..." of the reference in its registry, for all platforms. Nothing is pulled."""
        try:
            return str(self.docker.images.get_registry_data(reference).id)
        except docker.errors.APIError as error:
            saw = f"{reference}: {error.explanation or error}"
            do = "connect to the registry, or docker login"
            raise PreconditionFailed("a registry gave no digest", saw, do) from error

    # ------------------------------------------------------------------ start and stop

    def up(self, *services: str) -> None:
        """Starts the day, and removes the HTTPS proxy of a site that has no HTTPS any more."""
        if (former := self.container(DAY, FORMER_HTTPS_PROXY)) is not None:
            remove(former)
        self.compose(DAY, "up", "--detach", "--no-build", "--remove-orphans", *services)

    def stop(self, stack: str, service: str) -> None:
        self.compose(stack, "stop", service)

    def start_trainer(self, *arguments: str) -> None:
        self.remove_trainer()
        self.compose(NIGHT, "run", "--detach", "trainer", *arguments)

    def remove_trainer(self, patience_seconds: int = 120) -> None:
        """Removes the trainer and a job in its image. A trainer has time to save."""
        self.remove_container("trainer", patience_seconds)
        self.remove_container("learning")

    def remove_container(self, service: str, patience_seconds: int = 0) -> None:
        """Removes a container of the night: stops it, or kills it if it does not stop in time."""
        while (container := self.container(NIGHT, service)) is not None:
            with suppress(docker.errors.NotFound):
                container.stop(timeout=patience_seconds)
            remove(container)
