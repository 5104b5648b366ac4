"""Open WebUI's volume, read and filled through a container of its own image that reaches no network."""

from __future__ import annotations

import shutil
import tarfile
import tempfile
from pathlib import Path
from typing import IO, cast

from glue import commands, webui_data
from glue.settings import HOME, Settings
from glue.stacks import docker_cli
from glue.types import DayNotServing, GlueError

DEADLINE_SECONDS = 3 * 3600
COPYING = "make day, then make backup"
RESTORING = "restore.unfinished"  # no backup takes in a name like this


def half_filled(state: Path) -> str:
    """The backup whose restore has begun and has not ended; empty if there is none."""
    path = state / RESTORING
    return path.read_text(encoding="utf-8").strip() or "<the backup>" if path.exists() else ""


def require_whole(state: Path) -> None:
    """Raises DayNotServing while a restore has begun and not ended: Open WebUI would make a new chat where one is missing."""
    if folder := half_filled(state):
        do = f"make restore REPLACE=1 FROM={folder}, then make day"
        raise DayNotServing("a restore was broken off, and the chat is not whole", f"{state / RESTORING}", do)


def command(settings: Settings, verb: str) -> list[str]:
    """Root inside, without root's powers: the volume's files are root's. No log: Docker would write the whole tar into it."""
    return [
        *(docker_cli(), "run", "--rm", "--interactive", "--init", "--pull=never", "--network=none", "--cap-drop=ALL"),
        "--log-driver=none",
        f"--volume={settings['PROJECT']}-webui-data:/data",
        f"--volume={HOME}/glue/webui_data.py:/opt/webui_data.py:ro",
        *("--user=0:0", "--entrypoint=python3", settings.local(settings.image("OPEN_WEBUI_IMAGE")), "/opt/webui_data.py", verb),
    ]


def is_empty(settings: Settings) -> bool:
    return commands.run(command(settings, "look"), "docker volume ls", fine=(0, webui_data.EMPTY)).code == webui_data.EMPTY


def sizes(settings: Settings) -> tuple[int, int]:
    """Bytes of databases and vectors, which copy_out holds once more on Docker's disk while it runs, and bytes of uploads."""
    databases, uploads = commands.run(command(settings, "sizes"), COPYING).text.split()
    return int(databases), int(uploads)


def copy_out(settings: Settings, target: Path) -> None:
    """Everything that people made in the chat, into target. The chat goes on meanwhile, on the same disk: no tar is kept."""
    require_whole(settings.state)
    target.mkdir(parents=True, exist_ok=True)
    with commands.reading(command(settings, "pack"), COPYING, DEADLINE_SECONDS) as output:
        fault = unpack(output, target)
    if fault is not None:  # a program that failed was raised already, with its own words
        raise GlueError("what was read of the chat is no whole copy", str(fault), COPYING) from fault


def unpack(output: commands.Output, target: Path) -> tarfile.TarError | None:
    """Writes the files of a tar below target. Returns what is wrong with the tar."""
    try:
        with tarfile.open(fileobj=cast(IO[bytes], output), mode="r|") as tar:
            for entry in tar:
                write_entry(tar, entry, target)
    except tarfile.TarError as error:
        return error
    return None


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
    with tempfile.TemporaryFile() as file:
        with tarfile.open(fileobj=file, mode="w") as tar:
            for path in sorted(path for path in folder.rglob("*") if path.is_file()):
                tar.add(path, str(path.relative_to(folder)), filter=owned_by_root)
        file.seek(0)
        commands.run(command(settings, "unpack"), "glue restore, again", source=file, timeout_seconds=DEADLINE_SECONDS)


def owned_by_root(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    return entry
