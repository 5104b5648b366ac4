"""Downloads models from the hub into HF_HOME, each at one commit, and checks every file against the
hub's hash.

    python3 fetch.py MODELS.json MODEL...            downloads missing and wrong files
    python3 fetch.py --check MODELS.json MODEL...    only checks sizes, without a network

Reads   MODELS.json  {model: {"revision": wanted, "commit": as resolved first, or "", "files": {}}}
Prints  a JSON line a step:
        {"phase": "found", "model", "commit", "files"}  files: {name: {"size", "hash": "sha256:..."
                                                        or "git:..."}}
        {"phase": "fetch", "model", "bytes", "of"}      every PROGRESS_SECONDS
        {"phase": "waiting", "model", "reason", "seconds"}  before the next attempt
        {"phase": "verified", "model", "commit", "files"}
        {"phase": "checked", "model", "bytes", "wrong"}  with --check: bytes on disk, and names of
                                                         wrong files
        {"phase": "failed", "model", "reason"}
Exits   0; 1 after "failed"

The cache's reference `main` is set last, so that an incomplete model is never found offline.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.constants import HF_HUB_CACHE
from huggingface_hub.file_download import repo_folder_name
from huggingface_hub.utils import parse_ratelimit_headers  # type: ignore[attr-defined]

Files = dict[str, dict[str, Any]]
T = TypeVar("T")

# The library resumes after a cut connection, but restarts a file that a killed run left unfinished.
# So few files at a time: large models have files of gigabytes.
FILES_AT_A_TIME = 2
PAUSES_SECONDS = (
    1,
    4,
    16,
    64,
    256,
)  # before each further attempt; in each, the library itself tries six times
LONGEST_PAUSE_SECONDS = 3600  # a hub may ask for more time than the pauses give
PROGRESS_SECONDS = 20
SILENT_SECONDS = 900

# Permanent faults: HTTP status, error number of this machine, or words of a TLS library or proxy;
# and the remedy.
PAGE = (
    "open https://huggingface.co/{model} with your account, accept its terms, and set HF_TOKEN in"
    " env/site.env to your token"
)
STATUS = {
    401: f"the hub refuses access. HF_TOKEN is missing, wrong or expired: {PAGE}",
    403: (
        f"the hub refuses access: {PAGE}. A fine-grained token needs read access to gated"
        " repositories"
    ),
    404: f"the hub has no such model or revision. If it is a private one: {PAGE}",
}
ERROR_NUMBERS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)
WORDS = {
    "CERTIFICATE_VERIFY_FAILED": (
        "set EXTRA_CA in env/site.env to the bundle of your network's own authority"
    ),
    "407 Proxy": "the proxy asks for a name and password: put them into HTTPS_PROXY",
}


class Failed(Exception):
    """Its message is for people."""


def say(**row: Any) -> None:
    print(json.dumps(row), flush=True)


def folder(model: str) -> Path:
    return Path(HF_HUB_CACHE) / repo_folder_name(repo_id=model, repo_type="model")


def snapshot(model: str, commit: str) -> Path:
    return folder(model) / "snapshots" / commit


# ---------------------------------------------------------------------- look


def wrong_files(path: Path, files: Files, thorough: bool) -> list[str]:
    """Names of files that are missing, truncated or, if thorough, have another hash than the
    hub's."""
    return [name for name, wanted in files.items() if not is_right(path / name, wanted, thorough)]


def is_right(path: Path, wanted: dict[str, Any], thorough: bool) -> bool:
    if not path.is_file() or path.stat().st_size != wanted["size"]:
        return False
    return not thorough or digest(path, wanted["hash"].partition(":")[0]) == wanted["hash"]


def digest(path: Path, kind: str) -> str:
    """sha256 for a large file, and git's hash for a small one, which the hub keeps in git."""
    start = (
        hashlib.sha256() if kind == "sha256" else hashlib.sha1(b"blob %d\0" % path.stat().st_size)
    )
    with path.open("rb") as file:
        return f"{kind}:{hashlib.file_digest(file, lambda: start).hexdigest()}"


def held_bytes(model: str) -> int:
    """Bytes on disk, including unfinished files, which may disappear meanwhile."""
    count = 0
    for path in (folder(model) / "blobs").glob("*"):
        with suppress(FileNotFoundError):
            count += path.stat().st_size
    return count


def check(model: str, entry: dict[str, Any]) -> None:
    wrong = wrong_files(snapshot(model, entry["commit"]), entry["files"], thorough=False)
    main = folder(model) / "refs" / "main"
    if not wrong and not (main.is_file() and main.read_text() == entry["commit"]):
        wrong = ["refs/main"]
    say(phase="checked", model=model, bytes=held_bytes(model), wrong=wrong)


def listed(model: str, revision: str) -> tuple[str, Files]:
    """The current commit of a revision, and its files."""
    found = HfApi().model_info(model, revision=revision, files_metadata=True)
    files = {
        row.rfilename: {
            "size": row.size,
            "hash": f"sha256:{row.lfs.sha256}" if row.lfs else f"git:{row.blob_id}",
        }
        for row in found.siblings or []
    }
    return str(found.sha), files


# ---------------------------------------------------------------------- act


def fetch(model: str, entry: dict[str, Any]) -> None:
    commit, files = entry["commit"], entry["files"]
    if not files or wrong_files(snapshot(model, commit), files, thorough=True):
        commit, files = patiently(
            model, lambda: listed(model, entry["commit"] or entry["revision"])
        )
        say(phase="found", model=model, commit=commit, files=files)
        download(model, commit, files)
    point(model, commit)
    say(phase="verified", model=model, commit=commit, files=files)


def download(model: str, commit: str, files: Files) -> None:
    """Repeats until every file is right. Raises Failed."""
    path = snapshot(model, commit)
    drop(path, wrong_files(path, files, thorough=True))
    require_room(model, path, files)
    patiently(model, lambda: attempt(model, commit, files))


def attempt(model: str, commit: str, files: Files) -> None:
    path = snapshot(model, commit)
    with progress(model, sum(wanted["size"] for wanted in files.values())):
        snapshot_download(model, revision=commit, max_workers=FILES_AT_A_TIME)
    if wrong := wrong_files(path, files, thorough=True):
        drop(path, wrong)
        raise OSError(f"missing, or different from the hub's: {', '.join(wrong)}")


def patiently(model: str, act: Callable[[], T]) -> T:
    """Returns the result of act, which is repeated after temporary faults. Raises Failed for a
    permanent one and after the last pause."""
    for pause in (*PAUSES_SECONDS, None):
        try:
            return act()
        except Exception as error:  # the library's exception types differ between its releases
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            do = remedy(error)
            if do is not None or pause is None:
                raise Failed(f"{do.format(model=model)} ({reason})" if do else reason) from error
            seconds = max(pause, min(asked_pause(error), LONGEST_PAUSE_SECONDS))
            say(phase="waiting", model=model, reason=reason, seconds=seconds)
        time.sleep(seconds)
    raise AssertionError("the last attempt returns or raises")


def causes(error: Any) -> Iterator[Any]:
    """The error and its chain of causes."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def answer(error: Exception) -> Any:
    """The hub's response, if there is one, with status_code and headers."""
    return next(
        (row.response for row in causes(error) if getattr(row, "response", None) is not None), None
    )


def remedy(error: Exception) -> str | None:
    """What a person must do; empty if only the fault's own words say it; None for a temporary
    fault."""
    chain, response = list(causes(error)), answer(error)
    if (
        response is not None
        and 400 <= response.status_code < 500
        and response.status_code not in (408, 425, 429)
    ):
        return STATUS.get(response.status_code, "")
    if any(isinstance(row, OSError) and row.errno in ERROR_NUMBERS for row in chain):
        return ""
    return next(
        (do for words, do in WORDS.items() if any(words in str(row) for row in chain)), None
    )


def asked_pause(error: Exception) -> int:
    """Seconds that the hub asks to wait, by its Retry-After or RateLimit header; 0 if neither is
    there."""
    response = answer(error)
    if response is None:
        return 0
    limit = parse_ratelimit_headers(response.headers)
    asked = response.headers.get("Retry-After", "").strip()
    return (
        int(asked)
        if asked.isdigit()
        else limit.reset_in_seconds
        if limit and response.status_code == 429
        else 0
    )


def drop(path: Path, names: list[str]) -> None:
    """Removes the file and the target of its link, because the library trusts what is there."""
    for name in names:
        (path / name).resolve().unlink(missing_ok=True)
        (path / name).unlink(missing_ok=True)


def require_room(model: str, path: Path, files: Files) -> None:
    wanted = sum(files[name]["size"] for name in wrong_files(path, files, thorough=False))
    free = shutil.disk_usage(Path(HF_HUB_CACHE).parent).free
    if wanted > free:
        raise Failed(
            f"{wanted / 1e9:.1f} GB remain to download and {free / 1e9:.1f} GB of disk are free"
        )


def point(model: str, commit: str) -> None:
    main = folder(model) / "refs" / "main"
    main.parent.mkdir(parents=True, exist_ok=True)
    unfinished = main.with_name("main.unfinished")
    unfinished.write_text(commit)
    unfinished.replace(main)


@contextmanager
def progress(model: str, total: int) -> Iterator[None]:
    """Prints progress. Ends the program if nothing is received for SILENT_SECONDS."""
    over = threading.Event()

    def watch() -> None:
        last, since = -1, time.monotonic()
        while not over.wait(PROGRESS_SECONDS):
            held = held_bytes(model)
            say(phase="fetch", model=model, bytes=held, of=total)
            if held != last:
                last, since = held, time.monotonic()
            elif time.monotonic() - since > SILENT_SECONDS:
                say(
                    phase="failed",
                    model=model,
                    reason=f"nothing was received for {SILENT_SECONDS} s",
                )
                os._exit(1)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def main(arguments: list[str]) -> int:
    act = check if "--check" in arguments else fetch
    listing, *names = [one for one in arguments if one != "--check"]
    entries = json.loads(Path(listing).read_text(encoding="utf-8"))
    for model in names:
        try:
            act(model, entries[model])
        except Exception as error:
            name = "" if isinstance(error, Failed) else f"{type(error).__name__}: "
            say(phase="failed", model=model, reason=f"{name}{error}")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
