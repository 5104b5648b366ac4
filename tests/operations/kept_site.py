"""A site with a real state folder and a chat of one small database. Instead of Docker: nothing,
or a volume that a test fills."""

import json
import sqlite3
import sys
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import pytest

from glue.clients import chat_volume
from glue.clients.docker import VOLUMES, Stacks
from glue.clients.site import Site
from glue.core import files, settings
from glue.operations import backup

WEIGHTS = "adapters/one/adapter_model.safetensors"


def write_chat(path: Path, people: int = 2, conversations: int = 3) -> None:
    """A database with Open WebUI's tables."""
    with closing(sqlite3.connect(path)) as database, database:
        for table, rows in {"user": people, "chat": conversations, "file": 1}.items():
            database.execute(f'CREATE TABLE "{table}" (id INTEGER)')
            database.executemany(
                f'INSERT INTO "{table}" VALUES (?)', [(number,) for number in range(rows)]
            )


def holds(monkeypatch: pytest.MonkeyPatch, people: int = 2, conversations: int = 3) -> None:
    """Sets the content of the volume for the next copies of the chat."""

    def copy_out(settings: object, target: Path) -> None:
        target.mkdir()
        write_chat(target / "webui.db", people, conversations)

    monkeypatch.setattr(chat_volume, "copy_out", copy_out)


def make_site(folder: Path, monkeypatch: pytest.MonkeyPatch, **more: str) -> Site:
    state = folder / "state"
    release = state / "adapters" / "one"
    release.mkdir(parents=True)
    (state / WEIGHTS).write_text("weights")
    published = {"adapter_model.safetensors": files.sha256(state / WEIGHTS)}
    (release / "manifest.json").write_text(json.dumps({"name": "one", "sha256": published}))
    (release / "checkpoint").mkdir()
    (release / "checkpoint" / "model.safetensors").write_text("can be made again")
    (state / "adapters" / "current").symlink_to("one")
    files.write(state / "secrets.env", "KEY=secret", mode=0o600)
    (state / "night.lock").touch()
    for name in ("upgrade.json", "alarm.json", "attempts.json"):
        (state / name).write_text("{}")
    holds(monkeypatch)
    monkeypatch.setattr(chat_volume, "sizes", lambda settings: (20_000, 0))
    found = settings.load("rehearsal")
    values = found.values | {"STATE_DIR": str(state), "BACKUP_KEEP": "2"} | more
    return Site(replace(found, values=values), cast(Stacks, None), lambda line: None)


def volume_is(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs the program of Open WebUI's image here, with data as the chat's volume."""
    code = "import pathlib, sys; import glue; import webui_data as here; "
    code += f"here.DATA = pathlib.Path({str(data)!r}); sys.exit(here.main(sys.argv[1]))"
    monkeypatch.setattr(
        chat_volume, "command", lambda settings, verb: [sys.executable, "-c", code, verb]
    )


def with_settings(site: Site, **values: str) -> Site:
    return replace(site, settings=replace(site.settings, values=site.settings.values | values))


def make_as_if_at(site: Site, name: str) -> Path:
    return backup.make(site, now=datetime.strptime(name, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC))


class NoStacks:
    """A machine on which nothing runs. volumes: the existing ones."""

    def __init__(self, volumes: tuple[str, ...] = ("webui-data",)) -> None:
        self.there = set(volumes)

    def missing_images(self, references: object) -> list[str]:
        return []

    def services(self, stack: str) -> dict[str, object]:
        return {}

    def volumes(self, *names: str) -> tuple[str, ...]:
        return names

    def missing_volumes(self, *names: str) -> tuple[str, ...]:
        return tuple(name for name in names if name not in self.there)

    def ensure_volumes(self, *names: str) -> None:
        self.there |= set(names or VOLUMES)

    def remove_trainer(self) -> None: ...
