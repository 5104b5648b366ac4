"""Whether vLLM answers, checked over HTTP on a stand-in with faults that the real one does not
produce on demand."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any

import pytest

from glue.clients import vllm
from glue.clients.vllm import Vllm
from glue.core.names import ADAPTER, BASE

HANGS, HEADERS_ONLY = (
    "hangs",
    "headers only",
)  # the second: https://github.com/jundot/omlx/issues/2858
METRICS = """# TYPE vllm:generation_tokens_total counter
vllm:generation_tokens_total{{engine="0",model_name="team-base"}} {0}.0
vllm:prompt_tokens_total{{engine="0",model_name="team-base"}} 1.2e+03
vllm:prompt_tokens_by_source_total{{engine="0",source="x"}} {0}00.0
vllm:num_requests_running{{engine="0",model_name="team-base"}} 2.0
vllm:num_requests_waiting{{engine="0",model_name="team-base"}} 1.0
"""


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """fault: by path or model, a status or HANGS. moves: whether the token counters increase."""
    world = SimpleNamespace(
        fault={"team-adapter": 404}, moves=False, asked=[], looks=0, over=threading.Event()
    )

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None: ...

        def reply(self, name: str, body: str = "{}") -> None:
            fault = world.fault.get(name, 200)
            if fault == HANGS:
                world.over.wait(60)
            with suppress(OSError):
                self.send_response(fault if isinstance(fault, int) else 200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if fault == HEADERS_ONLY:
                    world.over.wait(60)
                self.wfile.write(body.encode())

        def do_GET(self) -> None:
            world.looks += world.moves
            self.reply(self.path, METRICS.format(world.looks))

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            world.asked.append((body["model"], body["max_tokens"]))
            self.reply(body["model"])

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    for name in ("TOKEN_SECONDS", "HEALTH_SECONDS", "METRICS_SECONDS"):
        monkeypatch.setattr(
            vllm, name, 2
        )  # seconds that a busy machine needs for an answer that does come
    world.vllm = Vllm(f"127.0.0.1:{server.server_address[1]}", "key")
    yield world
    world.over.set()
    server.shutdown()


@pytest.mark.parametrize(
    ("fault", "moves", "words"),
    [
        ({}, False, ""),
        ({ADAPTER: 404}, False, ""),
        ({BASE: HANGS}, False, ""),  # people are answered by the adapter
        ({ADAPTER: HANGS}, False, "did not answer /v1/chat/completions"),
        ({ADAPTER: HANGS, BASE: HANGS}, False, "did not answer /v1/chat/completions"),
        ({ADAPTER: 404, BASE: HANGS}, False, "did not answer /v1/chat/completions"),
        ({ADAPTER: HANGS}, True, ""),  # busy: others get their tokens meanwhile
        ({ADAPTER: HEADERS_ONLY}, False, "did not answer /v1/chat/completions"),
        ({"/metrics": HANGS}, False, ""),
        ({"/metrics": HANGS, ADAPTER: HANGS}, True, "did not answer /v1/chat/completions"),
        ({"/metrics": 404}, False, ""),
        ({"/health": 503}, False, "refused /health: 503"),
        ({"/health": HANGS}, False, "did not answer /health"),
        ({"/health": HANGS}, True, ""),  # a server with so much to do that its health waits
        ({ADAPTER: 500}, False, "refused /v1/chat/completions: 500"),
    ],
)
def test_vllm_is_well_if_a_token_comes_or_its_counters_move(
    fault: dict[str, Any], moves: bool, words: str, served: Any
) -> None:
    served.fault, served.moves = fault, moves
    found = served.vllm.fault()
    assert words in found and bool(words) == bool(found), found
    assert {tokens for _, tokens in served.asked} <= {1}


def test_a_hanging_and_a_stopped_vllm_are_detected(served: Any) -> None:
    assert served.vllm.answers()
    served.fault = {ADAPTER: HANGS}
    began = time.monotonic()
    assert not served.vllm.answers()
    assert time.monotonic() - began < 30, "a deadline"
    assert not Vllm("127.0.0.1:9", "key").answers()


def test_running_requests_and_tokens_are_read_from_vllms_own_rows(served: Any) -> None:
    served.looks = 7
    assert (served.vllm.running_requests(), served.vllm.tokens_counted()) == (3, 1207)
