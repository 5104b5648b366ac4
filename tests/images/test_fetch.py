"""The download of a model with the hub's own library, from a stub of the hub."""

import errno
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import fetch_models as module
from tests.stub_hub import LARGE, StubHub, fetch_command, running

MODEL = "stub/model"
NOTHING = {"revision": "main", "commit": "", "files": {}}
Rows = dict[str, dict[str, Any]]


@pytest.fixture
def hub() -> Iterator[StubHub]:
    with running(StubHub()) as started:
        yield started


def run(home: Path, endpoint: str, entry: dict[str, Any], *options: str) -> tuple[int, Rows]:
    """Exit code, and the last row of each phase."""
    listing = home / "models.json"
    listing.write_text(json.dumps({MODEL: entry}))
    environment = {
        "PATH": os.environ["PATH"],
        "HF_HOME": str(home),
        "HF_ENDPOINT": endpoint,
        "HF_HUB_DISABLE_XET": "1",
    }
    command = fetch_command(*options, str(listing), MODEL)
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    return done.returncode, {row["phase"]: row for row in rows}


def fetch(home: Path, hub: StubHub, entry: dict[str, Any] = NOTHING) -> tuple[int, Rows]:
    return run(home, f"http://127.0.0.1:{hub.port}", entry)


def nowhere(home: Path, entry: dict[str, Any], *options: str) -> tuple[int, Rows]:
    return run(home, "http://127.0.0.1:9", entry, *options)


def large_file(home: Path, hub: StubHub) -> Path:
    return home / "hub" / "models--stub--model" / "snapshots" / hub.commit / LARGE


def kept(rows: Rows) -> dict[str, Any]:
    return {
        "revision": "main",
        "commit": rows["verified"]["commit"],
        "files": rows["verified"]["files"],
    }


def test_each_file_is_downloaded_once_and_complete_offline(tmp_path: Path, hub: StubHub) -> None:
    code, rows = fetch(tmp_path, hub)
    assert code == 0 and rows["verified"]["commit"] == hub.commit
    assert large_file(tmp_path, hub).read_bytes() == hub.files[LARGE]
    before = hub.sent.copy()
    assert fetch(tmp_path, hub, kept(rows))[0] == 0 and hub.sent == before
    assert nowhere(tmp_path, kept(rows))[0] == 0
    assert nowhere(tmp_path, kept(rows), "--check")[1]["checked"]["wrong"] == []


def test_the_library_finds_the_model_offline_by_name(tmp_path: Path, hub: StubHub) -> None:
    assert fetch(tmp_path, hub)[0] == 0
    code = f"import huggingface_hub; print(huggingface_hub.snapshot_download({MODEL!r}))"
    environment = {"PATH": os.environ["PATH"], "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    found = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert Path(found.stdout.strip()) == large_file(tmp_path, hub).parent


def test_a_cut_download_resumes(tmp_path: Path, hub: StubHub) -> None:
    hub.cuts, hub.files[LARGE] = 1, bytes(25_000_000)
    code, rows = fetch(tmp_path, hub)
    assert code == 0 and large_file(tmp_path, hub).read_bytes() == hub.files[LARGE]
    assert hub.ranges == [
        "bytes=10485760-"
    ]  # the library writes 10 MiB at a time, and half of the file had come
    assert rows["found"]["commit"] == hub.commit


def test_a_failing_hub_is_retried(tmp_path: Path, hub: StubHub) -> None:
    hub.failures = 1
    assert fetch(tmp_path, hub)[0] == 0 and hub.failures == 0


def test_wrong_content_of_the_right_size_is_downloaded_again(tmp_path: Path, hub: StubHub) -> None:
    hub.spoiled = 1
    assert fetch(tmp_path, hub)[0] == 0
    assert large_file(tmp_path, hub).read_bytes() == hub.files[LARGE]
    assert hub.sent[LARGE] == 2 * len(hub.files[LARGE])


@pytest.mark.parametrize("name", [LARGE, "config.json"])
def test_only_a_file_damaged_on_disk_is_downloaded_again(
    name: str, tmp_path: Path, hub: StubHub
) -> None:
    entry = kept(fetch(tmp_path, hub)[1])
    path = large_file(tmp_path, hub).with_name(name)
    path.write_bytes(b"?" * len(hub.files[name]))
    before = hub.sent.copy()
    assert fetch(tmp_path, hub, entry)[0] == 0
    assert path.read_bytes() == hub.files[name]
    assert {key: hub.sent[key] - before[key] for key in hub.sent} == {
        "config.json": 0,
        LARGE: 0,
    } | {name: len(hub.files[name])}


def test_a_truncated_file_is_named_offline(tmp_path: Path, hub: StubHub) -> None:
    entry = kept(fetch(tmp_path, hub)[1])
    large_file(tmp_path, hub).write_bytes(b"half")
    assert nowhere(tmp_path, entry, "--check")[1]["checked"]["wrong"] == [LARGE]
    code, rows = nowhere(tmp_path, entry)
    assert code == 1 and rows["failed"]["model"] == MODEL


def test_the_first_resolved_commit_is_kept(tmp_path: Path, hub: StubHub) -> None:
    entry = kept(fetch(tmp_path, hub)[1])
    asked: list[str] = []
    answer = hub.answer
    hub.answer = lambda request: (asked.append(request.path), answer(request))[1]  # type: ignore[method-assign, func-returns-value]
    large_file(tmp_path, hub).resolve().unlink()
    assert fetch(tmp_path, hub, entry)[0] == 0
    assert any(entry["commit"] in path for path in asked) and not any(
        "main" in path for path in asked
    )


def test_an_incomplete_model_is_not_found(tmp_path: Path, hub: StubHub) -> None:
    assert nowhere(tmp_path, NOTHING)[0] == 1
    assert nowhere(tmp_path, NOTHING, "--check")[1]["checked"]["wrong"] == ["refs/main"]
    assert not (tmp_path / "hub" / "models--stub--model" / "refs" / "main").exists()


LISTING = "/api/models/"
PAGE = "https://huggingface.co/stub/model"


@pytest.mark.parametrize(
    ("path", "status", "headers"),
    [
        (LISTING, 401, {"X-Error-Message": "Invalid credentials in Authorization header"}),
        (LARGE, 403, {"X-Error-Code": "GatedRepo"}),
    ],
)
def test_a_refusing_hub_is_not_retried_and_the_page_to_open_is_named(
    path: str, status: int, headers: dict[str, str], tmp_path: Path, hub: StubHub
) -> None:
    hub.refusals = [(path, status, headers)] * 20
    code, rows = fetch(tmp_path, hub)
    assert code == 1 and PAGE in rows["failed"]["reason"] and "HF_TOKEN" in rows["failed"]["reason"]
    assert "waiting" not in rows and len(hub.refusals) >= 18  # files are asked for side by side


def test_temporary_faults_of_the_listing_are_printed_and_retried(
    tmp_path: Path, hub: StubHub
) -> None:
    hub.refusals = [(LISTING, 503, {}), (LISTING, 0, {}), (LISTING, 429, {"Retry-After": "1"})]
    code, rows = fetch(tmp_path, hub)
    assert code == 0 and rows["verified"]["commit"] == hub.commit and not hub.refusals
    assert (
        rows["waiting"]["seconds"] == 1 and "429" in rows["waiting"]["reason"]
    )  # the last of three


class Answered(Exception):
    def __init__(self, status: int, **headers: str) -> None:
        super().__init__(f"HTTP {status}")
        self.response = SimpleNamespace(
            status_code=status, headers={name.replace("_", "-"): headers[name] for name in headers}
        )


def wrapped(error: Exception) -> Exception:
    """As the library raises it: with the cause below its own error."""
    outer = RuntimeError("the library's own words")
    outer.__cause__ = error
    return outer


@pytest.mark.parametrize(
    ("error", "do"),
    [
        (Answered(400), ""),
        (Answered(401), PAGE),
        (Answered(403), "HF_TOKEN"),
        (Answered(404), "no such model or revision"),
        *((Answered(status), None) for status in (408, 425, 429, 500, 502, 503, 504)),
        (OSError(errno.ENOSPC, "No space left on device"), ""),
        (PermissionError(errno.EACCES, "Permission denied"), ""),
        (
            ConnectionError(
                "[SSL: CERTIFICATE_VERIFY_FAILED] self-signed certificate in certificate chain"
            ),
            "EXTRA_CA",
        ),
        (ConnectionError("407 Proxy Authentication Required"), "HTTPS_PROXY"),
        (ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"), None),
        (TimeoutError("timed out"), None),
    ],
    ids=str,
)
def test_only_temporary_faults_are_retried(error: Exception, do: str | None) -> None:
    found = module.remedy(wrapped(error))
    assert found is None if do is None else found is not None and do in found.format(model=MODEL)


@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        (Answered(429, Retry_After="30"), 30),
        (Answered(503, Retry_After="30"), 30),
        (Answered(429, RateLimit='"api";r=0;t=55'), 55),
        (Answered(503, RateLimit='"api";r=400;t=55'), 0),
        (Answered(429, Retry_After="Fri, 27 Nov 2026 07:28:00 GMT"), 0),
        (Answered(429), 0),
        (TimeoutError(), 0),
    ],
)
def test_the_hub_s_requested_pause_is_kept(error: Exception, seconds: int) -> None:
    assert module.asked_pause(wrapped(error)) == seconds


def watched(
    monkeypatch: pytest.MonkeyPatch, sizes: list[int]
) -> tuple[list[dict[str, Any]], list[int]]:
    """Its output and exit, with these bytes on disk at each look."""
    said: list[dict[str, Any]] = []
    ends: list[int] = []
    enough = threading.Event()
    looks = iter(sizes)

    def held(model: str) -> int:
        size = next(looks, None)
        if size is None:
            enough.set()
        return sizes[-1] if size is None else size

    monkeypatch.setattr(module, "PROGRESS_SECONDS", 0.01)
    monkeypatch.setattr(module, "held_bytes", held)
    monkeypatch.setattr(module, "say", lambda **row: said.append(row))
    monkeypatch.setattr(os, "_exit", ends.append)
    with module.progress(MODEL, 100):
        assert enough.wait(30)
    return said, ends


def test_progress_is_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    said, ends = watched(monkeypatch, [10, 60, 100])
    assert said[:3] == [
        {"phase": "fetch", "model": MODEL, "bytes": count, "of": 100} for count in (10, 60, 100)
    ]
    assert ends == []


def test_a_silent_hub_ends_the_download(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SILENT_SECONDS", 0)
    said, ends = watched(monkeypatch, [10, 10])
    assert ends[0] == 1 and any(
        row["phase"] == "failed" and "nothing was received" in row["reason"] for row in said
    )
