"""vLLM's own /health stays 200 while its engine hangs and no token comes. Here it is 503 then.

    vllm serve ... --middleware=token_health.TokenHealth

VLLM_API_KEY is set, and this file's folder is on PYTHONPATH. Docker's health check and the door
ask /health. Reports: vllm-project/vllm#50934 (on a GB10), #2731, #36960.

Every request for /health reads vLLM's own token counters. When they stand still for QUIET_SECONDS,
one token is asked for. /health is 503 when DEADLINE_SECONDS pass without that token or any other,
or LONGEST_SECONDS without that token, until it comes. A busy vLLM keeps moving its counters.
"""

import asyncio
import json
import os
import time

from prometheus_client import REGISTRY

COUNTERS = ["vllm:prompt_tokens_total", "vllm:generation_tokens_total"]
MODELS = ("team-adapter", "team-base")  # the first one that is loaded answers people
QUIET_SECONDS = 30
# A healthy vLLM writes nothing for at most 90 s, while it compiles kernels for a first answer on
# a GB10; a prompt of 32,000 tokens takes about 10 s. With 120 s, a fleet had no false alarm:
# https://github.com/gonka-ai/gonka/pull/1421
DEADLINE_SECONDS = 120
LONGEST_SECONDS = 900  # the door's limit: "timeout server" in images/door/haproxy.cfg
RETRY_SECONDS = 5


class TokenHealth:
    """moved: when tokens last came. asked: since when a request waits for its token, or None."""

    def __init__(self, app):
        self.app = app
        self.count, self.moved, self.asked = 0.0, time.monotonic(), None

    async def __call__(self, scope, receive, send):
        is_health = scope["type"] == "http" and scope["path"] == "/health"
        waited = self.look(scope) if is_health else 0
        if not waited:
            return await self.app(scope, receive, send)
        words = f"vLLM hangs: asked for a token {waited:.0f} s ago"
        headers = [(b"content-type", b"text/plain")]
        await send({"type": "http.response.start", "status": 503, "headers": headers})
        await send({"type": "http.response.body", "body": words.encode()})

    def look(self, scope):
        """Seconds since a hanging vLLM was asked for a token; 0 if it is healthy."""
        now, count = time.monotonic(), tokens()
        if count != self.count:
            self.count, self.moved = count, now
        if self.asked is None and now - self.moved > QUIET_SECONDS:
            self.asked = now
            self.question = asyncio.create_task(
                self.ask(scope)
            )  # asyncio keeps only a weak reference to a task
        return now - self.asked if hangs(now, self.moved, self.asked) else 0

    async def ask(self, scope):
        while not await self.token_comes(scope):
            await asyncio.sleep(RETRY_SECONDS)
        self.moved, self.asked = time.monotonic(), None

    async def token_comes(self, scope):
        """A refusal (4xx) is not a hang. After an engine failure the next look asks again."""
        for model in MODELS:
            body = {"model": model, "prompt": "1", "max_tokens": 1}
            status = await post(self.app, scope, body)
            if status != 404:
                break
        return status < 500


def hangs(now, moved, asked):
    """Times in seconds, as TokenHealth has them."""
    if asked is None:
        return False
    return now - max(moved, asked) > DEADLINE_SECONDS or now - asked > LONGEST_SECONDS


def tokens():
    """All tokens that this server has read and written since its start."""
    found = REGISTRY.restricted_registry(COUNTERS).collect()
    return sum(sample.value for family in found for sample in family.samples)


async def post(app, scope, body):
    """The status of a completion, requested inside the server. scope: that of a request."""
    given, statuses = [{"type": "http.request", "body": json.dumps(body).encode()}], []

    async def receive():
        if not given:
            await asyncio.Event().wait()  # vLLM cancels a request when its client disconnects
        return given.pop()

    async def send(message):
        statuses.append(message.get("status"))

    path, key = "/v1/completions", os.environ["VLLM_API_KEY"]
    headers = [(b"authorization", f"Bearer {key}".encode()), (b"content-type", b"application/json")]
    changes = {"method": "POST", "path": path, "raw_path": path.encode(), "headers": headers}
    try:
        await app({**scope, **changes}, receive, send)
        return statuses[0]
    except Exception:  # any exception of a broken engine means: no token
        return 500
