"""A bundle for whoever helps: what runs, what was seen and said, and nobody's words. No chat, no document, no secret is in it."""

from __future__ import annotations

import io
import json
import re
import tarfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from glue import doctor, files, notify, plan, status
from glue.settings import HIDDEN
from glue.site import Site
from glue.types import GlueError

JOURNAL_LINES, LOG_LINES, NIGHTS = 1000, 500, 5
NIGHT_FILES = ("verdict.json", "result.json", "job.json", "progress.jsonl")
TOKEN = re.compile(r"""(?i)(b(?:earer|asic)\s+|(?:token|key|password|secret)["']?\s*[=:]\s*["']?|eyJ)[\w.+/=\-]{16,}""")


def support(site: Site) -> dict[str, Any]:
    """Writes state/support-<utc>.tar.gz, its owner's alone, and returns what is in it."""
    path = site.state / f"support-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.tar.gz"
    path.touch(mode=0o600)
    names = []
    with path.open("wb") as file, tarfile.open(fileobj=file, mode="w:gz") as tar:
        for name, text in contents(site):
            data = redacted(site, text).encode()
            entry = tarfile.TarInfo(name)
            entry.size, entry.mtime = len(data), int(time.time())
            tar.addfile(entry, io.BytesIO(data))
            names.append(name)
    return {"bundle": str(path), "files": names}


def contents(site: Site) -> Iterator[tuple[str, str]]:
    values, sources = site.settings.values, site.settings.sources
    yield "settings.txt", "".join(f"{key}={values[key]!r} ({sources[key]})\n" for key in sorted(values) if key not in HIDDEN)
    yield "status.json", tried(lambda: json.dumps(status.status(site), indent=1))
    yield "doctor.json", tried(lambda: json.dumps([asdict(row) for row in examined(site)], indent=1))
    rows = files.read_lines(site.state / "journal.jsonl")[-JOURNAL_LINES:]
    yield "journal.jsonl", "".join(json.dumps(row) + "\n" for row in rows)
    for name in plan.DAY_SERVICES:
        if name != "open-webui":  # its log names people and their documents
            yield f"logs/{name}.txt", tried(lambda name=name: site.stacks.last_log_lines("day", name, LOG_LINES))  # type: ignore[misc]
    yield "logs/trainer.txt", tried(lambda: site.stacks.last_log_lines("night", "trainer", LOG_LINES))
    for night in sorted((site.state / "nights").glob("*"))[-NIGHTS:]:
        for name in NIGHT_FILES:
            if (night / name).exists():
                yield f"nights/{night.name}/{name}", (night / name).read_text(encoding="utf-8", errors="replace")


def examined(site: Site) -> list[doctor.Finding]:
    return doctor.examine(doctor.observe(site, doctor.ALL), doctor.ALL)


def tried(look: Callable[[], str]) -> str:
    """A bundle is wanted most when something does not work."""
    try:
        return look()
    except (GlueError, OSError) as error:
        return f"it could not be seen: {error}"


def redacted(site: Site, text: str) -> str:
    return TOKEN.sub(r"\1(hidden)", notify.masked(site.settings.values, text))
