"""vLLM's HTTP API: which adapter answers under which name, and whether it answers."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import requests

from glue.core.errors import GlueError
from glue.core.names import ADAPTER, BASE

CHAT = "/v1/chat/completions"
# for one token, as in images/vllm/token_health.py: kernels compiled for a first answer take 90 s
TOKEN_SECONDS = 120
HEALTH_SECONDS = 25  # a busy server answers late
METRICS_SECONDS = 10
LOGS = "make logs SERVICE=vllm"


def direct_session() -> requests.Session:
    """For this installation's own addresses: without the environment's proxy."""
    session = requests.Session()
    session.trust_env = False
    return session


@dataclass(frozen=True)
class Vllm:
    """address: host:port on the compose network."""

    address: str
    key: str

    def call(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | None = None,
        timeout_seconds: float = 120,
    ) -> requests.Response:
        """Raises GlueError for no answer, and for a status of 400 and more with vLLM's message."""
        try:
            with direct_session() as session:
                response = session.request(
                    method,
                    f"http://{self.address}{path}",
                    json=body,
                    headers={"Authorization": f"Bearer {self.key}"},
                    timeout=timeout_seconds,
                )
        except requests.RequestException as error:
            raise GlueError(f"vLLM did not answer {path}", str(error), LOGS) from error
        if response.status_code >= 400:
            saw = f"{response.status_code} {response.text[:600]}"
            raise GlueError(f"vLLM refused {path}", saw, LOGS)
        return response

    def answers(self) -> bool:
        return not self.fault()

    def fault(self) -> str:
        """Why vLLM gives no answer now; empty if a token comes, or others get tokens meanwhile. Not
        by /health alone: https://github.com/vllm-project/vllm/issues/50934"""
        before = self.tokens_counted()
        try:
            self.call("GET", "/health", timeout_seconds=HEALTH_SECONDS)
            self.ask_for_token()
        except GlueError as error:
            return "" if 0 < before < self.tokens_counted() else f"{error.what}: {error.saw}"
        return ""

    def ask_for_token(self) -> None:
        """Asks the adapter, or the base model where none is loaded. Raises GlueError."""
        for name in (ADAPTER, BASE):
            body = {"model": name, "messages": [{"role": "user", "content": "1"}], "max_tokens": 1}
            try:
                self.call("POST", CHAT, body, TOKEN_SECONDS)
                return
            except GlueError as error:
                if name == BASE or not error.saw.startswith("404 "):
                    raise

    def models(self) -> dict[str, str]:
        """Name -> path of the adapter behind it, or of the base model."""
        return {row["id"]: row["root"] for row in self.call("GET", "/v1/models").json()["data"]}

    def owner(self) -> str:
        """Who answers here: "vllm", or "night-desk" behind the door at night."""
        return str(self.call("GET", "/v1/models", timeout_seconds=10).json()["data"][0]["owned_by"])

    def serve(self, name: str, path: str) -> None:
        """Makes the adapter at path (inside the container) answer under name. Only a replacement is
        loaded in place: see images/vllm/load_once.py."""
        loaded = self.models()
        if loaded.get(name) == path:
            return
        body = {"lora_name": name, "lora_path": path, "load_inplace": name in loaded}
        self.call("POST", "/v1/load_lora_adapter", body)

    def forget(self, name: str) -> None:
        if name in self.models():
            self.call("POST", "/v1/unload_lora_adapter", {"lora_name": name})

    def running_requests(self, timeout_seconds: float = 120) -> int:
        return self.metric("num_requests_(?:running|waiting)", timeout_seconds)

    def tokens_counted(self) -> int:
        """Prompt and generated tokens since its start; 0 if unknown."""
        try:
            return self.metric("(?:prompt|generation)_tokens_total", METRICS_SECONDS)
        except GlueError:
            return 0

    def metric(self, pattern: str, timeout_seconds: float = 120) -> int:
        """The sum of the metrics whose name matches pattern."""
        metrics = self.call("GET", "/metrics", timeout_seconds=timeout_seconds).text
        counts = re.findall(rf"^vllm:{pattern}\{{[^}}]*\}} ([\d.eE+]+)$", metrics, re.MULTILINE)
        return int(sum(map(float, counts)))
