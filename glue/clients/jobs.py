"""Jobs in the trainer's image while the day serves: a JSON order in, progress and a result out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glue.clients import compose, one_shot
from glue.clients.site import Site
from glue.core import commands, files, lock
from glue.core.errors import (
    DayNotServing,
    GateRefused,
    GlueError,
    Locked,
    Misconfigured,
    PreconditionFailed,
)

ORDER, STATE = "/order.json", "/state"  # in the container
RESULT = "{"  # a line that begins so is the result
LOCK = "jobs.lock"  # one job at a time
WAIT_SECONDS = 60
DECLARED = (Misconfigured, GateRefused, PreconditionFailed, Locked, DayNotServing)
KINDS: dict[int, type[GlueError]] = {kind.exit_code: kind for kind in DECLARED}


@dataclass(frozen=True)
class Job:
    """module: what runs, with order as images/trainer/learning/job.py reads it.

    reads, writes: the only paths of the state folder that it sees; missing ones are left out.
    mounts: paths from elsewhere, to read, and where it sees them. online: it reaches vLLM and Open
    WebUI, with their keys; else no network.
    """

    module: str
    order: dict[str, Any]
    reads: tuple[Path, ...] = ()
    writes: tuple[Path, ...] = ()
    mounts: tuple[tuple[Path, str], ...] = ()
    online: bool = False
    timeout_seconds: float = 600


def run(site: Site, job: Job, still_wanted: Callable[[], object] = lambda: None) -> dict[str, Any]:
    """Its result. Raises the job's own error, or what still_wanted raises at a line of progress.
    Afterwards no container of it is left."""
    order = site.state / "order.json.unfinished"  # backups leave out names like this

    def hear(line: str) -> None:
        still_wanted()
        if not line.startswith(RESULT):
            site.tell(site.settings.hide(line))

    with lock.hold(site.state, LOCK, job.module, WAIT_SECONDS):
        site.stacks.remove_container("learning")  # left by a killed glue
        files.write_json(order, job.order, mode=0o600)
        try:
            argv = site.stacks.compose_command(compose.NIGHT, *arguments(site.state, order, job))
            ended = commands.stream(argv, environment(site, job), hear, job.timeout_seconds)
        finally:
            order.unlink(missing_ok=True)
            site.stacks.remove_container("learning")
    return result(job, *ended, site.settings.hide)


def arguments(state: Path, order: Path, job: Job) -> list[str]:
    mounts = [f"{path}:{place}:ro" for path, place in ((order, ORDER), *job.mounts)]
    for paths, mode in ((job.reads, "ro"), (job.writes, "rw")):
        mounts += [
            f"{path}:{STATE}/{path.relative_to(state)}:{mode}" for path in paths if path.exists()
        ]
    volumes = [part for mount in mounts for part in ("--volume", mount)]
    return ["run", "--rm", "--no-TTY", *volumes, "learning", job.module, ORDER, STATE]


def environment(site: Site, job: Job) -> dict[str, str]:
    """Of docker compose: names of keys alone stand on its command line, for all to see."""
    found = site.stacks.compose_environment()
    if not job.online:
        return found
    return found | {
        "LEARNING_NETWORK": f"{site.settings['PROJECT']}-daynight",
        "LEARNING_MODEL_API_KEY": site.settings["MODEL_API_KEY"],
        "LEARNING_CHAT_TOKEN": token(site),
    }


def token(site: Site) -> str:
    """The administrator's token for the chat: it expires, and a password does not."""
    return str(site.administrator().session.headers["Authorization"]).removeprefix("Bearer ")


def result(job: Job, code: int, last_lines: str, hide: Callable[[str], str]) -> dict[str, Any]:
    found = one_shot.parsed(last_lines)
    if found and "error" in found:
        raise KINDS.get(code, GlueError)(*found["error"])
    if code != 0 or found is None:
        late = f"no end within {job.timeout_seconds:.0f} s"
        end = late if code == commands.HANGS else f"exit {code}"
        saw = hide(f"{last_lines}\n{end}".strip())
        raise GlueError(f"the job {job.module} failed", saw, "run make doctor, then this again")
    return found


def ensure_file(path: Path) -> None:
    """An empty file, if there is none: a mount needs one before a job can write it."""
    if not path.exists():
        path.touch()
        files.take_over(path, 0o600)
