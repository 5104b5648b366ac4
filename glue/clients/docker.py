"""Docker, and nothing else: `docker compose` to bring stacks up and down, docker-py to observe,
wait and read logs."""

from __future__ import annotations

import logging
import os
import re
import shutil
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import docker
import docker.errors
from docker.context.config import get_current_context_name
from docker.models.containers import Container

from glue.core import commands, image_tags
from glue.core import services as core_services
from glue.core.commands import LAST_LINES, Hear
from glue.core.errors import GlueError, PreconditionFailed
from glue.core.services import Service, Services
from glue.core.settings import REPOSITORY, Settings

log = logging.getLogger(__name__)

DAY, NIGHT, BENCH = "day", "night", "bench"
CONFLICT = 409  # "removal of container ... is already in progress"
REMOVAL_SECONDS = 60
SYSTEM_SOCKET = "unix:///var/run/docker.sock"
MOUNTED = tuple(
    REPOSITORY / name for name in ("images", "bench", "env/practice-world.toml")
)  # what containers and builds read
VOLUMES = ("models", "serving-cache", "webui-data", "trainer-cache")
BENCH_VOLUMES = (
    "bench-ours-",
    "bench-stock-",
)  # what follows is the model before which they were measured
# A vLLM that dies while it loads is started again by Docker for ever; this many deaths are a fault,
# not bad luck.
DEATHS_ARE_A_FAULT = 2


@dataclass(frozen=True)
class Engine:
    """Docker on this machine. gpus: whether containers can be given one. folder: where images and
    volumes are kept.

    options: its security options, such as "rootless" or "userns". system: such as "Docker Desktop"
    or "Podman Engine".
    context: what a person's own docker commands reach instead, in words; empty if it is the same
    engine.
    """

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


class Stacks:
    """The day's and the night's containers of one profile."""

    def __init__(self, settings: Settings) -> None:
        """Raises PreconditionFailed where no Docker Engine answers."""
        self.settings = settings
        os.environ.setdefault(
            "DOCKER_HOST", SYSTEM_SOCKET
        )  # or the docker command goes by its context, which docker-py does not
        try:
            self.docker = docker.from_env(timeout=60)
            self.docker.ping()
        except docker.errors.DockerException as error:
            saw = f"{os.environ['DOCKER_HOST']}: {error}{other_context()}"
            do = "sudo bash scripts/install-docker.sh, or: systemctl start docker"
            raise PreconditionFailed(
                "Docker does not answer", saw, remedy(str(error)) or do
            ) from error

    # ------------------------------------------------------------------ compose

    def compose_command(self, stack: str, *arguments: str) -> list[str]:
        """argv of `docker compose` for a stack, with the rehearsal's overlay where it applies. The
        bench lies over the day."""
        base = DAY if stack == BENCH else stack
        files = [f"compose.{base}.yaml"] + (
            [f"compose.{base}.rehearsal.yaml"] if self.settings.rehearsal else []
        )
        files += ["compose.day.https.yaml"] if stack == DAY and self.settings.https_origins else []
        files += (
            ["compose.bench.yaml", str(self.settings.state / "bench" / "overlay.yaml")]
            if stack == BENCH
            else []
        )
        chosen = [part for name in files for part in ("--file", str(REPOSITORY / name))]
        return [
            docker_cli(),
            "compose",
            "--project-directory",
            str(REPOSITORY),
            *chosen,
            "--progress",
            "quiet",
            *arguments,
        ]

    def compose_environment(self) -> dict[str, str]:
        """Exactly the settings: a shell's own PROJECT or PORT has no say."""
        kept = {
            key: os.environ[key]
            for key in ("PATH", "HOME", "DOCKER_HOST", "DOCKER_CONFIG")
            if key in os.environ
        }
        owner = self.owner()
        made = {
            "STATE_DIR": str(self.settings.state),
            "STATE_OWNER": owner,
            "STATE_UID": owner.partition(":")[0],
        }
        if origins := self.settings.https_origins:
            made |= {
                "HTTPS_URL": origins[0],
                "HTTPS_ORIGINS": ";".join(origins),
                "GATE_IMAGE": self.settings.image("DOOR_IMAGE"),
            }
        return kept | {
            key: self.settings.local(value) for key, value in (self.settings.values | made).items()
        }

    def owner(self) -> str:
        """uid:gid of the state folder's owner, as whom vLLM and the trainer run."""
        owner = (self.settings.state if self.settings.state.exists() else REPOSITORY).stat()
        return f"{owner.st_uid}:{owner.st_gid}"

    def compose(self, stack: str, *arguments: str, timeout_seconds: float = 300) -> str:
        """Runs it and returns its output. Raises GlueError with the last lines it printed."""
        command = self.compose_command(stack, *arguments)
        log.debug("running %s", " ".join(command))
        try:
            done = subprocess.run(
                command,
                env=self.compose_environment(),
                capture_output=True,
                text=True,
                errors="replace",
                timeout=timeout_seconds,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            saw = f"no end after {timeout_seconds:.0f} s"
            raise GlueError(
                f"docker compose {arguments[0]} hangs", saw, "systemctl restart docker"
            ) from error
        if done.returncode != 0:
            last_lines = self.settings.hide(
                "\n".join((done.stderr or done.stdout).strip().splitlines()[-LAST_LINES:])
            )
            if "address already in use" in last_lines or "port is already allocated" in last_lines:
                do = "set CHAT_PORT in env/site.env, or HTTPS_PORT if it is that one"
                raise PreconditionFailed("the chat's port is taken", last_lines, do)
            raise GlueError(
                f"docker compose {arguments[0]} failed",
                last_lines,
                remedy(last_lines) or "make logs",
            )
        return done.stdout

    # ------------------------------------------------------------------ observe

    def services(self, stack: str) -> Services:
        """Every container of the stack, by service name."""
        label = f"com.docker.compose.project={self.settings['PROJECT']}-{stack}"
        found = self.docker.containers.list(all=True, filters={"label": label}, ignore_removed=True)
        return {service.name: service for service in map(observed, found)}

    def trainer(self) -> Service | None:
        return self.services(NIGHT).get("trainer")

    def container(self, stack: str, service: str) -> Container | None:
        labels = [
            f"com.docker.compose.project={self.settings['PROJECT']}-{stack}",
            f"com.docker.compose.service={service}",
        ]
        found = self.docker.containers.list(
            all=True, filters={"label": labels}, ignore_removed=True
        )
        return found[0] if found else None

    def last_log_lines(self, stack: str, service: str, count: int = LAST_LINES) -> str:
        container = self.container(stack, service)
        if container is None:
            return "(no container)"
        output = container.logs(tail=count, stream=False)
        assert isinstance(output, bytes)
        return self.settings.hide(output.decode(errors="replace").strip())

    def address(self, service: str) -> str:
        """host:port of a day service on the compose network, which this host reaches without a
        published port."""
        found = self.services(DAY).get(service)
        if found is None or not found.address:
            raise GlueError(
                f"{service} has no address", found.state if found else "no container", "make day"
            )
        return f"{found.address}:8000"

    def engine(self) -> Engine:
        facts = self.docker.info()
        devices = [device.get("ID", "") for device in facts.get("DiscoveredDevices") or []]
        components = [
            part.get("Name", "") for part in self.docker.version().get("Components") or []
        ]
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
            options=tuple(
                re.findall(r"name=([\w-]+)", ",".join(facts.get("SecurityOptions") or []))
            ),
            system=", ".join(filter(None, [facts.get("OperatingSystem"), *components])),
            driver=facts.get("Driver") or "",
            address=os.environ["DOCKER_HOST"],
            context=other_context(),
        )

    def volumes(self, *names: str) -> tuple[str, ...]:
        """Docker's names of these volumes, or of all."""
        return tuple(f"{self.settings['PROJECT']}-{name}" for name in names or VOLUMES)

    def missing_volumes(self, *names: str) -> tuple[str, ...]:
        there = {volume.name for volume in self.docker.volumes.list()}
        return tuple(name for name in self.volumes(*names) if name not in there)

    def missing_images(self, references: tuple[str, ...]) -> list[str]:
        return [reference for reference in references if not self.has_image(reference)]

    def image_id(self, reference: str) -> str:
        return str(self.docker.images.get(self.settings.local(reference)).id)

    def has_image(self, reference: str) -> bool:
        try:
            self.docker.images.get(self.settings.local(reference))
        except docker.errors.ImageNotFound:
            return False
        return True

    def digest(self, reference: str) -> str:
        """ "sha256:..." of what the reference names in its registry now, for all platforms. Nothing
        is pulled."""
        try:
            return str(self.docker.images.get_registry_data(reference).id)
        except docker.errors.APIError as error:
            saw = f"{reference}: {error.explanation or error}"
            raise PreconditionFailed(
                "a registry gave no digest", saw, "connect to the registry, or docker login"
            ) from error

    # ------------------------------------------------------------------ act

    def ensure_volumes(self, *names: str) -> None:
        """These, or all. They are made here and not by Compose, so that no `down --volumes` can
        take them."""
        for name in self.volumes(*names):
            self.docker.volumes.create(name)

    def take_away(self) -> list[str]:
        """Removes the project's containers and volumes, with all that is in them. Returns the names
        of the volumes."""
        for stack in (DAY, NIGHT, BENCH):
            label = f"com.docker.compose.project={self.settings['PROJECT']}-{stack}"
            for container in self.docker.containers.list(all=True, filters={"label": label}):
                remove(container)
        project = self.settings["PROJECT"]
        names, benches = self.volumes(), tuple(f"{project}-{prefix}" for prefix in BENCH_VOLUMES)
        found = [
            volume
            for volume in self.docker.volumes.list()
            if volume.name in names or volume.name.startswith(benches)
        ]
        for volume in found:
            volume.remove()
        return [volume.name for volume in found]

    def remove_old_images(self) -> list[str]:
        """Removes what other versions built here and no container uses. Returns the references."""
        ours = {self.settings[key] for key in image_tags.BUILDS}
        families = {reference.rpartition(":")[0] for reference in ours}
        there = {
            tag
            for image in self.docker.images.list(filters={"reference": "dual-use/*"})
            for tag in image.tags
        }
        return [
            tag
            for tag in sorted(there - ours)
            if tag.rpartition(":")[0] in families and self.removed(tag)
        ]

    def removed(self, reference: str) -> bool:
        """Removes the image. False if a container uses it, which Docker refuses."""
        try:
            self.docker.images.remove(reference)
        except docker.errors.APIError as error:
            log.debug("image %s stays: %s", reference, error)
            return False
        return True

    def up(self, *services: str) -> None:
        """An orphan is the gate of a site that has no HTTPS any more; the night's containers are
        another project's."""
        self.compose(DAY, "up", "--detach", "--no-build", "--remove-orphans", *services)

    def stop(self, stack: str, service: str) -> None:
        self.compose(stack, "stop", service)

    def join_network(self, service: str, stack: str, network: str) -> None:
        """The container reaches, and is reached in, another stack's network too."""
        container = self.container(stack, service)
        joined = self.docker.networks.get(network)
        joined.reload()
        if container is not None and container.id not in {found.id for found in joined.containers}:
            joined.connect(container)

    def started(self, stack: str, service: str) -> float:
        """When the container began to run, as a Unix time by Docker's clock."""
        container = self.container(stack, service)
        if container is None:
            raise GlueError(f"{service} does not run", "no container", f"make {stack}")
        return datetime.fromisoformat(container.attrs["State"]["StartedAt"]).timestamp()

    def ended(self, stack: str, service: str) -> float:
        """When the container last ended, as a Unix time by Docker's clock."""
        container = self.container(stack, service)
        if container is None:
            raise GlueError(f"{service} is not there", "no container", f"make {stack}")
        return datetime.fromisoformat(container.attrs["State"]["FinishedAt"]).timestamp()

    def run_in(self, stack: str, service: str, command: list[str]) -> tuple[int, str]:
        """Runs it in a container that runs already. Returns its exit code and what it printed."""
        container = self.container(stack, service)
        if container is None:
            raise GlueError(f"{service} does not run", "no container", f"make {stack}")
        code, output = container.exec_run(command)
        assert isinstance(output, bytes)
        return int(code or 0), output.decode(errors="replace")

    def late(self, services: tuple[str, ...], restarts_before: dict[str, int]) -> list[str]:
        """Which of the day's services do not serve yet, in words. Raises GlueError for one that
        starts and dies.

        restarts_before: Docker's count for each when the wait began; it adds up over weeks.
        """
        found = self.services(DAY)
        for name in services:
            service = found.get(name)
            if (
                service
                and not service.serves
                and service.restarts - restarts_before.get(name, 0) >= DEATHS_ARE_A_FAULT
            ):
                raise GlueError(
                    f"{name} starts and dies",
                    self.last_log_lines(DAY, name),
                    f"make logs SERVICE={name}",
                )
        return [
            f"{name} {state}" for name, state in core_services.not_serving(found, services).items()
        ]

    def run_trainer(self, *arguments: str, tell: Hear, timeout_seconds: float) -> int:
        """Runs `python3 -m ARGUMENTS` in the trainer image to its end, a line of output at a time.
        Returns its exit code."""
        command = self.compose_command(NIGHT, "run", "--rm", "--no-TTY", "trainer", *arguments)
        return commands.stream(command, self.compose_environment(), tell, timeout_seconds)[0]

    def start_trainer(self, *arguments: str) -> None:
        self.remove_trainer()
        self.compose(NIGHT, "run", "--detach", "trainer", *arguments)

    def remove_trainer(self, patience_seconds: int = 120) -> None:
        """Stops a trainer that runs, with time to leave what it has, kills one that does not, and
        removes what is left of any."""
        container = self.container(NIGHT, "trainer")
        while container is not None:
            with suppress(docker.errors.NotFound):
                container.stop(timeout=patience_seconds)
            remove(container)
            container = self.container(NIGHT, "trainer")


def remove(container: Container) -> None:
    """Ensures that it is gone, also where Docker removes it now, as `docker compose run --rm` does
    at a container's end."""
    with suppress(docker.errors.NotFound):
        try:
            container.remove(force=True)
        except docker.errors.APIError as error:
            if error.status_code != CONFLICT:
                raise
            container.wait(condition="removed", timeout=REMOVAL_SECONDS)


def remedy(said: str) -> str:
    """What a user does whom Docker's socket refuses, however Docker or Python says so; empty for
    any other fault."""
    if not re.search(
        r"(?i)permission denied while trying to connect|connection aborted.*permission denied", said
    ):
        return ""
    return (
        "sudo usermod -aG docker $USER, then sign out and in again (a session keeps the groups that"
        " it began with)"
    )


def docker_cli() -> str:
    """The distribution's own client first: a stray one in /usr/local/bin often has no Compose."""
    found = "/usr/bin/docker" if Path("/usr/bin/docker").exists() else shutil.which("docker")
    if found is None:
        raise PreconditionFailed(
            "there is no docker command", "none on the PATH", "sudo bash scripts/install-docker.sh"
        )
    return found


def run_command(online: bool = False) -> list[str]:
    """argv of `docker run` for a container of our own. online: it reaches the network, and uses the
    office's proxy."""
    offline = ["--network=none", f"--env-file={REPOSITORY / 'env' / 'no-proxy.env'}"]
    return [
        docker_cli(),
        "run",
        "--rm",
        "--init",
        "--pull=never",
        "--cap-drop=ALL",
        *([] if online else offline),
    ]


def compose_version(timeout_seconds: float = 60) -> str:
    """Empty where it gives none in time: that is a finding, and keeps no day from being tried."""
    command = [docker_cli(), "compose", "version", "--short"]
    try:
        return subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_seconds,
            check=False,
        ).stdout.strip()
    except (subprocess.SubprocessError, OSError):
        return ""


def other_context() -> str:
    """The docker command's context, in words, where it may name another engine than glue's; empty
    if it is the default."""
    context = os.environ.get("DOCKER_CONTEXT") or get_current_context_name()
    return (
        ""
        if context == "default"
        else f"; people's own docker commands go to the context {context!r}"
    )


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
