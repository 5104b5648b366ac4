"""The parts of the time to the first word: hidden calls, waiting, reading the prompt, and the
remainder."""

from __future__ import annotations

import re
from collections import Counter
from statistics import fmean
from typing import Any

from bench.client import Sample
from glue.clients.vllm import Vllm

Row = dict[str, Any]
COUNTERS = {
    "calls": "request_success_total",
    "queue": "request_queue_time_seconds_sum",
    "prefill": "request_prefill_time_seconds_sum",
    "decode": "request_decode_time_seconds_sum",
}


def begin(model: Vllm, simulated: bool) -> dict[str, float]:
    """Call it before a level. end() uses its result to tell the level's own calls from earlier
    ones."""
    if simulated:
        model.call("POST", "/bench/clear", {})
        return {}
    return counters(model)


def end(model: Vllm, simulated: bool, before: dict[str, float], samples: list[Sample]) -> Row:
    if simulated:
        return of_calls(model.call("GET", "/bench/calls").json(), samples)
    after = counters(model)
    return of_counters(
        {key: after[key] - before[key] for key in after.keys() & before.keys()}, samples
    )


def of_calls(calls: list[Row], samples: list[Sample]) -> Row:
    """Mean seconds a question; the parts before decode add up to the mean time to the first word.
    Empty if no question was answered.

    A call does not name its question: if one failed, the model's time is divided among those that
    reached it.
    """
    kinds = {
        kind: count / len(samples)
        for kind, count in Counter(call["kind"] for call in calls).items()
    }
    chat = [call for call in calls if call["kind"] == "chat"]
    hidden = [call for call in calls if call["kind"] == "queries"]
    seconds = {
        "hidden calls": sum(spent(call) for call in hidden),
        "queue": sum(call["queue_seconds"] for call in chat),
        "prefill": sum(call["prefill_seconds"] for call in chat),
    }
    each = {part: value / max(1, len(chat)) for part, value in seconds.items()}
    return {"parts": around(each, "retrieval and Open WebUI", samples), "calls_per_question": kinds}


def of_counters(spent_since: dict[str, float], samples: list[Sample]) -> Row:
    """vLLM's counters do not tell hidden calls from others: these are part of queue, prefill,
    decode and the remainder.

    not_reported: counters that this vLLM does not have. Then the time is not divided.
    """
    answered = sum(not sample.error for sample in samples)
    missing = [name for key, name in COUNTERS.items() if key not in spent_since]
    seconds = {key: spent_since.get(key, 0.0) / max(1, answered) for key in ("queue", "prefill")}
    whole = {} if missing else around(seconds, "hidden calls, retrieval and Open WebUI", samples)
    calls = {"all": spent_since["calls"] / len(samples)} if "calls" in spent_since else {}
    return {"parts": whole, "calls_per_question": calls} | (
        {"not_reported": missing} if missing else {}
    )


def around(seconds: dict[str, float], rest: str, samples: list[Sample]) -> dict[str, float]:
    """The model's seconds, the remainder up to the first word, and decode, for the questions
    that were answered."""
    good = [sample for sample in samples if not sample.error]
    if not good:
        return {}
    first = fmean([sample.first_token_seconds for sample in good])
    decode = fmean([sample.last_token_seconds - sample.first_token_seconds for sample in good])
    return rounded(seconds | {rest: max(0.0, first - sum(seconds.values())), "decode": decode})


def counters(model: Vllm) -> dict[str, float]:
    """Only those that this vLLM reports."""
    return sums(model.call("GET", "/metrics").text)


def sums(metrics: str) -> dict[str, float]:
    found = {
        key: re.findall(rf"^vllm:{name}(?:\{{[^}}]*\}})? ([\d.eE+-]+)$", metrics, re.MULTILINE)
        for key, name in COUNTERS.items()
    }
    return {key: sum(map(float, values)) for key, values in found.items() if values}


def spent(call: Row) -> float:
    return float(call["queue_seconds"] + call["prefill_seconds"] + call["decode_seconds"])


def rounded(seconds: dict[str, float]) -> dict[str, float]:
    return {key: round(value, 4) for key, value in seconds.items()}
