"""The report's tables: measured rows with the published figure and the ratio to it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bench import published
from bench.statistics import LEAST_FOR_AN_INTERVAL

Row = dict[str, Any]
CHATS = ("stock", "ours")


@dataclass(frozen=True)
class Table:
    title: str
    heading: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    note: str = ""


def of_three(values: Sequence[float] | None, form: str) -> str:
    return " / ".join(form.format(value) for value in values) if values else "-"


def three(summary: Row | None, form: str = "{:.2f}") -> str:
    return of_three([summary[key] for key in ("mean", "median", "p99")], form) if summary else "-"


def between(summary: Row | None, key: str) -> str:
    """Its 95 % interval; empty for too few values."""
    if not summary or summary["count"] < LEAST_FOR_AN_INTERVAL:
        return "-"
    low, high = summary[f"{key}_interval"]
    return f"{low:.2f} to {high:.2f}"


def ratio(value: float | None, other: float | None) -> str:
    return f"{value / other:.2f}" if value is not None and other else "-"


def levels(result: Row) -> list[tuple[int, str, Row]]:
    return [
        (row["users"], name, row[name]) for row in result["rows"] for name in CHATS if name in row
    ]


def first_word(result: Row) -> Table:
    """Table 2, by the published definition and by the first token."""
    rows = []
    for users, name, level in levels(result):
        event, token = level["first_event_seconds"], level["first_token_seconds"]
        there = published.FIRST_EVENT_SECONDS.get(users)
        rows.append(
            (
                str(users),
                name,
                of_three(there, "{:.1f}"),
                three(event),
                three(token),
                between(token, "median"),
                ratio(token and token["median"], there and there[1]),
                ratio(token and token["p99"], there and there[2]),
            )
        )
    heading = (
        "users",
        "chat",
        "published",
        "first event, s",
        "first word, s",
        "median, 95 %",
        "median / published",
        "P99 / published",
    )
    note = (
        "Average / median / P99. First event: the first streamed event, as published; behind Open"
        " WebUI it can be its list of sources, before the model reads anything. First word:"
        " the model's first token, on which the ratios are based."
    )
    return Table("Table 2: time to the first word", heading, rows, note)


def speed(result: Row) -> Table:
    """Table 3."""
    rows = []
    for users, name, level in levels(result):
        there, total = (
            published.TOKENS_PER_SECOND.get(users),
            published.TOTAL_TOKENS_PER_SECOND.get(users),
        )
        found = level["tokens_per_second"]
        rows.append(
            (
                str(users),
                name,
                of_three(there, "{:.1f}"),
                three(found, "{:.1f}"),
                ratio(found and found["median"], there and there[1]),
                str(total or "-"),
                f"{level['total_tokens_per_second'] or 0:.0f}",
                f"{level['total_with_waiting']:.0f}",
            )
        )
    heading = (
        "users",
        "chat",
        "published",
        "tokens/s a user",
        "ratio",
        "published total",
        "total",
        "total, waiting included",
    )
    note = (
        "Average / median / P99, of the usage that the model reports, while it writes. Total: users"
        " x average, as published."
    )
    return Table("Table 3: tokens per second", heading, rows, note)


def beaten(result: Row) -> Table:
    """Ours over stock in this run, and the share of answers found by each."""
    rows = [
        (
            str(row["users"]),
            *(f"{row[name]['first_token_seconds']['median']:.2f}" for name in CHATS),
            f"{row['ratio']['median']:.3f}",
            f"{row['ratio']['p99']:.3f}",
        )
        for row in result["rows"]
        if row.get("ratio")
    ]
    return Table(
        "Ours and stock, same run",
        ("users", "stock, s", "ours, s", "ours / stock, median", "at P99"),
        rows,
    )


def found(result: Row) -> Table:
    asked = next(iter(result["hit_rate"].values()))
    whats = ("passage", "document")
    rows = [
        (
            kind,
            str(asked[kind]["asked"]),
            *(
                percent(rates[kind][what])
                for what in whats
                for rates in result["hit_rate"].values()
            ),
        )
        for kind in asked
    ]
    heading = (
        "question",
        "asked",
        *(f"{what}, {name}" for what in whats for name in result["hit_rate"]),
    )
    note = (
        "The share of labelled questions whose passages hold the answer, and that reach the right"
        " document. The paced model answers stock's search-query call as a perfect reader would, so"
        " stock's share is an upper bound."
    )
    return Table("Retrieval: what is found", heading, rows, note)


def percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.0%}"


def calls(result: Row) -> Table:
    rows = [
        (
            name,
            words,
            f"{counted['all']:g}",
            ", ".join(f"{kind} {number:g}" for kind, number in counted.items() if kind != "all"),
        )
        for name, ways in result["calls"].items()
        for words, counted in ways.items()
    ]
    return Table(
        "Calls to the model for one question", ("chat", "asked by", "calls", "of them"), rows
    )


def health(result: Row) -> Table:
    rows = [
        (
            str(users),
            name,
            str(level["asked"]),
            str(len(level["errors"])),
            str(level["without_sources"]),
            str(level["cached_tokens"]),
            str(level.get("without_usage", "-")),
            *(number(level[what], 0) or "-" for what in ("prompt_tokens", "completion_tokens")),
        )
        for users, name, level in levels(result)
    ]
    heading = (
        "users",
        "chat",
        "asked",
        "errors",
        "lost its sources",
        "cached tokens",
        "no usage",
        "prompt tokens",
        "answer tokens",
    )
    return Table("Requests", heading, rows)


def where_it_goes(result: Row) -> Table:
    names = part_names(result)
    rows = [
        (str(users), name, *(number(level["parts"].get(part)) or "-" for part in names))
        for users, name, level in levels(result)
    ]
    missing = sorted(
        {name for _, _, level in levels(result) for name in level.get("not_reported", [])}
    )
    note = (
        f"This vLLM does not report {', '.join(missing)}, so the time cannot be divided."
        if missing
        else ""
    )
    return Table("Where the time goes, seconds a question", ("users", "chat", *names), rows, note)


def part_names(result: Row) -> list[str]:
    """Of all levels, in their order. A level without answers has none."""
    return list(dict.fromkeys(part for _, _, level in levels(result) for part in level["parts"]))


def direct(result: Row) -> Table:
    """This harness against vLLM's own, on the same vLLM."""
    rows = [
        (
            str(row["users"]),
            what,
            f"{row['here'][key]:.4f}",
            f"{row['vllm'][key]:.4f}",
            number(row["ratio"][key], 3),
        )
        for row in result["rows"]
        for key, what in (
            ("first_token_seconds", "first word, s"),
            ("seconds_per_token", "seconds a token"),
        )
    ]
    return Table(
        "This harness and `vllm bench serve`, the same vLLM",
        ("users", "median", "here", "vllm bench serve", "ratio"),
        rows,
    )


def swap(result: Row) -> Table:
    rows = [
        (
            row["phase"],
            f"{row['seconds']:.2f}",
            number(row.get("floor_seconds")),
            number(row.get("added_seconds")),
            row.get("floor", ""),
        )
        for row in result["rows"]
    ]
    heading = ("phase", "s", "floor, s", "added by glue, s", "the floor is")
    note = (
        f"Published: {published.LOAD_SECONDS / 60:.1f} minutes a load, on a Spark. Warm: the page"
        " cache is left as it is. "
    )
    return Table(
        "Swap and start",
        heading,
        rows,
        note + "Cold: it is dropped before. " + result.get("left_out", ""),
    )


def number(value: float | None, digits: int = 2) -> str:
    return "" if value is None else f"{value:.{digits}f}"
