"""A hot-loaded adapter is read from disk once: glue's requests to vLLM, and the middleware that
clears the flag."""

import asyncio
import importlib.util
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from glue.clients.vllm import Vllm
from glue.core.settings import REPOSITORY


@pytest.fixture
def middleware() -> Iterator[Any]:
    spec = importlib.util.spec_from_file_location(
        "load_once", REPOSITORY / "images" / "vllm" / "load_once.py"
    )
    assert spec and spec.loader
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    yield found.LoadOnce


def flag_when_answered(middleware: Any, path: str) -> bool:
    """Whether the stored request still has load_inplace when the answer to path is sent."""
    kept: dict[str, Any] = {}
    seen: list[bool] = []

    async def vllm(scope: Any, receive: Any, send: Any) -> None:
        kept["team-adapter"] = SimpleNamespace(load_inplace=True)  # as vLLM 0.32 keeps it
        await send({"type": "http.response.start", "status": 200})

    async def send(message: Any) -> None:
        seen.append(kept["team-adapter"].load_inplace)

    app = SimpleNamespace(
        state=SimpleNamespace(openai_serving_models=SimpleNamespace(lora_requests=kept))
    )
    asyncio.run(middleware(vllm)({"type": "http", "path": path, "app": app}, None, send))
    return seen[0]


def test_the_flag_is_cleared_before_a_load_is_answered(middleware: Any) -> None:
    assert flag_when_answered(middleware, "/v1/load_lora_adapter") is False


def test_other_requests_are_unchanged(middleware: Any) -> None:
    assert flag_when_answered(middleware, "/v1/models") is True


@pytest.mark.parametrize(
    ("loaded", "in_place"), [({}, False), ({"team-adapter": "/adapters/old"}, True)]
)
def test_only_a_replacement_is_loaded_in_place(
    loaded: dict[str, str], in_place: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(Vllm, "models", lambda self: loaded)
    monkeypatch.setattr(Vllm, "call", lambda self, method, path, body: asked.append(body))
    Vllm("nowhere:8000", "key").serve("team-adapter", "/adapters/new")
    assert asked == [
        {"lora_name": "team-adapter", "lora_path": "/adapters/new", "load_inplace": in_place}
    ]


def test_a_loaded_adapter_is_not_loaded_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Vllm, "models", lambda self: {"team-adapter": "/adapters/new"})
    monkeypatch.setattr(Vllm, "call", lambda *_: pytest.fail("vLLM was asked to load it again"))
    Vllm("nowhere:8000", "key").serve("team-adapter", "/adapters/new")
