"""How many people one or two Sparks serve, computed from measured curves as the page
docs/measurements/scale.md. Pure.

Each cell of its tables names its source: measured, simulated, published, reported or computed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from itertools import count, pairwise
from typing import Any

from bench.paced_model import Pace

Row = dict[str, Any]
PROMPTS = (1300, 4000, 8000, 16000, 32000)
ANSWERS = (100, 200, 500, 1000)
REPORTED = "reported by others for a Spark: 3,900 to 4,800"
MOST_AT_ONCE = 16  # MAX_SEQUENCES of env/spark.env
# Tokens a second of two Sparks with a replica each, as a multiple of one, by questions at once:
# reported by others for llama.cpp, https://github.com/unslothai/unsloth/pull/10280; 1.0 to 1.13
# below 8
REPLICA_GAINS = {7: 1.0, 8: 1.30, 16: 1.75, 32: 1.91}
CROWDED_SHARE = (
    0.05  # at most this share of the time more questions run than can be served as wanted
)


@dataclass(frozen=True)
class Wanted:
    """Service level: seconds to the first word for the slowest of simultaneous askers, tokens a
    second, and the pause between questions."""

    first_word_seconds: float = 5.0
    tokens_per_second: float = 20.0
    pause_seconds: float = 60.0


@dataclass(frozen=True)
class Curves:
    """retrieval_seconds: by number of simultaneous users, up to the first word, without the
    model. sparks: 1, or 2 with a replica each."""

    retrieval_seconds: dict[int, float]
    pace: Pace = field(default_factory=Pace)
    sparks: int = 1

    def retrieval(self, at_once: int) -> float:
        most, seconds = max(self.retrieval_seconds.items())
        found = between(self.retrieval_seconds, at_once)
        return seconds * at_once / most if at_once > most else found

    def gain(self, at_once: int) -> float:
        return 1.0 if self.sparks == 1 else between(REPLICA_GAINS, at_once)

    def decode(self, at_once: int) -> float:
        """Tokens a second for each."""
        return self.pace.decode(at_once) * self.gain(at_once)

    def first_word(self, at_once: int, prompt_tokens: int) -> float:
        """Seconds for the last of those who ask at the same moment: prompts are read one after
        another."""
        speed = self.pace.prefill_tokens_per_second * self.gain(at_once)
        return self.retrieval(at_once) + at_once * prompt_tokens / speed


def between(points: dict[int, float], at: int) -> float:
    """Linear between two points; outside of all, the nearest one's."""
    known = sorted(points.items())
    for (low, below), (high, above) in pairwise(known):
        if low <= at <= high:
            return below + (above - below) * (at - low) / (high - low)
    return known[0][1] if at < known[0][0] else known[-1][1]


def at_once(curves: Curves, prompt_tokens: int, wanted: Wanted) -> int:
    """The most simultaneous questions within the service level; 0 if a single one already waits
    too long."""
    fitting = [
        number
        for number in range(1, curves.sparks * MOST_AT_ONCE + 1)
        if curves.first_word(number, prompt_tokens) <= wanted.first_word_seconds
        and curves.decode(number) >= wanted.tokens_per_second
    ]
    return max(fitting, default=0)


def people(curves: Curves, prompt_tokens: int, answer_tokens: int, wanted: Wanted) -> int:
    """The most people with at most `number` questions running, except for a CROWDED share of the
    time. Each person waits, reads along and pauses."""
    number = at_once(curves, prompt_tokens, wanted)
    if not number:
        return 0
    spent = curves.first_word(number, prompt_tokens) + answer_tokens / curves.decode(number)
    share = spent / (spent + wanted.pause_seconds)
    return next(
        people for people in count(number) if crowded(people + 1, number, share) > CROWDED_SHARE
    )


def crowded(people: int, number: int, share: float) -> float:
    """The probability that more than number people have a question running, if each has one for
    that share of the time."""
    fine = (
        math.comb(people, busy) * share**busy * (1 - share) ** (people - busy)
        for busy in range(number + 1)
    )
    return 1 - sum(fine)


def usable(result: Row) -> list[Row]:
    """The levels with their time divided into parts, lowest first."""
    known = [
        row
        for row in result["rows"]
        if row.get("ours", {}).get("parts") and row["ours"]["tokens_per_second"]
    ]
    return sorted(known, key=lambda row: int(row["users"]))


def curves_of(result: Row) -> Curves:
    """From a result of `python -m bench rag`, for our chat: its retrieval is real even where its
    model is simulated."""
    rows = usable(result)
    pace = Pace() if result["simulated"] else measured_pace(rows)
    return Curves(
        {row["users"]: seconds_before_the_model(row["ours"]["parts"]) for row in rows}, pace
    )


def measured_pace(rows: list[Row]) -> Pace:
    """Reading speed of prompts at the lowest level, where the fewest wait for each other. Cached
    tokens are not counted."""
    lowest = rows[0]["ours"]
    read = lowest["prompt_tokens"] - lowest["cached_tokens"] / lowest["asked"]
    return Pace(
        prefill_tokens_per_second=read / lowest["parts"]["prefill"],
        decode_tokens_per_second={
            str(row["users"]): round(row["ours"]["tokens_per_second"]["mean"], 1) for row in rows
        },
    )


def seconds_before_the_model(parts: dict[str, float]) -> float:
    return next(
        seconds for part, seconds in parts.items() if part.endswith("retrieval and Open WebUI")
    )


def document(result: Row, source: str) -> str:
    curves, wanted = curves_of(result), Wanted()
    return "\n".join(
        (
            "# How many people a Spark serves",
            "",
            *opening(result, source),
            "",
            "| what | value | from |",
            "|---|---|---|",
            *facts(result, curves),
            "",
            *people_served(curves, wanted),
            "",
            "## A second Spark",
            "",
            "| way | people, at 1,300 and 200 tokens | what else changes | from |",
            "|---|---|---|---|",
            *second(curves, wanted),
            "",
            *replicas(),
            "",
        )
    )


def people_served(curves: Curves, wanted: Wanted) -> list[str]:
    """The table, what its numbers mean and what it leaves out."""
    return [
        "**People a Spark serves**: with so many, 95 % of the time no more questions run than the"
        " number in brackets.",
        "That number is the most who can ask at the same moment while the last of them gets the"
        f" first word within {wanted.first_word_seconds:.0f} s and",
        f"each gets {wanted.tokens_per_second:.0f} tokens a second or more. Each person pauses for"
        f" {wanted.pause_seconds:.0f} s between an answer and the next question.",
        "",
        f"| prompt tokens \\ answer tokens | {' | '.join(map(str, ANSWERS))} |",
        f"|---|{'---|' * len(ANSWERS)}",
        *(cells(curves, prompt, wanted) for prompt in PROMPTS),
        "",
        "1,300 tokens are five passages and a question, as `env/spark.env` sets it. Prefix caching"
        " is not counted: it keeps",
        "prefixes in steps of about 4,200 tokens, so it does nothing for the first row and helps"
        " long chats in the others.",
    ]


def opening(result: Row, source: str) -> list[str]:
    written = f"Written by `python -m bench scale` from `{source}`; do not edit."
    if result["simulated"]:
        return [
            f"{written} **Nothing here was measured on a Spark.** Give it",
            (
                "a Spark's own result of `python -m bench rag --model vllm` (`--source`), and it"
                " writes this page again."
            ),
        ]
    return [
        f"{written} **Measured on {machine(result)}**, profile {result['profile']}, model"
        f" {result['model']}."
    ]


def machine(result: Row) -> str:
    found = result["machine"]
    return (
        f"{found['gpu']}, " if found.get("gpu") else ""
    ) + f"{found['cores']} cores ({found['processor']})"


def facts(result: Row, curves: Curves) -> list[str]:
    """The inputs of the tables, each with its source."""
    simulated, rows = result["simulated"], usable(result)
    retrieval = ", ".join(
        f"{seconds:.2f} s at {users}" for users, seconds in curves.retrieval_seconds.items()
    )
    slowest = ", ".join(
        f"{row['ours']['first_token_seconds']['p99']:.1f} s at {row['users']}" for row in rows
    )
    tokens = int(rows[-1]["ours"]["prompt_tokens"])
    computed = ", ".join(
        f"{curves.first_word(users, tokens):.1f} s at {users}" for users in curves.retrieval_seconds
    )
    most = max(map(int, curves.pace.decode_tokens_per_second))
    return [
        (
            f"| decode, tokens/s a user, by users at once | {spelled(curves.pace)}; beyond {most}"
            f" the same total | {'published' if simulated else 'measured'} |"
        ),
        (
            f"| reading prompts | {curves.pace.prefill_tokens_per_second:,.0f} tokens/s, one at a"
            f" time | {REPORTED if simulated else f'measured at {min(curves.retrieval_seconds)}'} |"
        ),
        (
            f"| retrieval and Open WebUI | {retrieval} | measured on"
            f" {machine(result)}{'; a Spark has 20' if simulated else ''} |"
        ),
        (
            f"| first word of the slowest, {tokens} tokens | {slowest} |"
            f" {'simulated' if simulated else 'measured'} (P99) |"
        ),
        (
            "| the same, computed: retrieval, then all prompts one after another |"
            f" {computed} | computed |"
        ),
    ]


def spelled(pace: Pace) -> str:
    return ", ".join(
        f"{speed} at {users}" for users, speed in pace.decode_tokens_per_second.items()
    )


def cells(curves: Curves, prompt: int, wanted: Wanted) -> str:
    number = at_once(curves, prompt, wanted)
    found = [
        (
            f"{people(curves, prompt, answer, wanted)} ({number}) computed"
            if number
            else "none: a single user already waits too long, computed"
        )
        for answer in ANSWERS
    ]
    return f"| {prompt:,} | {' | '.join(found)} |"


def second(curves: Curves, wanted: Wanted) -> list[str]:
    one, two = (
        people(found, PROMPTS[0], ANSWERS[1], wanted)
        for found in (curves, replace(curves, sparks=2))
    )
    replicated = f"{min(two, 2 * one)}; {2 * one} at the very most"
    night = "no night desk: the chat answers all night, and training has all day"
    split = (
        "this model fits one Spark. Split, every token also waits for the link between the two,"
        " whose delay is not measured. For a model that does not fit one Spark"
    )
    return [
        f"| serve on one, train on the other | {one} | {night} | computed |",
        (
            f"| two replicas behind the door | {replicated} | each adapter is copied"
            " to both and promoted on both | computed with reported gains |"
        ),
        f"| one model across both (vLLM, two nodes) | not computed | {split} | - |",
    ]


def replicas() -> list[str]:
    """What the figure of two replicas is made of."""
    points = [f"{gain:.2f} times at {number}" for number, gain in REPLICA_GAINS.items() if gain > 1]
    return [
        f"Two replicas give {', '.join(points)} questions at once the tokens a second of one, and"
        " about the same",
        "below 8: reported by others, on llama.cpp. Retrieval stays with one Open WebUI. Twice the"
        " people is an upper bound.",
    ]
