"""glue bench: its verbs. cli.py registers the group."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from glue.bench import chats, machine, rag
from glue.site import Site

Shown = tuple[Any, Callable[[Any], None]]


def numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))


def command_line() -> str:
    return " ".join(["glue", *sys.argv[1:]])


def rag_verb(site: Site, **chosen: Any) -> Shown:
    """Simultaneous users through Open WebUI: the case study's Tables 2 and 3, stock and ours in one run."""
    plan = rag.Plan(
        model=chosen["model"],
        names=(chosen["only"],) if chosen["only"] else (chats.STOCK, chats.OURS),
        users=numbers(chosen["users"]),
        rounds=chosen["rounds"],
        documents=chosen["documents"],
        overrides=dict(part.split("=", 1) for part in chosen["overrides"]),
        hit_rate=not chosen["quick"],
    )
    result = rag.run(site, plan, command_line())
    saved = machine.save(site, chosen["name"] or f"rag-{plan.model}", result)
    return result | {"saved": saved}, show_rag


def show_rag(result: dict[str, Any]) -> None:
    if result["simulated"]:
        print("SIMULATION: a paced model with the case study's speeds, not a Spark")
    for row in result["rows"]:
        for name in (chats.STOCK, chats.OURS):
            if name in row:
                print(f"{row['users']:3} users  {name:6} {told(row[name])}")
        if "ratio" in row:
            print(f"{row['users']:3} users  ours / stock, first word: {row['ratio']}")
    for key in ("hit_rate", "calls"):
        print(key, result.get(key))
    print(result["saved"])


def told(level: dict[str, Any]) -> str:
    first, event, speed = level["first_token_seconds"], level["first_event_seconds"], level["tokens_per_second"]
    return (
        f"first word {first['mean']:.2f} / {first['median']:.2f} / {first['p99']:.2f} s  first event {event['median']:.2f} s  "
        f"{speed['mean']:.1f} tokens/s  errors {len(level['errors'])}  without sources {level['without_sources']}  "
        f"calls {level['calls_per_question']}"
    )


RAG_OPTIONS = (
    click.option("--model", type=click.Choice([chats.PACED, chats.SERVED]), default=chats.PACED, show_default=True),
    click.option("--only", type=click.Choice([chats.STOCK, chats.OURS]), help="Measure one chat, not both."),
    click.option("--users", default="1,2,4,8", show_default=True, help="Levels."),
    click.option("--rounds", default=3, show_default=True, help="How often everybody asks at each level."),
    click.option("--documents", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Your own PDFs."),
    click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="A setting of Open WebUI to try on ours."),
    click.option("--quick", is_flag=True, help="Without the labelled questions."),
    click.option("--name", help="Of the file in state/bench; rag-paced or rag-vllm if not given."),
)


def register(bench: click.Group, verb: Callable[..., Any], open_site: Callable[[str | None], Site]) -> None:
    """Adds the verbs to the group `bench`, each with --json as all others."""

    def add(function: Callable[..., Shown], options: tuple[Callable[[Any], Any], ...]) -> None:
        def opened(profile: str | None, **chosen: Any) -> Shown:
            return function(open_site(profile), **chosen)

        opened.__name__, opened.__doc__ = function.__name__, function.__doc__
        command: Any = opened
        for option in reversed(options):
            command = option(command)
        verb(command, bench)

    add(rag_verb, RAG_OPTIONS)
