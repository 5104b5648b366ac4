"""Open WebUI's volume, read and filled by a container of its image without a network."""

from __future__ import annotations

import hashlib
import sqlite3
import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, cast

import webui_data
from glue.clients import one_shot
from glue.clients.compose import DAY
from glue.clients.docker import Stacks
from glue.core import commands, desired_state, files, journal
from glue.core.errors import DayNotServing, GlueError, steps
from glue.core.settings import REPOSITORY, Settings

DEADLINE_SECONDS = 3 * 3600
COPYING = "make day, then make backup"
VOLUME = "webui-data"


def lost(settings: Settings, stacks: Stacks) -> str:
    """What happened to a chat that was served here and is not in its volume; empty if none is lost.

    Docker's data folder moved, its disk is not mounted, or `docker volume prune -a` removed it.
    """
    rows = journal.since(files.read_lines(settings.state / "journal.jsonl"), journal.NEW_CHAT)
    served = [row for row in rows if row.get("event") == "day" and row.get("phase") == "done"]
    if not served or holds_people(settings, stacks):
        return ""
    volume, time = f"{settings['PROJECT']}-{VOLUME}", served[-1]["time"]
    return f"the volume {volume} holds no chat, and this machine served one on {time}"


def holds_people(settings: Settings, stacks: Stacks) -> bool:
    """True for a running chat, and if the volume cannot be read."""
    chat = stacks.services(DAY).get("open-webui")
    if chat and chat.state == "running":
        return True
    if stacks.missing_volumes(VOLUME):  # first, because docker run makes a missing volume
        return False
    try:
        unseen = stacks.missing_images((settings.image("OPEN_WEBUI_IMAGE"),))
        return bool(unseen) or not is_empty(settings)
    except GlueError:
        return True


def way_back(settings: Settings) -> str:
    """What to do about a lost chat."""
    last = journal.last_backup(files.read_lines(settings.state / "journal.jsonl")) or {}
    held = ", ".join(f"{count} {what}" for what, count in last.get("counts", {}).items())
    of = f" (backup of {last['time']}{': ' if held else ''}{held})" if "time" in last else ""
    return steps(
        "check that the disk of Docker's data folder is mounted:"
        " docker info -f '{{.DockerRootDir}}'",
        f"or restore: make restore FROM={last.get('folder', '<a backup>')}, then make day{of}",
        "or start with an empty chat: make day NEW=1",
    )


def require_not_lost(settings: Settings, stacks: Stacks) -> None:
    if words := lost(settings, stacks):
        raise DayNotServing("the chat is gone", words, way_back(settings))


def begin_anew(settings: Settings, stacks: Stacks) -> None:
    """Accepts an empty chat in place of a lost one. Does nothing if a chat exists."""
    if lost(settings, stacks):
        stacks.ensure_volumes(VOLUME)
        journal.record(settings.state, event=journal.NEW_CHAT)


def command(settings: Settings, verb: str) -> list[str]:
    """As root without privileges: the files are root's. No log: it would hold the tar."""
    image, script = settings.local(settings.image("OPEN_WEBUI_IMAGE")), "/opt/webui_data.py"
    volumes = {
        "/data": f"{settings['PROJECT']}-webui-data",
        f"{script}:ro": f"{REPOSITORY}/images/open-webui/webui_data.py",
    }
    options = ("--interactive", "--user=0:0", "--log-driver=none")
    return one_shot.command(image, "python3", script, verb, options=options, volumes=volumes)


def is_empty(settings: Settings) -> bool:
    codes = (0, webui_data.EMPTY)
    looked = commands.run(command(settings, "look"), "docker volume ls", fine=codes)
    return looked.code == webui_data.EMPTY


def sizes(settings: Settings) -> tuple[int, int]:
    """Bytes of databases and vectors, which copy_out doubles on Docker's disk, and of uploads."""
    databases, uploads = commands.run(command(settings, "sizes"), COPYING).text.split()
    return int(databases), int(uploads)


def copy_out(settings: Settings, target: Path) -> None:
    """Copies all data of the chat into target while the chat runs."""
    desired_state.require_no_unfinished_restore(settings.state)
    target.mkdir(parents=True, exist_ok=True)
    with commands.reading(command(settings, "pack"), COPYING, DEADLINE_SECONDS) as output:
        fault = unpack(output, target)
    if fault is not None:  # a program that failed has raised already, with its own message
        raise GlueError("the copy of the chat is incomplete", str(fault), COPYING) from fault


def counts(copy: Path) -> dict[str, int]:
    """How many people, conversations and documents a copy holds."""
    try:
        return webui_data.counts(copy / webui_data.PEOPLE, "immutable=1")
    except sqlite3.Error as error:
        saw = f"webui.db: {error}"
        raise GlueError("the copy of the chat is incomplete", saw, COPYING) from error


def unpack(output: commands.Output, target: Path) -> tarfile.TarError | None:
    """Writes the files of a tar below target. Returns the tar's error, if it has one."""
    try:
        with tarfile.open(fileobj=output, mode="r|") as tar:
            tar.extractall(target, filter=only_files)
    except tarfile.TarError as error:
        return error
    return None


def only_files(entry: tarfile.TarInfo, target: str) -> tarfile.TarInfo | None:
    """No links, and no owners. Raises a TarError for a path that leads out of target."""
    return tarfile.data_filter(entry, target) if entry.isfile() else None


def fill(settings: Settings, folder: Path, checksums: Mapping[str, str]) -> None:
    """Makes the volume hold the files of folder in checksums only. Open WebUI must not run. Raises
    GlueError, with the volume unchanged, if a file has another SHA-256 now."""
    with tempfile.TemporaryFile() as file:
        with tarfile.open(fileobj=file, mode="w") as tar:
            for name in sorted(checksums):
                tar.add(folder / name, name, filter=owned_by_root)
        if changed := unlike(file, checksums):
            do = "check the backup's disk, then restore again, or restore an older backup"
            saw = f"in {folder}: {', '.join(changed)}"
            raise GlueError("the backup changed while it was read", saw, do)
        file.seek(0)
        again, seconds = "make restore, again", DEADLINE_SECONDS
        commands.run(command(settings, "unpack"), again, source=file, timeout_seconds=seconds)


def unlike(file: IO[bytes], checksums: Mapping[str, str]) -> list[str]:
    """Names of the entries of a tar without these SHA-256."""
    file.seek(0)
    with tarfile.open(fileobj=file, mode="r") as tar:
        found = {
            entry.name: hashlib.file_digest(cast(IO[bytes], tar.extractfile(entry)), "sha256")  # type: ignore[arg-type]
            for entry in tar
        }
    hashes = {name: digest.hexdigest() for name, digest in found.items()}
    return [name for name, checksum in checksums.items() if hashes.get(name) != checksum]


def owned_by_root(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    return entry
