"""The models of the hub, at one commit, every file checked."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from glue.clients import host
from glue.clients.compose import run_command
from glue.clients.site import Site
from glue.core import files
from glue.core.commands import stream
from glue.core.errors import GlueError
from glue.core.settings import REPOSITORY, Settings

FETCH_DEADLINE_SECONDS = 24 * 3600
LOOK_DEADLINE_SECONDS = 120
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy")


def run_fetch(
    settings: Settings, *options: str, hear: Callable[[dict[str, Any]], None]
) -> tuple[int, str]:
    """Runs images/vllm/fetch_models.py on state/models.json; hear gets its rows. Returns its exit
    code and its last lines.

    In vLLM's own image: it is here before the night's is built, and the library that fetches a
    model is then the one
    that finds it by day.
    """
    offline = "--check" in options
    environment = {key: os.environ[key] for key in PROXIES if key in os.environ and not offline}
    environment |= {
        key: settings[key] for key in ("HF_TOKEN", "HF_ENDPOINT") if key in settings.values
    }
    # without Xet, because plain HTTPS goes through any office's proxy, and is what was tested
    environment |= {
        "HF_HOME": "/models",
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }
    mounts = {
        f"{settings['PROJECT']}-models": "/models",
        f"{REPOSITORY}/images/vllm/fetch_models.py": "/opt/fetch.py:ro",
        f"{settings.state}/models.json": "/opt/models.json:ro",
    }
    if authorities := settings.values.get("EXTRA_CA") or host_ca_bundle():
        mounts[authorities] = "/opt/authorities.pem:ro"
        environment["SSL_CERT_FILE"] = "/opt/authorities.pem"
    command = [*run_command(online=not offline), "--entrypoint=python3"]
    command += [f"--volume={here}:{there}" for here, there in mounts.items()] + [
        f"--env={key}" for key in environment
    ]
    command += [
        settings.local(settings.image("VLLM_IMAGE")),
        "/opt/fetch.py",
        *options,
        "/opt/models.json",
    ]

    def heard(line: str) -> None:
        if line.startswith("{"):  # the library has words of its own to say
            hear(json.loads(line))

    return stream(
        command,
        dict(os.environ) | environment,
        heard,
        LOOK_DEADLINE_SECONDS if offline else FETCH_DEADLINE_SECONDS,
    )


def host_ca_bundle() -> str:
    """What this host trusts, and so what a build behind the same office's proxy must trust. Empty
    where there is none."""
    candidates = (
        os.environ.get("PIP_CERT"),
        os.environ.get("SSL_CERT_FILE"),
        "/etc/ssl/certs/ca-certificates.crt",
    )
    return next((path for path in candidates if path and Path(path).is_file()), "")


def models(site: Site) -> tuple[dict[str, tuple[str, ...]], dict[str, int], frozenset[str]]:
    """Wrong files and bytes held, by model of the hub, and those that could not be looked at. Sizes
    only, and no network:
    setup looks at every byte."""
    asked = site.settings.hub_models
    wrong: dict[str, tuple[str, ...]] = dict.fromkeys(asked, ("never fetched",))
    held: dict[str, int] = {}
    path = site.state / "models.json"
    image = site.settings.image("VLLM_IMAGE")
    if not asked or not path.exists() or site.stacks.missing_images((image,)):
        return wrong, held, frozenset()
    try:
        known = files.read_json(path, {})
    except files.Damaged as error:
        return dict.fromkeys(asked, (error.saw,)), held, frozenset(asked)
    heard: set[str] = set()

    def hear(row: dict[str, Any]) -> None:
        name = row["model"]
        heard.add(name)
        if name in asked and known[name]["revision"] == asked[name]:
            wrong[name] = tuple(row["wrong"]) if row["phase"] == "checked" else (row["reason"],)
            held[name] = row.get("bytes", 0)

    code, last_lines = run_fetch(site.settings, "--check", hear=hear)
    unseen = frozenset(asked.keys() - heard if code != 0 else ())
    wrong |= dict.fromkeys(
        unseen, (f"they could not be looked at: {last_lines or f'exit {code}'}",)
    )
    return wrong, held, unseen


def ensure_models(site: Site) -> None:
    """The hub's models, whole and checked, in their volume. state/models.json is what they are, and
    is kept to."""
    path = site.state / "models.json"
    known = files.read_json(path, {})
    models = {
        name: kept_or_new(known.get(name), revision)
        for name, revision in site.settings.hub_models.items()
    }
    if not models:
        return
    files.write_json(path, models)
    failures: list[str] = []

    def hear(row: dict[str, Any]) -> None:
        name = row["model"]
        if row["phase"] == "fetch":
            site.tell(f"{name}: {host.readable(row['bytes'])} of {host.readable(row['of'])}")
        elif row["phase"] in ("found", "verified"):
            models[name] |= {"commit": row["commit"], "files": row["files"]}
            files.write_json(path, models)
            site.tell(f"{name}: {row['phase']}, commit {row['commit']}, {len(row['files'])} files")
        elif row["phase"] == "waiting":
            site.tell(f"{name}: {row['reason']}; tried again in {row['seconds']} s")
        elif row["phase"] == "failed":
            failures.append(f"{name}: {row['reason']}")

    site.tell("looking at the models, every byte of them")
    code, last_lines = run_fetch(site.settings, hear=hear)
    if code != 0:
        do = "make setup again, when that is put right: whole files are kept"
        raise GlueError("a model could not be fetched", "\n".join(failures) or last_lines, do)


def kept_or_new(known: dict[str, Any] | None, revision: str) -> dict[str, Any]:
    """A model's entry in models.json: what was found the first time, until the site asks for
    another revision."""
    return (
        known
        if known and known["revision"] == revision
        else {"revision": revision, "commit": "", "files": {}}
    )
