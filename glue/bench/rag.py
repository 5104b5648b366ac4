"""`glue bench rag`: the case study's Tables 2 and 3 through Open WebUI's real API, stock and ours side by side."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from glue import vllm
from glue.bench import chats, library, load, machine, parts, summaries
from glue.bench.chats import OURS, PACED, STOCK, Chat
from glue.bench.client import Endpoint, Sample, ask
from glue.bench.library import Case, Library
from glue.settings import HOME
from glue.site import Site
from glue.types import GlueError
from glue.vllm import Vllm

Row = dict[str, Any]
# nothing takes time: for what does not depend on speed
AT_ONCE = {"prefill_tokens_per_second": 0, "answer_tokens": 1}
BROWSER_TURNS = 2
API_TURNS = 4
HARNESS_USERS, HARNESS_ROUNDS = 8, 25


@dataclass(frozen=True)
class Plan:
    """rounds: how often each user asks at each level; the case study had 3. documents: a folder instead of the generated
    books. pace: what the paced model is told.
    browser: as the chat's own page asks, first turns, over its socket."""

    model: str = PACED
    names: tuple[str, ...] = (STOCK, OURS)
    users: tuple[int, ...] = (1, 2, 4, 8)
    rounds: int = 3
    documents: Path | None = None
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
        """Of its result in state/bench, which the report reads."""
        return f"rag-browser-{self.model}" if self.browser else f"rag-{self.model}"


def run(site: Site, plan: Plan, command: str, keep: Callable[[Row], object] = lambda so_far: None) -> Row:
    """Measures, and returns what report.py shows. Raises GlueError where nothing could be measured.

    keep: gets what is measured so far after each level; it is "whole" only after the last.
    """
    books = library.load(HOME / "env" / "bench-library.toml")
    folder = plan.documents or site.state / "bench" / f"documents-{plan.books}"
    if plan.documents is None:
        library.write(books, folder, plan.books)
    with chats.running(site, plan.model, plan.names, plan.overrides or {}) as bench:
        model = chats.paced(bench) if plan.simulated else chats.served(bench)
        served = {"served_as": vllm.BASE} if plan.simulated else chats.serving(site)
        opened = [chats.open_chat(bench, name, max(plan.users), served["served_as"]) for name in plan.names]
        documents = {chat.name: chats.ingest(bench, chat, folder) for chat in opened}
        result: Row = {**about(site, bench, plan, command), **served, "documents": documents, "whole": False, "rows": []}
        result |= of_the_paced_model(bench, plan, opened, model, books) if plan.simulated else {}
        for users in plan.users:
            result["rows"].append(row(bench, plan, users, opened, model, library.rotation(books)))
            keep(result | {"load_after": machine.load()})
    result |= {"whole": True, "load_after": machine.load()}
    keep(result)
    return result


def of_the_paced_model(bench: Site, plan: Plan, opened: list[Chat], model: Vllm, books: Library) -> Row:
    """What can be known only where the model says what it was asked, and takes no time. Leaves the model at its pace."""
    found: Row = {}
    if plan.hit_rate:
        cases = library.labelled(books)
        tell_model(model, AT_ONCE, {case.asked: case.alone for case in cases})
        found["hit_rate"] = {chat.name: hit_rate(bench, chat, cases) for chat in opened}
        found["calls"] = {chat.name: calls_per_question(chat, model, library.rotation(books)) for chat in opened}
    tell_model(model, AT_ONCE, {})
    found["harness_seconds"] = harness(bench, model)
    return found | {"pace": tell_model(model, plan.pace or {}, {})}


def about(site: Site, bench: Site, plan: Plan, command: str) -> Row:
    return {
        "kind": "rag",
        "simulated": plan.simulated,
        "model": "paced model: a simulation with the case study's speeds" if plan.simulated else bench.settings["SERVED_MODEL"],
        "command": command,
        "rounds": plan.rounds,
        "path": "the chat's own page" if plan.browser else "API",
        "overrides": plan.overrides or {},
        "settings": {key: bench.settings[key] for key in chats.CHAT_KEYS},
        "load_before": machine.load(),
        **machine.describe(site),
    }


def tell_model(model: Vllm, pace: Row, rewrites: dict[str, str]) -> Row:
    told: Row = model.call("POST", "/bench/pace", {"pace": pace, "rewrites": rewrites}).json()
    return told


# ---------------------------------------------------------------------- what is found


def hit_rate(site: Site, chat: Chat, cases: list[Case]) -> dict[str, Row]:
    """By kind of question: the share whose passages hold the right value, and the share with the right document.

    To stock's search-query call the paced model answers with what a perfect reader would search for: its upper bound.
    """
    found: dict[str, list[tuple[bool, bool]]] = {}
    for number, case in enumerate(cases, 1):
        site.tell(f"{chat.name}: labelled questions, {number // 10 * 10} of {len(cases)}")
        sample = chat.ask(0, case.messages, stop_at_sources=True)
        hit = any(case.value in passage for passage in sample.passages)
        found.setdefault(case.kind, []).append((hit, case.document in sample.sources))
    return {
        kind: {
            "asked": len(rows),
            "passage": round(sum(passage for passage, _ in rows) / len(rows), 3),
            "document": round(sum(document for _, document in rows) / len(rows), 3),
        }
        for kind, rows in found.items()
    }


def calls_per_question(chat: Chat, model: Vllm, cases: list[Case]) -> Row:
    """What Open WebUI sends to the model for one question: by the API, and for a first question from its own page."""

    def count(ask: Callable[[Case], object], turns: int) -> dict[str, float]:
        model.call("POST", "/bench/clear", {})
        for case in cases[:turns]:
            ask(case)
        kinds = Counter(call["kind"] for call in chats.calls_when_quiet(model, turns))
        return {"all": sum(kinds.values()) / turns} | {kind: number / turns for kind, number in kinds.items()}

    return {
        "api": count(lambda case: chat.ask(0, case.messages), API_TURNS),
        "browser_first_turn": count(lambda case: chat.ask_as_page(case.question), BROWSER_TURNS),
    }


# ---------------------------------------------------------------------- how fast


def harness(site: Site, model: Vllm) -> Row | None:
    """What this harness and a server where nothing takes time need for a first word, eight at once: no measurement is finer."""
    host, _, port = model.address.partition(":")
    endpoint = Endpoint(host, int(port), "/v1/chat/completions", site.settings["MODEL_API_KEY"], {"model": vllm.BASE})
    samples = load.level(lambda *_: ask(endpoint, [{"role": "user", "content": "?"}]), HARNESS_USERS, HARNESS_ROUNDS)
    return shown(summaries.summary([sample.first_token_seconds for sample in samples if not sample.error]))


def row(site: Site, plan: Plan, users: int, opened: list[Chat], model: Vllm, cases: list[Case]) -> Row:
    """One level: each chat in turn, its first call discarded."""
    measured: Row = {"users": users}
    for chat in opened:
        site.tell(f"{users} at once, {plan.rounds} rounds, {chat.name}")
        measured[chat.name] = level(chat, model, users, plan, cases)
    if STOCK in measured and OURS in measured:
        measured["ratio"] = ratio(measured[OURS], measured[STOCK])
    return measured


def level(chat: Chat, model: Vllm, users: int, plan: Plan, cases: list[Case]) -> Row:
    warm_up = chat.ask_as_page(cases[-1].question) if plan.browser else chat.ask(0, cases[-1].messages)
    if warm_up.error:
        raise GlueError(f"{chat.name} does not answer", warm_up.error, "make bench again; docker logs of the bench's containers")
    before = parts.begin(model, plan.simulated)
    started = time.monotonic()
    questions = [cases[number % len(cases)] for number in range(users * plan.rounds)]
    samples = as_pages(chat, model, plan, questions, users) if plan.browser else by_api(chat, plan, questions, users)
    wall = time.monotonic() - started
    hits = [any(case.value in text for text in sample.passages) for case, sample in zip(questions, samples, strict=True)]
    spent = parts.end(model, plan.simulated, before, samples)
    return summarised(samples, users, wall) | {"hit_rate": sum(hits) / len(hits), **spent}


def by_api(chat: Chat, plan: Plan, questions: list[Case], users: int) -> list[Sample]:
    return load.level(lambda user, number: chat.ask(user, questions[number].messages), users, plan.rounds)


def as_pages(chat: Chat, model: Vllm, plan: Plan, questions: list[Case], users: int) -> list[Sample]:
    """To the end of the titles and tags that a page asks for after the answer: they are paid for too."""
    with chat.pages(users) as pages:
        samples = load.level(lambda user, number: pages[user].ask(chat.page_body(questions[number].question)), users, plan.rounds)
        if plan.simulated:
            chats.calls_when_quiet(model, len(samples))
    return samples


def summarised(samples: list[Sample], users: int, wall_seconds: float) -> Row:
    good = [sample for sample in samples if not sample.error]
    speeds = [sample.tokens_per_second for sample in good if sample.tokens_per_second]
    speed = summaries.summary(speeds)
    return {
        "asked": len(samples),
        "errors": [sample.error for sample in samples if sample.error],
        "without_usage": sum(not sample.completion_tokens for sample in good),
        "without_sources": sum(not sample.passages for sample in good),
        "cached_tokens": sum(sample.cached_tokens for sample in good),
        "prompt_tokens": middle([sample.prompt_tokens for sample in good]),
        "completion_tokens": middle([sample.completion_tokens for sample in good]),
        "first_event_seconds": shown(summaries.summary([sample.first_event_seconds for sample in good])),
        "first_token_seconds": shown(summaries.summary([sample.first_token_seconds for sample in good])),
        "tokens_per_second": shown(speed),
        "total_tokens_per_second": round(users * speed.mean, 1) if speed else None,
        "total_with_waiting": round(sum(sample.completion_tokens for sample in good) / wall_seconds, 1),
        "samples": [asdict(sample) | {"passages": len(sample.passages), "sources": []} for sample in samples],
    }


def middle(tokens: list[int]) -> float | None:
    """Of those whose usage was reported."""
    told = [count for count in tokens if count]
    return median(told) if told else None


def shown(found: summaries.Summary | None) -> Row | None:
    return asdict(found) if found else None


def ratio(ours: Row, stock: Row) -> Row:
    """Ours over stock, of the time to the first word."""
    one, other = ours["first_token_seconds"], stock["first_token_seconds"]
    return {key: round(one[key] / other[key], 3) for key in ("mean", "median", "p99")} if one and other else {}
