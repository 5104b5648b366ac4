"""Tokens a second of an adapter that was loaded at start, hot-loaded, promoted and rolled back to,
on one running vLLM.

    python -m tests.hot_adapter 127.0.0.1:8000 ADAPTER OTHER_ADAPTER        with VLLM_API_KEY set

The vLLM runs with compose.day.yaml's flags and `--lora-modules team-adapter=ADAPTER`; both folders
are as it sees them.
Prints JSON. docs/measurements/hot-adapter-h100.json was made by these steps.
"""

import json
import os
import statistics
import sys
import time
from typing import Any

import requests

from glue.clients.vllm import Vllm
from glue.core.names import ADAPTER, BASE, CANDIDATE

ROUNDS, TOKENS = 12, 256


def main() -> None:
    address, first, second = sys.argv[1:4]
    vllm = Vllm(address, os.environ["VLLM_API_KEY"])
    rows = [row(vllm, "base model", BASE), row(vllm, "loaded at start", ADAPTER)]
    vllm.serve(CANDIDATE, second)
    rows.append(row(vllm, "hot-loaded under a new name", CANDIDATE))
    vllm.serve(ADAPTER, second)
    rows.append(row(vllm, "promoted: replaced in place", ADAPTER))
    vllm.serve(ADAPTER, first)
    rows.append(row(vllm, "rolled back: replaced in place again", ADAPTER))
    print(json.dumps(rows, indent=1))


def row(vllm: Vllm, what: str, name: str) -> dict[str, Any]:
    decode_rate(vllm, name)  # compiles what this shape needs
    rates = [decode_rate(vllm, name) for _ in range(ROUNDS)]
    return {
        "what": what,
        "tokens_per_second": round(statistics.median(rates), 2),
        "lowest": round(min(rates), 2),
        "highest": round(max(rates), 2),
    }


def decode_rate(vllm: Vllm, name: str) -> float:
    """Tokens a second from the first token to the last, of one answer of TOKENS tokens."""
    body = {
        "model": name,
        "prompt": [7 + i % 1900 for i in range(400)],
        "max_tokens": TOKENS,
        "temperature": 0,
    }
    url, key = f"http://{vllm.address}/v1/completions", {"Authorization": f"Bearer {vllm.key}"}
    moments = []
    with requests.post(
        url, json=body | {"ignore_eos": True, "stream": True}, headers=key, stream=True, timeout=300
    ) as answer:
        answer.raise_for_status()
        for line in answer.iter_lines(chunk_size=1):
            if line.startswith(b"data: {"):
                moments.append(time.perf_counter())
    return (TOKENS - 1) / (moments[-1] - moments[0])


if __name__ == "__main__":
    main()
