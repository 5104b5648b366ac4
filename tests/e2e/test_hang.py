"""vLLM's engine is stopped while its server runs: vLLM's own /health stays 200, and no token
comes."""

import json
import os
import signal
import time
from typing import Any

import pytest
import requests

from glue.clients.site import Site
from glue.core import waiting
from glue.core.waiting import Seen
from glue.serving import notify, reconcile
from glue.serving.watch import Step
from tests.e2e.conftest import Glue

# images/vllm/token_health.py: 30 s quiet and 120 s for a token; then Docker's health check fails
# three times
NOTICE_SECONDS = 300


def engine_pid(site: Site) -> int:
    """The process ID of the engine on this machine."""
    container = site.stacks.container("day", "vllm")
    assert container is not None
    rows = container.top(ps_args="-eo pid,args")["Processes"]
    return next(int(row[0]) for row in rows if "EngineCore" in row[1])


@pytest.mark.long
def test_a_hanging_vllm_is_bypassed_reported_and_restarted(
    demo: dict[str, Any], site: Site, glue: Glue, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []

    def tell(site: Site, what: str, words: str, good: bool) -> bool:
        told.append(f"{what}: {words}")
        return True

    monkeypatch.setattr(notify, "tell", tell)
    assert site.vllm().answers()
    began = time.monotonic()
    os.kill(engine_pid(site), signal.SIGSTOP)

    def look() -> Seen[None]:
        service = site.stacks.services("day")["vllm"]
        return Seen(
            service.health == "unhealthy",
            f"{service.words}, {time.monotonic() - began:.0f} s after its stop",
        )

    waiting.until("Docker to notice that vLLM hangs", look, NOTICE_SECONDS, 2, tell=site.tell)
    status = json.loads(glue("status", "--json").stdout)
    assert status["services"]["vllm"].startswith("unhealthy: vLLM hangs: asked for a token")
    findings = {row["name"]: row for row in json.loads(glue("doctor", "--json").stdout)}
    assert (findings["answer"]["grade"], "vLLM hangs" in findings["answer"]["saw"]) == (
        "fail",
        True,
    )
    door = f"http://{site.stacks.address('door')}/v1/chat/completions"
    key = {"Authorization": f"Bearer {site.settings['MODEL_API_KEY']}"}
    body = {"model": "team-base", "messages": [{"role": "user", "content": "Are you there?"}]}
    answer = requests.post(door, json=body, headers=key, timeout=10).json()
    assert answer["id"] == "night-desk"

    found = reconcile.reconcile(site)
    assert found["step"] == Step.RESTART and "vLLM hangs" in found["why"]
    assert any("day not serving" in line and "vLLM hangs" in line for line in told)
    assert site.vllm().answers()
    assert requests.post(door, json=body, headers=key, timeout=60).json()["id"] != "night-desk"
