"""Open WebUI's volume, read and filled through a container of its own image that reaches no network."""

from __future__ import annotations

import shutil
import subprocess
import tarfile
import tempfile
from contextlib import suppress
from pathlib import Path

from glue import webui_data
from glue.settings import HOME, Settings
from glue.stacks import docker_cli
from glue.types import GlueError

DEADLINE_SECONDS = 3 * 3600


def command(settings: Settings, verb: str) -> list[str]:
    """Root inside, without root's powers: the volume's files are root's."""
    return [
        *(docker_cli(), "run", "--rm", "--interactive", "--init", "--pull=never", "--network=none", "--cap-drop=ALL"),
        f"--volume={settings['PROJECT']}-webui-data:/data",
        f"--volume={HOME}/glue/webui_data.py:/opt/webui_data.py:ro",
        *("--user=0:0", "--entrypoint=python3", settings.image("OPEN_WEBUI_IMAGE"), "/opt/webui_data.py", verb),
    ]


def is_empty(settings: Settings) -> bool:
    done = subprocess.run(command(settings, "look"), capture_output=True, text=True, timeout=300, check=False)
    if done.returncode not in (0, webui_data.EMPTY):
        raise GlueError("the chat's volume cannot be looked at", done.stderr.strip()[-600:], "docker volume ls")
    return done.returncode == webui_data.EMPTY


def copy_out(settings: Settings, target: Path) -> None:
    """Everything that people made in the chat, into target. The chat goes on meanwhile."""
    with (
        tempfile.TemporaryFile() as errors,
        subprocess.Popen(command(settings, "pack"), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors) as process,
    ):
        assert process.stdout is not None
        # what went wrong when there is no tar is in the words of the container
        with suppress(tarfile.ReadError), tarfile.open(fileobj=process.stdout, mode="r|") as tar:
            for entry in tar:
                write_entry(tar, entry, target)
        process.stdout.close()
        if process.wait(DEADLINE_SECONDS) != 0 or not (target / webui_data.PEOPLE).exists():
            errors.seek(0)
            words = errors.read().decode()[-600:] or "there is no webui.db in it"
            raise GlueError("the chat's data could not be copied", words, "make day, then make backup")


def write_entry(tar: tarfile.TarFile, entry: tarfile.TarInfo, target: Path) -> None:
    """A file below target, and nothing else: no link, no owner, no way out of it."""
    path = target / entry.name
    content = tar.extractfile(entry) if entry.isfile() and ".." not in path.parts and not Path(entry.name).is_absolute() else None
    if content is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            shutil.copyfileobj(content, file)


def fill(settings: Settings, folder: Path) -> None:
    """The volume holds what folder holds. Open WebUI must not run."""
    with subprocess.Popen(command(settings, "unpack"), stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin is not None and process.stderr is not None
        with tarfile.open(fileobj=process.stdin, mode="w|") as tar:
            for path in sorted(path for path in folder.rglob("*") if path.is_file()):
                tar.add(path, str(path.relative_to(folder)), filter=owned_by_root)
        process.stdin.close()
        words = process.stderr.read().decode()
        if process.wait(DEADLINE_SECONDS) != 0:
            raise GlueError("the chat's data could not be put back", words[-600:], "glue restore, again")


def owned_by_root(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    return entry
