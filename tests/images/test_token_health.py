"""vLLM's /health by tokens: the middleware as vLLM's server calls it, with a stand-in engine and
a settable clock."""

import asyncio
import importlib.util
import json
import sys
from collections.abc import Callable, Coroutine
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from glue.clients import vllm
from glue.core.settings import REPOSITORY

HEALTH = {
    "type": "http",
    "method": "GET",
    "path": "/health",
    "raw_path": b"/health",
    "headers": [],
    "app": "kept",
}
Script = Callable[["Engine"], Coroutine[Any, Any, None]]


class Engine:
    """vLLM behind the middleware. answers: the status of a request by model; None never comes."""

    def __init__(self, module: ModuleType, clock: SimpleNamespace) -> None:
        self.module, self.clock, self.count = module, clock, 0
        self.answers: dict[str, int | None] = {"team-adapter": 404, "team-base": 200}
        self.asked: list[str] = []
        self.answered = asyncio.Event()
        module.tokens = lambda: self.count  # type: ignore[attr-defined]
        self.health = module.TokenHealth(self.app)

    async def app(self, scope: Any, receive: Any, send: Any) -> None:
        status: int | None = 200
        if scope["path"] == "/v1/completions":
            assert (scope["method"], scope["app"]) == ("POST", "kept")
            assert (b"authorization", b"Bearer the-key-of-this-test") in scope["headers"]
            body = json.loads((await receive())["body"])
            self.asked.append(body["model"])
            assert body["max_tokens"] == 1
            status = self.answers[body["model"]]
            if status is None:
                await self.answered.wait()
                status = 200
            elif status == 599:  # as vLLM's handlers do where nothing catches it
                raise RuntimeError("the stand-in's engine broke")
        await send({"type": "http.response.start", "status": status})

    async def look(self, after_seconds: float = 0) -> tuple[int, str]:
        """Status and words of /health so many seconds later."""
        self.clock.now += after_seconds
        sent: list[dict[str, Any]] = []

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        await self.health(HEALTH, None, send)
        for _ in range(20):  # the question runs in a task of its own
            await asyncio.sleep(0)
        return sent[0]["status"], (sent[1]["body"].decode() if len(sent) > 1 else "")


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> Callable[[Script], None]:
    """Runs a script against an engine. The clock is a stand-in, and so is prometheus_client,
    which only vLLM's image has."""
    monkeypatch.setenv("VLLM_API_KEY", "the-key-of-this-test")
    monkeypatch.setitem(sys.modules, "prometheus_client", SimpleNamespace(REGISTRY=None))
    spec = importlib.util.spec_from_file_location(
        "token_health", REPOSITORY / "images" / "vllm" / "token_health.py"
    )
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: clock.now))
    monkeypatch.setattr(module, "RETRY_SECONDS", 0)

    def run(script: Script) -> None:
        async def whole() -> None:
            await script(Engine(module, clock))

        asyncio.run(whole())

    return run


def test_an_idle_vllm_is_asked_for_one_token_now_and_then(play: Callable[[Script], None]) -> None:
    async def script(engine: Engine) -> None:
        for _ in range(600):
            assert await engine.look(1) == (200, "")
        assert engine.asked.count("team-base") == pytest.approx(
            600 / engine.module.QUIET_SECONDS, abs=1
        )

    play(script)


def test_a_vllm_that_writes_no_token_is_unhealthy_until_one_comes(
    play: Callable[[Script], None],
) -> None:
    async def script(engine: Engine) -> None:
        assert await engine.look(60) == (200, "")
        engine.answers["team-base"] = None
        assert await engine.look(31) == (200, "")
        assert await engine.look(119) == (200, "")
        assert await engine.look(2) == (503, "vLLM hangs: asked for a token 121 s ago")
        assert engine.asked.count("team-base") == 2, "one question at a time"
        engine.answered.set()
        await engine.look()
        assert await engine.look(1) == (200, "")

    play(script)


def test_a_busy_vllm_is_healthy_while_the_question_waits(play: Callable[[Script], None]) -> None:
    async def script(engine: Engine) -> None:
        engine.answers["team-base"] = None
        assert await engine.look(31) == (200, "")
        for _ in range(8):
            engine.count += 1
            assert await engine.look(100) == (200, "")
        assert engine.asked.count("team-base") == 1
        assert (await engine.look(121))[0] == 503, "then it hangs"

    play(script)


def test_a_vllm_that_is_busy_for_hours_is_asked_nothing(play: Callable[[Script], None]) -> None:
    async def script(engine: Engine) -> None:
        for _ in range(3600):
            engine.count += 1
            assert await engine.look(10) == (200, "")
        assert engine.asked == []

    play(script)


def test_a_vllm_that_never_answers_the_health_question_is_unhealthy(
    play: Callable[[Script], None],
) -> None:
    """An endless answer, or an adapter that hangs while the base model answers."""

    async def script(engine: Engine) -> None:
        engine.answers["team-base"] = None
        await engine.look(31)
        for _ in range(90):
            engine.count += 1
            assert (await engine.look(10))[0] == 200
        engine.count += 1
        assert (await engine.look(10))[0] == 503

    play(script)


def test_the_adapter_is_asked_first(
    play: Callable[[Script], None],
) -> None:
    async def script(engine: Engine) -> None:
        engine.answers["team-adapter"] = 200
        await engine.look(31)
        assert engine.asked == ["team-adapter"]
        engine.answers["team-adapter"] = None
        await engine.look(31)
        assert (await engine.look(121))[0] == 503, "the base model alone answers nobody"

    play(script)


@pytest.mark.parametrize(("status", "health"), [(500, 503), (599, 503), (400, 200), (401, 200)])
def test_an_engine_that_fails_is_unhealthy_and_a_refusal_is_not(
    status: int, health: int, play: Callable[[Script], None]
) -> None:
    async def script(engine: Engine) -> None:
        engine.answers["team-base"] = status
        for _ in range(10):
            found = await engine.look(31)
        assert found[0] == health
        engine.answers["team-base"] = 200
        await engine.look(1)
        assert (await engine.look(1))[0] == 200

    play(script)


def test_other_paths_are_unchanged(play: Callable[[Script], None]) -> None:
    async def script(engine: Engine) -> None:
        engine.answers["team-base"] = None
        await engine.look(31)
        engine.clock.now += 1000
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message["status"])

        for scope in ({**HEALTH, "path": "/v1/models"}, {"type": "lifespan", "path": ""}):
            await engine.health(scope, None, send)
        assert sent == [200, 200]

    play(script)


def test_glue_and_vllm_s_health_have_the_same_token_deadline(
    play: Callable[[Script], None],
) -> None:
    async def script(engine: Engine) -> None:
        assert vllm.TOKEN_SECONDS >= engine.module.DEADLINE_SECONDS > 90, (
            "a first answer compiles kernels for 90 s"
        )

    play(script)
