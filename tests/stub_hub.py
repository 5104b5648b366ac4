"""A stub of the model hub: the endpoints that a download uses, with faults on demand that a real
hub does not produce.

Two files: config.json, which the hub keeps in git, and model.safetensors, which it keeps by its
sha256.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

FETCH = str(Path(__file__).resolve().parent.parent / "images" / "vllm")
IMPATIENT = (
    "import fetch_models as fetch, sys; fetch.PAUSES_SECONDS = (0, 0, 0);"
    " sys.exit(fetch.main(sys.argv[1:]))"
)
LARGE = "model.safetensors"


def hashed(name: str, content: bytes) -> str:
    """The hub's hash: git's for a small file, sha256 for a large one."""
    return (
        hashlib.sha256(content).hexdigest()
        if name == LARGE
        else hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    )


@dataclass
class StubHub:
    """cuts, failures: how many more answers for LARGE break off halfway, or are a server error.
    spoiled: sends other bytes.

    refusals: what the next requests for a path that holds the first word get: a status with
    headers, or 0 for a cut connection.
    """

    commit: str = "c" * 40
    cuts: int = 0
    failures: int = 0
    spoiled: int = 0
    port: int = 0
    refusals: list[tuple[str, int, dict[str, str]]] = field(default_factory=list)
    sent: Counter[str] = field(default_factory=Counter)
    ranges: list[str] = field(default_factory=list)
    files: dict[str, bytes] = field(
        default_factory=lambda: {
            "config.json": b'{"model_type": "stub"}',
            LARGE: random.Random(3).randbytes(300_000),
        }
    )

    def rows(self) -> list[dict[str, Any]]:
        found = []
        for name, content in self.files.items():
            row: dict[str, Any] = {
                "rfilename": name,
                "path": name,
                "type": "file",
                "size": len(content),
                "oid": hashed("", content),
            }
            row["blobId"] = row["oid"]
            if name == LARGE:
                row["lfs"] = {
                    "sha256": hashed(name, content),
                    "oid": hashed(name, content),
                    "size": len(content),
                    "pointerSize": 134,
                }
            found.append(row)
        return found

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        if self.refusals and self.refusals[0][0] in request.path:
            return self.refuse(request, *self.refusals.pop(0)[1:])
        if re.search(r"/api/models/.+/tree/", request.path):
            return self.give_json(request, self.rows())
        if request.path.startswith("/api/models/"):
            return self.give_json(
                request, {"id": "stub/model", "sha": self.commit, "siblings": self.rows()}
            )
        self.give_file(request, request.path.rpartition("/")[2])

    def refuse(self, request: BaseHTTPRequestHandler, status: int, headers: dict[str, str]) -> None:
        request.close_connection = True
        if status:
            request.send_response(status)
            for name, value in ({"Content-Length": "0"} | headers).items():
                request.send_header(name, value)
            request.end_headers()

    def give_json(self, request: BaseHTTPRequestHandler, value: Any) -> None:
        body = json.dumps(value).encode()
        request.send_response(200)
        request.send_header("Content-Type", "application/json")
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)

    def give_file(self, request: BaseHTTPRequestHandler, name: str) -> None:
        if name not in self.files:
            return request.send_error(404)
        content = self.files[name]
        start = (
            int(match[1])
            if (match := re.fullmatch(r"bytes=(\d+)-.*", request.headers.get("Range", "")))
            else 0
        )
        if request.command == "GET" and name == LARGE and self.failures:
            self.failures -= 1
            return request.send_error(503)
        request.send_response(206 if start else 200)
        request.send_header("ETag", f'"{hashed(name, content)}"')
        request.send_header("X-Repo-Commit", self.commit)
        request.send_header("Content-Length", str(len(content) - start))
        if start:
            request.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        request.end_headers()
        if request.command == "GET":
            request.wfile.write(self.body(request, name, content[start:], start))

    def body(self, request: BaseHTTPRequestHandler, name: str, content: bytes, start: int) -> bytes:
        self.ranges += [request.headers["Range"]] if start else []
        if name == LARGE and self.cuts:
            self.cuts -= 1
            request.close_connection = True
            content = content[: len(content) // 2]
        elif name == LARGE and self.spoiled:
            self.spoiled -= 1
            content = bytes(len(content))
        self.sent[name] += len(content)
        return content


def fetch_command(*arguments: str) -> list[str]:
    """images/vllm/fetch_models.py without its pauses."""
    return [
        sys.executable,
        "-c",
        f"import sys; sys.path.insert(0, {FETCH!r}); {IMPATIENT}",
        *arguments,
    ]


@contextmanager
def running(hub: StubHub, address: str = "127.0.0.1") -> Iterator[StubHub]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            hub.answer(self)

        def do_HEAD(self) -> None:
            hub.answer(self)

        def log_message(self, format: str, *values: Any) -> None:
            pass

    server = ThreadingHTTPServer((address, 0), Handler)
    server.daemon_threads = True
    hub.port = server.server_address[1]
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
