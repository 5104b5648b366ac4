"""The docker command: `docker compose` for a stack and its settings, and `docker run`."""

from __future__ import annotations

import logging
import os
import re
import shutil
from pathlib import Path

from glue.core import commands
from glue.core.errors import GlueError, PortInUse, PreconditionFailed
from glue.core.settings import REPOSITORY, Settings

log = logging.getLogger(__name__)

DAY, NIGHT, BENCH = "day", "night", "bench"
FREE_PORT = "stop the program that uses it (ss -ltnp), or set"


class Compose:
    """The stacks of one profile, as `docker compose` sees them."""

    settings: Settings

    def compose_command(self, stack: str, *arguments: str) -> list[str]:
        """argv for a stack. The rehearsal has a file of its own, and the bench extends the day."""
        base = DAY if stack == BENCH else stack
        names = [f"compose.{base}.yaml"]
        if self.settings.rehearsal:
            names.append(f"compose.{base}.rehearsal.yaml")
        if stack == DAY and self.settings.https_origins:
            names.append("compose.day.https.yaml")
        if stack == BENCH:
            names += ["compose.bench.yaml", str(self.settings.state / "bench" / "overlay.yaml")]
        files = [part for name in names for part in ("--file", str(REPOSITORY / name))]
        folder = ("--project-directory", str(REPOSITORY))
        return [docker_cli(), "compose", *folder, *files, "--progress", "quiet", *arguments]

    def compose_environment(self) -> dict[str, str]:
        """Exactly the settings: PROJECT or CHAT_PORT of the shell have no effect."""
        kept = ("PATH", "HOME", "DOCKER_HOST", "DOCKER_CONFIG")
        found = {key: os.environ[key] for key in kept if key in os.environ}
        uid, gid = self.owner().split(":")
        made = {
            "STATE_DIR": str(self.settings.state),
            "STATE_OWNER": f"{uid}:{gid}",
            "STATE_UID": uid,
            "SERVED_COMMIT": self.settings.served_commit,
        }
        if origins := self.settings.https_origins:
            made["HTTPS_URL"], made["HTTPS_ORIGINS"] = origins[0], ";".join(origins)
            made["HTTPS_PROXY_IMAGE"] = self.settings.image("DOOR_IMAGE")
        values = self.settings.values | made
        return found | {key: self.settings.local(value) for key, value in values.items()}

    def owner(self) -> str:
        """uid:gid of the state folder's owner. vLLM, the HTTPS proxy and the trainer run as it."""
        owner = (self.settings.state if self.settings.state.exists() else REPOSITORY).stat()
        return f"{owner.st_uid}:{owner.st_gid}"

    def compose(self, stack: str, *arguments: str, timeout_seconds: float = 300) -> None:
        """Raises GlueError with the last lines that it printed."""
        command, environment = self.compose_command(stack, *arguments), self.compose_environment()
        log.debug("running %s", " ".join(command))
        code, said = commands.stream(command, environment, commands.unheard, timeout_seconds)
        if code == commands.HANGS:
            what, saw = (
                f"docker compose {arguments[0]} hangs",
                f"no end after {timeout_seconds:.0f} s",
            )
            raise GlueError(what, saw, "systemctl restart docker")
        if code != 0:
            raise failure(arguments[0], self.settings.hide(said))


def failure(verb: str, said: str) -> GlueError:
    if "address already in use" in said or "port is already allocated" in said:
        port = re.search(r":(\d+)(?:/tcp)?(?: failed)?: ", said)
        what = f"port {port[1]} is already in use" if port else "a port is already in use"
        return PortInUse(what, said, f"{FREE_PORT} CHAT_PORT or HTTPS_PORT in env/site.env")
    return GlueError(f"docker compose {verb} failed", said, remedy(said) or "make logs")


def remedy(said: str) -> str:
    """For a user who may not use Docker's socket, as Docker and Python word it; else empty."""
    refused = "permission denied while trying to connect|connection aborted.*permission denied"
    if not re.search(refused, said, re.IGNORECASE):
        return ""
    return (
        "sudo usermod -aG docker $USER, then log out and in (group changes apply at the next login)"
    )


def docker_cli() -> str:
    """The distribution's own client first: one in /usr/local/bin often has no Compose."""
    found = "/usr/bin/docker" if Path("/usr/bin/docker").exists() else shutil.which("docker")
    if found is None:
        do = "sudo bash scripts/install-docker.sh"
        raise PreconditionFailed("there is no docker command", "none on the PATH", do)
    return found


def run_command(online: bool = False) -> list[str]:
    """argv of `docker run` for a container of our own. online: with network and proxy settings."""
    offline = ["--network=none", f"--env-file={REPOSITORY / 'env' / 'no-proxy.env'}"]
    closed = ["--rm", "--init", "--pull=never", "--cap-drop=ALL"]
    return [docker_cli(), "run", *closed, *([] if online else offline)]


def compose_version(timeout_seconds: float = 60) -> str:
    """Empty where it gives none in time: doctor reports that, and a day is tried all the same."""
    command = [docker_cli(), "compose", "version", "--short"]
    try:
        return commands.run(command, "", timeout_seconds=timeout_seconds).text.strip()
    except (GlueError, OSError):
        return ""
