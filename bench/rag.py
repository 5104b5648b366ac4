"""`python -m bench rag`: the case study's Tables 2 and 3 through Open WebUI's real API, for
stock and for ours."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from bench import chats, client, environment, latency_parts, questions, retrieval, statistics
from bench.chats import OURS, PACED, STOCK, Chat
from bench.client import Endpoint, Sample, ask
from bench.documents import Case
from bench.questions import Asked
from glue.clients.site import Site
from glue.clients.vllm import Vllm
from glue.core.errors import GlueError
from glue.core.names import BASE
from glue.core.settings import REPOSITORY

Row = dict[str, Any]
# nothing takes time: for measurements that do not depend on speed
AT_ONCE = {"prefill_tokens_per_second": 0, "answer_tokens": 1}
HARNESS_USERS, HARNESS_ROUNDS = 8, 25


@dataclass(frozen=True)
class Plan:
    """rounds: questions of each user at each level; the case study had 3. documents: a folder
    instead of the generated books; it needs questions. pace: the paced model's speeds. browser:
    asks as the chat's own page does, over its socket, first turns only."""

    model: str = PACED
    names: tuple[str, ...] = (STOCK, OURS)
    users: tuple[int, ...] = (1, 2, 4, 8)
    rounds: int = 3
    documents: Path | None = None
    questions: Path | None = None
    books: int = 30
    overrides: dict[str, str] | None = None
    pace: dict[str, Any] | None = None
    hit_rate: bool = True
    browser: bool = False

    @property
    def simulated(self) -> bool:
        return self.model == PACED

    @property
    def name(self) -> str:
        """Name of its result in state/bench, which the report reads."""
        return f"rag-browser-{self.model}" if self.browser else f"rag-{self.model}"


def run(
    site: Site, plan: Plan, command: str, keep: Callable[[Row], object] = lambda so_far: None
) -> Row:
    """Measures and returns what report.py shows. Raises GlueError if nothing can be measured.

    keep: gets the results so far after each level. They are "whole" only after the last.
    """
    folder = plan.documents or site.state / "bench" / f"documents-{plan.books}"
    words = REPOSITORY / "env" / "bench-library.toml"
    asked = (
        questions.about(folder, plan.questions)
        if plan.documents
        else questions.generated(folder, words, plan.books)
    )
    with chats.running(site, plan.model, plan.names, plan.overrides or {}) as bench:
        model = chats.paced(bench) if plan.simulated else chats.served(bench)
        served = {"served_as": BASE} if plan.simulated else chats.serving(site)
        opened = [
            chats.open_chat(bench, name, max(plan.users), served["served_as"])
            for name in plan.names
        ]
        documents = {chat.name: chats.ingest(bench, chat, folder) for chat in opened}
        result: Row = {
            **about(site, bench, plan, command),
            **served,
            "documents": documents,
            "whole": False,
            "rows": [],
        }
        result |= of_the_paced_model(bench, plan, opened, model, asked) if plan.simulated else {}
        for users in plan.users:
            result["rows"].append(row(bench, plan, users, opened, model, asked.rotation))
            keep(result | {"load_after": environment.load()})
    result |= {"whole": True, "load_after": environment.load()}
    keep(result)
    return result


def of_the_paced_model(
    bench: Site, plan: Plan, opened: list[Chat], model: Vllm, asked: Asked
) -> Row:
    """Measurements that need a model that lists its calls and takes no time. Afterwards the
    model has its pace again."""
    result: Row = {}
    if plan.hit_rate:
        cases = asked.labelled
        tell_model(model, AT_ONCE, {case.asked: case.alone for case in cases})
        result["hit_rate"] = {chat.name: retrieval.hit_rate(bench, chat, cases) for chat in opened}
        result["calls"] = {
            chat.name: retrieval.calls_per_question(chat, model, asked.rotation) for chat in opened
        }
    tell_model(model, AT_ONCE, {})
    result["harness_seconds"] = harness(bench, model)
    return result | {"pace": tell_model(model, plan.pace or {}, {})}


def about(site: Site, bench: Site, plan: Plan, command: str) -> Row:
    return {
        "kind": "rag",
        "simulated": plan.simulated,
        "model": (
            "paced model: a simulation with the case study's speeds"
            if plan.simulated
            else bench.settings["SERVED_MODEL"]
        ),
        "command": command,
        "rounds": plan.rounds,
        "questions": str(plan.questions or "of the generated documents"),
        "path": "the chat's own page" if plan.browser else "API",
        "overrides": plan.overrides or {},
        "settings": {key: bench.settings[key] for key in chats.CHAT_KEYS},
        "load_before": environment.load(),
        **environment.describe(site),
    }


def tell_model(model: Vllm, pace: Row, rewrites: dict[str, str]) -> Row:
    told: Row = model.call("POST", "/bench/pace", {"pace": pace, "rewrites": rewrites}).json()
    return told


# ---------------------------------------------------------------------- speed


def harness(site: Site, model: Vllm) -> Row | None:
    """Time to the first word of this harness against a server where nothing takes time, at eight
    users: the resolution of all measurements."""
    host, _, port = model.address.partition(":")
    endpoint = Endpoint(
        host, int(port), "/v1/chat/completions", site.settings["MODEL_API_KEY"], {"model": BASE}
    )
    samples = client.level(
        lambda *_: ask(endpoint, [{"role": "user", "content": "?"}]), HARNESS_USERS, HARNESS_ROUNDS
    )
    return shown(
        statistics.summary([sample.first_token_seconds for sample in samples if not sample.error])
    )


def row(
    site: Site, plan: Plan, users: int, opened: list[Chat], model: Vllm, cases: Sequence[Case]
) -> Row:
    """One level: each chat in turn. Its first call is discarded."""
    measured: Row = {"users": users}
    for chat in opened:
        site.tell(f"{users} at once, {plan.rounds} rounds, {chat.name}")
        measured[chat.name] = level(chat, model, users, plan, cases)
    if STOCK in measured and OURS in measured:
        measured["ratio"] = ratio(measured[OURS], measured[STOCK])
    return measured


def level(chat: Chat, model: Vllm, users: int, plan: Plan, cases: Sequence[Case]) -> Row:
    warm_up = (
        chat.ask_as_page(cases[-1].question) if plan.browser else chat.ask(0, cases[-1].messages)
    )
    if warm_up.error:
        raise GlueError(
            f"{chat.name} does not answer",
            warm_up.error,
            "make bench again; docker logs of the bench's containers",
        )
    if plan.browser and plan.simulated:
        chats.calls_when_quiet(model, 1)  # the titles and tags of the discarded call
    before = latency_parts.begin(model, plan.simulated)
    rotated = [cases[number % len(cases)] for number in range(users * plan.rounds)]
    samples, wall = (
        as_pages(chat, plan, rotated, users) if plan.browser else by_api(chat, plan, rotated, users)
    )
    if plan.browser and plan.simulated:
        chats.calls_when_quiet(
            model, len(samples)
        )  # the calls of a page after the answer count too
    hits = [
        case.found(sample.passages, sample.sources)
        for case, sample in zip(rotated, samples, strict=True)
    ]
    spent = latency_parts.end(model, plan.simulated, before, samples)
    return summarised(samples, users, wall) | {"hit_rate": sum(hits) / len(hits), **spent}


def timed(measure: Callable[[], list[Sample]]) -> tuple[list[Sample], float]:
    """Its samples and how many seconds it took."""
    started = time.monotonic()
    return measure(), time.monotonic() - started


def by_api(chat: Chat, plan: Plan, rotated: list[Case], users: int) -> tuple[list[Sample], float]:
    return timed(
        lambda: client.level(
            lambda user, number: chat.ask(user, rotated[number].messages), users, plan.rounds
        )
    )


def as_pages(chat: Chat, plan: Plan, rotated: list[Case], users: int) -> tuple[list[Sample], float]:
    with chat.pages(users) as pages:

        def ask_page(user: int, number: int) -> Sample:
            return pages[user].ask(chat.page_body(rotated[number].question))

        return timed(lambda: client.level(ask_page, users, plan.rounds))


def summarised(samples: list[Sample], users: int, wall_seconds: float) -> Row:
    good = [sample for sample in samples if not sample.error]
    speeds = [sample.tokens_per_second for sample in good if sample.tokens_per_second]
    speed = statistics.summary(speeds)
    return {
        "asked": len(samples),
        "errors": [sample.error for sample in samples if sample.error],
        "without_usage": sum(not sample.completion_tokens for sample in good),
        "without_sources": sum(not sample.passages for sample in good),
        "cached_tokens": sum(sample.cached_tokens for sample in good),
        "prompt_tokens": middle([sample.prompt_tokens for sample in good]),
        "completion_tokens": middle([sample.completion_tokens for sample in good]),
        "first_event_seconds": shown(
            statistics.summary([sample.first_event_seconds for sample in good])
        ),
        "first_token_seconds": shown(
            statistics.summary([sample.first_token_seconds for sample in good])
        ),
        "tokens_per_second": shown(speed),
        "total_tokens_per_second": round(users * speed.mean, 1) if speed else None,
        "total_with_waiting": round(
            sum(sample.completion_tokens for sample in good) / wall_seconds, 1
        ),
        "samples": [
            asdict(sample) | {"passages": len(sample.passages), "sources": []} for sample in samples
        ],
    }


def middle(tokens: list[int]) -> float | None:
    """Mean of the samples with reported usage."""
    told = [count for count in tokens if count]
    return median(told) if told else None


def shown(summary: statistics.Summary | None) -> Row | None:
    return asdict(summary) if summary else None


def ratio(ours: Row, stock: Row) -> Row:
    """Ours over stock, of the time to the first word."""
    one, other = ours["first_token_seconds"], stock["first_token_seconds"]
    return (
        {key: round(one[key] / other[key], 3) for key in ("mean", "median", "p99")}
        if one and other
        else {}
    )
