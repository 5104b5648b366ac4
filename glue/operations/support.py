"""A bundle for whoever helps: what runs, what was seen and printed. It holds no chat, no document,
no secret and no person."""

from __future__ import annotations

import io
import json
import pwd
import tarfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from typing import Any

from glue.clients.site import Site
from glue.core import files, redact, services
from glue.core.settings import HIDDEN, PERSONAL
from glue.machine import doctor
from glue.serving import status

JOURNAL_LINES, LOG_LINES, NIGHTS = 1000, 500, 5
NIGHT_FILES = ("verdict.json", "result.json", "job.json", "progress.jsonl")
FIRST_PERSON, SHORTEST_NAME = 1000, 4  # the first user id that adduser gives; characters


def support(site: Site) -> dict[str, Any]:
    """Writes state/support-<utc>.tar.gz, its owner's alone, and returns what is in it."""
    path = site.state / f"support-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.tar.gz"
    path.touch(mode=0o600)
    packed, people = [], names(site)
    with path.open("wb") as file, tarfile.open(fileobj=file, mode="w:gz") as tar:
        for name, text in contents(site):
            data = redact.strangers(site.settings.hide(text), people).encode()
            entry = tarfile.TarInfo(name)
            entry.size, entry.mtime = len(data), int(time.time())
            tar.addfile(entry, io.BytesIO(data))
            packed.append(name)
    return {"bundle": str(path), "files": packed}


def contents(site: Site) -> Iterator[tuple[str, str]]:
    values, sources = site.settings.values, site.settings.sources
    shown = {
        key: redact.HIDDEN if key in (*HIDDEN, *PERSONAL) else repr(value)
        for key, value in sorted(values.items())
    }
    yield (
        "settings.txt",
        "".join(f"{key}={value} ({sources[key]})\n" for key, value in shown.items()),
    )
    yield "status.json", tried(lambda: json.dumps(status.status(site), indent=1))
    yield (
        "doctor.json",
        tried(lambda: json.dumps([asdict(row) for row in examined(site)], indent=1)),
    )
    rows = files.read_lines(site.state / "journal.jsonl")[-JOURNAL_LINES:]
    yield "journal.jsonl", "".join(json.dumps(row) + "\n" for row in rows)
    for name in services.DAY_SERVICES:
        if name != "open-webui":  # its log names people and their documents
            yield (
                f"logs/{name}.txt",
                tried(partial(site.stacks.last_log_lines, "day", name, LOG_LINES)),
            )
    yield (
        "logs/trainer.txt",
        tried(lambda: site.stacks.last_log_lines("night", "trainer", LOG_LINES)),
    )
    for night in sorted((site.state / "nights").glob("*"))[-NIGHTS:]:
        for name in NIGHT_FILES:
            if (night / name).exists():
                yield (
                    f"nights/{night.name}/{name}",
                    (night / name).read_text(encoding="utf-8", errors="replace"),
                )


def examined(site: Site) -> list[doctor.Finding]:
    return doctor.examine(doctor.observe(site, doctor.ALL), doctor.ALL)


def tried(look: Callable[[], str]) -> str:
    try:
        return look()
    except Exception as error:  # also of a file that is damaged: the rest of the bundle says why
        return f"it could not be seen: {type(error).__name__}: {error}"


def names(site: Site) -> list[str]:
    """Of people: accounts of this machine, and of the chat while it answers. Also the longer parts
    of a name."""
    full = [
        account.pw_gecos.split(",")[0]
        for account in pwd.getpwall()
        if account.pw_uid >= FIRST_PERSON
    ]
    found = [name for name in full if " " in name]
    with suppress(Exception):  # a bundle is wanted most when something does not work
        found += [person["name"] for person in site.administrator().people()]
    return [part for name in found for part in (name, *name.split()) if len(part) >= SHORTEST_NAME]
