"""A company proxy in the shell or in Docker's config.json: requests to our own addresses do not
use it."""

import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any, cast

import pytest

from bench.browser import Page
from glue.clients import compose
from glue.clients.open_webui import WebUI
from glue.clients.vllm import Vllm
from glue.core.errors import GlueError
from glue.core.settings import REPOSITORY, load
from glue.machine import images, models

KINDS = ("HTTP", "HTTPS", "FTP", "ALL")
VARIABLES = {f"{kind}_PROXY" for kind in (*KINDS, "NO")}
NO_PROXIES = ("example.org", "localhost,door", "*.example.com,127.0.0.0/8")
CHECK = re.compile(r'test: \["CMD", "python3", "-c", "(.+?)"\]')


@contextmanager
def serving(status: int) -> Iterator[tuple[str, list[str]]]:
    """A server on this machine: its address, and the requested paths."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(status)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        do_CONNECT = do_POST = do_GET

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_port}", asked
    server.shutdown()
    server.server_close()


@pytest.fixture(params=NO_PROXIES)
def proxy(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The requests to the proxy that the environment names."""
    with serving(503) as (address, asked):
        for kind in KINDS:
            for name in (f"{kind}_PROXY", f"{kind}_proxy".lower()):
                monkeypatch.setenv(name, f"http://{address}")
        monkeypatch.setenv("NO_PROXY", request.param)
        monkeypatch.setenv("no_proxy", request.param)
        yield asked


def test_glue_reaches_vllm_the_door_and_the_chat_without_a_proxy(proxy: list[str]) -> None:
    with serving(200) as (address, asked):
        assert Vllm(address, "key").answers()
        assert WebUI(f"http://{address}").account() == {}
        with pytest.raises(
            GlueError
        ):  # no socket is spoken here; what counts is who was asked for it
            Page(cast(WebUI, SimpleNamespace(url=f"http://{address}", user={"token": "t"})))
    assert (
        proxy == [] and {"/health", "/api/v1/auths/"} <= set(asked) and "/ws/socket.io" in asked[-1]
    )


@pytest.mark.parametrize(
    "file", ["compose.day.yaml", "compose.bench.yaml", "tests/e2e/recorder/compose.yaml"]
)
def test_health_checks_use_no_proxy(file: str, proxy: list[str]) -> None:
    checks = set(CHECK.findall((REPOSITORY / file).read_text()))
    assert checks
    with serving(200) as (address, asked):
        for check in checks:
            subprocess.run(
                [sys.executable, "-c", re.sub(r"127\.0\.0\.1:\d+", address, check)], check=True
            )
    assert proxy == [] and len(asked) == len(checks)


def test_a_health_check_fails_for_a_status_other_than_200() -> None:
    check, *_ = set(CHECK.findall((REPOSITORY / "compose.day.yaml").read_text()))
    with serving(503) as (address, _):
        command = [sys.executable, "-c", re.sub(r"127\.0\.0\.1:\d+", address, check)]
        assert subprocess.run(command, capture_output=True, check=False).returncode != 0


def test_containers_get_no_proxy_in_both_spellings() -> None:
    rows = [
        line.partition("=")
        for line in (REPOSITORY / "env" / "no-proxy.env").read_text().splitlines()
        if line[:1] != "#"
    ]
    assert {name: value for name, _, value in rows} == {
        spelling: "*" if name == "NO_PROXY" else ""
        for name in VARIABLES
        for spelling in (name, name.lower())
    }


def test_only_model_downloads_use_the_proxy(
    monkeypatch: pytest.MonkeyPatch, proxy: list[str]
) -> None:
    monkeypatch.setattr(compose, "docker_cli", lambda: "docker")
    monkeypatch.setattr(images, "stream", lambda command, *_: (0, " ".join(command)))
    monkeypatch.setattr(models, "stream", lambda command, *_: (0, " ".join(command)))
    online, check = (
        models.run_fetch(load("spark"), [], *options, hear=print)[1].split()
        for options in ((), ("--check",))
    )
    assert "--env=HTTPS_PROXY" in online and "--network=none" not in online
    assert (
        not any("PROXY" in part for part in check)
        and f"--env-file={REPOSITORY / 'env' / 'no-proxy.env'}" in check
    )
