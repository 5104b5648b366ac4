"""Where the seconds before the first word went: hidden calls, waiting, reading the prompt, and the rest."""

from __future__ import annotations

import re
from collections import Counter
from statistics import fmean
from typing import Any

from glue.bench.client import Sample
from glue.vllm import Vllm

Row = dict[str, Any]
COUNTERS = {
    "calls": "request_success_total",
    "queue": "request_queue_time_seconds_sum",
    "prefill": "request_prefill_time_seconds_sum",
    "decode": "request_decode_time_seconds_sum",
}


def begin(model: Vllm, simulated: bool) -> dict[str, float]:
    """Call it before a level; what end() gets tells the level's own calls from earlier ones."""
    if simulated:
        model.call("POST", "/bench/clear", {})
        return {}
    return counters(model)


def end(model: Vllm, simulated: bool, before: dict[str, float], samples: list[Sample]) -> Row:
    if simulated:
        return of_calls(model.call("GET", "/bench/calls").json(), samples)
    after = counters(model)
    return of_counters({key: after[key] - before[key] for key in after}, samples)


def of_calls(calls: list[Row], samples: list[Sample]) -> Row:
    """Means a question, which add up to the mean time to the first word; decode comes after it."""
    asked = len(samples)
    chat = [call for call in calls if call["kind"] == "chat"]
    hidden = [call for call in calls if call["kind"] == "queries"]
    first = fmean([sample.first_token_seconds for sample in samples])
    seconds = {
        "hidden calls": sum(spent(call) for call in hidden) / asked,
        "queue": sum(call["queue_seconds"] for call in chat) / asked,
        "prefill": sum(call["prefill_seconds"] for call in chat) / asked,
    }
    seconds["retrieval and Open WebUI"] = max(0.0, first - sum(seconds.values()))
    seconds["decode"] = fmean([sample.last_token_seconds - sample.first_token_seconds for sample in samples])
    kinds = Counter(call["kind"] for call in calls)
    return {"parts": rounded(seconds), "calls_per_question": {kind: count / asked for kind, count in kinds.items()}}


def of_counters(spent_since: dict[str, float], samples: list[Sample]) -> Row:
    """vLLM's own clocks do not tell hidden calls from others: theirs are in queue, prefill and decode, and in the rest."""
    asked = len(samples)
    first = fmean([sample.first_token_seconds for sample in samples])
    seconds = {key: spent_since[key] / asked for key in ("queue", "prefill")}
    seconds["hidden calls, retrieval and Open WebUI"] = max(0.0, first - sum(seconds.values()))
    seconds["decode"] = fmean([sample.last_token_seconds - sample.first_token_seconds for sample in samples])
    return {"parts": rounded(seconds), "calls_per_question": {"all": spent_since["calls"] / asked}}


def counters(model: Vllm) -> dict[str, float]:
    text = model.call("GET", "/metrics").text
    return {
        key: sum(float(value) for value in re.findall(rf"^vllm:{name}\{{[^}}]*\}} ([\d.eE+-]+)$", text, re.MULTILINE))
        for key, name in COUNTERS.items()
    }


def spent(call: Row) -> float:
    return float(call["queue_seconds"] + call["prefill_seconds"] + call["decode_seconds"])


def rounded(seconds: dict[str, float]) -> dict[str, float]:
    return {key: round(value, 4) for key, value in seconds.items()}
