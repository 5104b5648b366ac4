"""A stub of Docker's API, since no Engine runs in these tests: it has the images it is given, and
no container."""

from __future__ import annotations

import json
import socketserver
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit


def answer(path: str, identity: str) -> Any:
    """identity: part of every image's ID."""
    if path.endswith("/_ping"):
        return "OK"
    if path.endswith("/version"):
        return {"ApiVersion": "1.44", "Version": "27.0"}
    if path.endswith("/containers/json"):
        return []
    assert "/images/" in path, path
    return {"Id": f"sha256:{identity} {unquote(path).split('/images/')[1]}"}


def serve(socket: Path, identity: str) -> socketserver.BaseServer:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps(answer(urlsplit(self.path).path, identity)).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_HEAD = do_GET

        def address_string(self) -> str:
            return "a unix socket has no address"

        def log_message(self, *_: object) -> None: ...

    return socketserver.ThreadingUnixStreamServer(str(socket), Handler)
