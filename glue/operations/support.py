"""Writes a file for support: settings, states, journal, logs; no chat, document, secret, name."""

from __future__ import annotations

import io
import json
import pwd
import tarfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from typing import Any

from glue.clients.site import Site
from glue.core import files, redact, services
from glue.core.settings import HIDDEN, PERSONAL
from glue.machine import doctor
from glue.serving import status

JOURNAL_LINES, LOG_LINES, NIGHTS = 1000, 500, 5
NIGHT_FILES = ("verdict.json", "result.json", "job.json", "progress.jsonl")
FIRST_PERSON = 1000  # the first user ID that adduser gives
SHORTEST_NAME = 4  # characters


def support(site: Site) -> dict[str, Any]:
    """Writes state/support-<utc>.tar.gz, readable by its owner only, and returns its contents."""
    path = site.state / f"support-{files.time_stamp()}.tar.gz"
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
    """Each file's name and text."""
    rows = files.read_lines(site.state / "journal.jsonl")[-JOURNAL_LINES:]
    yield "settings.txt", settings_text(site)
    yield "status.json", tried(lambda: json.dumps(status.status(site), indent=1))
    yield "doctor.json", tried(lambda: json.dumps(examined(site), indent=1))
    yield "journal.jsonl", "".join(json.dumps(row) + "\n" for row in rows)
    # not Open WebUI's log, which names people and their documents
    day = [("day", name) for name in services.DAY_SERVICES if name != "open-webui"]
    for stack, name in (*day, ("night", "trainer")):
        yield f"logs/{name}.txt", tried(partial(site.stacks.last_log_lines, stack, name, LOG_LINES))
    for night in sorted((site.state / "nights").glob("*"))[-NIGHTS:]:
        for path in (night / name for name in NIGHT_FILES):
            if path.exists():
                text = path.read_text(encoding="utf-8", errors="replace")
                yield f"nights/{night.name}/{path.name}", text


def settings_text(site: Site) -> str:
    shown = {
        key: redact.HIDDEN if key in (*HIDDEN, *PERSONAL) else repr(value)
        for key, value in sorted(site.settings.values.items())
    }
    sources = site.settings.sources
    return "".join(f"{key}={value} ({sources[key]})\n" for key, value in shown.items())


def examined(site: Site) -> list[dict[str, Any]]:
    return [asdict(row) for row in doctor.examine(doctor.observe(site, doctor.ALL), doctor.ALL)]


def tried(look: Callable[[], str]) -> str:
    """A failing part, such as a damaged file, must not lose the others."""
    try:
        return look()
    except Exception as error:
        return f"not available: {type(error).__name__}: {error}"


def names(site: Site) -> list[str]:
    """Of accounts here and, while it answers, in the chat; also the longer parts of each."""
    accounts = [one for one in pwd.getpwall() if one.pw_uid >= FIRST_PERSON]
    full = [one.pw_gecos.split(",")[0] for one in accounts]
    found = [name for name in full if " " in name]
    with suppress(Exception):  # this file is needed most when something does not work
        found += [person["name"] for person in site.administrator().people()]
    return [part for name in found for part in (name, *name.split()) if len(part) >= SHORTEST_NAME]
