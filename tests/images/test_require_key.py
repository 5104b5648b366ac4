"""The middleware that requires vLLM's key, called as vLLM's server calls it."""

import asyncio
import importlib.util
from types import ModuleType
from typing import Any

import pytest

from glue.core.settings import REPOSITORY

KEY = "Bearer the-key-of-this-test"


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setenv("VLLM_API_KEY", "the-key-of-this-test")
    spec = importlib.util.spec_from_file_location(
        "require_key", REPOSITORY / "images" / "vllm" / "require_key.py"
    )
    assert spec and spec.loader
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def status(module: ModuleType, path: str, given: str | None, kind: str = "http") -> Any:
    """The status that a caller gets, or the close code of a web socket; 200 is the model's
    answer."""
    sent: list[dict[str, Any]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200})

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    headers = [(b"authorization", given.encode())] if given else []
    asyncio.run(
        module.RequireKey(app)({"type": kind, "path": path, "headers": headers}, None, send)
    )
    return sent[0].get("status") or sent[0].get("code")


@pytest.mark.parametrize(
    "path",
    ["/metrics", "/tokenize", "/docs", "/v1/models", "/v1/load_lora_adapter", "/health/", "/"],
)
def test_every_path_requires_the_key(module: ModuleType, path: str) -> None:
    assert status(module, path, None) == 401
    assert status(module, path, "Bearer another") == 401
    assert status(module, path, KEY) == 200
    assert status(module, path, None, kind="websocket") == 1008


def test_health_and_server_start_need_no_key(module: ModuleType) -> None:
    assert status(module, "/health", None) == 200
    assert status(module, "", None, kind="lifespan") == 200
