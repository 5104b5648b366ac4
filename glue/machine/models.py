"""The hub's models: fetched at one commit, every file checked."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from glue.clients import host, one_shot
from glue.clients.site import Site
from glue.core import files
from glue.core.commands import stream
from glue.core.errors import GlueError
from glue.core.model_files import commit_of
from glue.core.settings import REPOSITORY, Settings

MADE_HERE = "made on this machine"  # in place of a commit
FETCH_DEADLINE_SECONDS = 24 * 3600
CHECK_DEADLINE_SECONDS = 120
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy")
LIBRARY = {
    "HF_HOME": "/models",
    "HF_HUB_OFFLINE": "0",
    "HF_HUB_DISABLE_XET": "1",  # plain HTTPS passes any office's proxy, and is what was tested
    "HF_HUB_DISABLE_TELEMETRY": "1",
}
Row = dict[str, Any]


def run_fetch(
    settings: Settings, names: Iterable[str], *options: str, hear: Callable[[Row], None]
) -> tuple[int, str]:
    """Runs images/vllm/fetch_models.py on these models of state/models.json; hear gets its rows.
    Returns its exit code and last lines. In vLLM's image: the library that fetches a model also
    reads it by day."""
    offline = "--check" in options
    deadline = CHECK_DEADLINE_SECONDS if offline else FETCH_DEADLINE_SECONDS
    environment = {key: os.environ[key] for key in PROXIES if key in os.environ and not offline}
    for key in ("HF_TOKEN", "HF_ENDPOINT"):
        if key in settings.values:
            environment[key] = settings[key]
    volumes = {
        "/models": f"{settings['PROJECT']}-models",
        "/opt/fetch.py:ro": f"{REPOSITORY}/images/vllm/fetch_models.py",
        "/opt/models.json:ro": f"{settings.state}/models.json",
    }
    environment |= LIBRARY
    if authorities := settings.values.get("EXTRA_CA") or host_ca_bundle():
        volumes["/opt/authorities.pem:ro"] = authorities
        environment["SSL_CERT_FILE"] = "/opt/authorities.pem"
    command = one_shot.command(
        settings.local(settings.image("VLLM_IMAGE")),
        "python3",
        *("/opt/fetch.py", *options, "/opt/models.json", *names),
        options=[f"--env={key}" for key in environment],
        volumes=volumes,
        online=not offline,
    )

    def heard(line: str) -> None:
        if line.startswith("{"):  # the library prints lines of its own
            hear(json.loads(line))

    return stream(command, dict(os.environ) | environment, heard, deadline)


def host_ca_bundle() -> str:
    """The file of authorities that this host trusts; empty if there is none."""
    known = (os.environ.get("PIP_CERT"), os.environ.get("SSL_CERT_FILE"))
    candidates = (*known, "/etc/ssl/certs/ca-certificates.crt")
    return next((path for path in candidates if path and Path(path).is_file()), "")


def models(
    site: Site, asked: Mapping[str, str]
) -> tuple[dict[str, tuple[str, ...]], dict[str, int], frozenset[str]]:
    """Of settings.hub_models: by model, the wrong files and the bytes on disk; and the unchecked
    models. Compares sizes, offline; setup reads every byte."""
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

    def hear(row: Row) -> None:
        name = row["model"]
        heard.add(name)
        if name in asked and known[name]["revision"] == asked[name]:
            wrong[name] = tuple(row["wrong"]) if row["phase"] == "checked" else (row["reason"],)
            held[name] = row.get("bytes", 0)

    there = [name for name in asked if name in known]
    code, last_lines = run_fetch(site.settings, there, "--check", hear=hear) if there else (0, "")
    unseen = frozenset(set(there) - heard if code != 0 else ())
    wrong |= dict.fromkeys(unseen, (f"not checked: {last_lines or f'exit code {code}'}",))
    return wrong, held, unseen


def made_for_another(site: Site, release: str) -> str:
    """In words, for which other model or commit the adapter was made; empty if it fits what serves,
    or if an earlier version published it, which did not record that."""
    manifest = site.store.manifest(release)
    name, commit = manifest.get("served_model"), manifest.get("served_revision")
    if not name:
        return ""
    served = site.settings["SERVED_MODEL"]
    if name != served:
        return f"it was made for {name}, and the served model is {served}"
    known = commit_of(site.state, served)
    if known and commit and commit != known:
        return f"it was made for commit {commit} of {served}, and {known} is served"
    return ""


def served(site: Site) -> dict[str, str]:
    """For the manifest of a new adapter: what it is made for, as made_for_another reads it."""
    name = site.settings["SERVED_MODEL"]
    commit = commit_of(site.state, name) or MADE_HERE
    return {"served_model": name, "served_revision": commit}


def ensure_models(site: Site, asked: Mapping[str, str]) -> None:
    """Fetches and checks these of settings.hub_models. state/models.json keeps the first commit and
    files, also of models that are no longer asked for."""
    path = site.state / "models.json"
    models = files.read_json(path, {})
    if not asked:
        return
    models |= {name: kept_or_new(models.get(name), revision) for name, revision in asked.items()}
    files.write_json(path, models)
    failures: list[str] = []

    def hear(row: Row) -> None:
        name, phase = row["model"], row["phase"]
        if phase in ("found", "verified"):
            found = models[name] | {"commit": row["commit"], "files": row["files"]}
            # read again: within the hours of a fetch, another command may have added a model
            files.write_json(path, files.read_json(path, {}) | {name: found})
        if phase == "failed":
            failures.append(f"{name}: {row['reason']}")
        elif words := progress(row):
            site.tell(f"{name}: {words}")

    site.tell(f"checking every byte of {' and '.join(asked)}")
    code, last_lines = run_fetch(site.settings, asked, hear=hear)
    if code != 0:
        do = "correct the cause, then repeat make setup or make export; complete files are kept"
        raise GlueError("a model could not be fetched", "\n".join(failures) or last_lines, do)


def progress(row: Row) -> str:
    match row["phase"]:
        case "fetch":
            return f"{host.readable(row['bytes'])} of {host.readable(row['of'])}"
        case "found" | "verified" as phase:
            size = host.readable(sum(wanted["size"] for wanted in row["files"].values()))
            return f"{phase}, commit {row['commit']}, {len(row['files'])} files, {size}"
        case "waiting":
            return f"{row['reason']}; next attempt in {row['seconds']} s"
    return ""


def kept_or_new(known: dict[str, Any] | None, revision: str) -> dict[str, Any]:
    """A model's entry in models.json: what was found first, unless the revision changed."""
    new = {"revision": revision, "commit": "", "files": {}}
    return known if known and known["revision"] == revision else new
