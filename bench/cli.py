"""Arguments in, exit codes out: python -m bench."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from bench import (
    capacity,
    chats,
    environment,
    options,
    rag,
    swap,
    tables,
    training,
    vllm_alone,
)
from glue.cli import framework
from glue.clients.site import Site
from glue.core import desired_state, files, lock
from glue.core.errors import GlueError, PreconditionFailed
from glue.serving import day, model, recovery

Keep = Callable[[dict[str, Any]], object]
Json = dict[str, Any]


def numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))


def command_line() -> str:
    return " ".join(["python -m bench", *sys.argv[1:]])


@contextmanager
def no_night(site: Site) -> Iterator[None]:
    """No night begins meanwhile. Raises Locked where one runs, or a bench: bringing up the day
    would end it."""
    with lock.hold(site.state, lock.TRAINING, "a bench"):
        with lock.hold(site.state, lock.SWITCH, "begin a bench", model.SWITCH_WAIT_SECONDS):
            recovery.undo(
                site, alive=False
            )  # a dead night would pass for a live one while this holds its lock
        yield


def rag_verb(site: Site, **chosen: Any) -> Json:
    """Simultaneous users through Open WebUI: the case study's Tables 2 and 3, stock and ours in one
    run."""
    plan = rag.Plan(
        model=chosen["model"],
        names=(chosen["only"],) if chosen["only"] else (chats.STOCK, chats.OURS),
        users=numbers(chosen["users"]),
        rounds=chosen["rounds"],
        documents=chosen["documents"],
        questions=chosen["questions"],
        books=chosen["books"],
        overrides=dict(part.split("=", 1) for part in chosen["overrides"]),
        hit_rate=not chosen["quick"],
        browser=chosen["browser"],
    )
    name = chosen["name"] or plan.name
    with no_night(site):
        result = rag.run(
            site, plan, command_line(), lambda so_far: environment.save(site, name, so_far)
        )
    return result | {"saved": str(site.state / "bench" / f"{name}.json")}


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
    first, event, speed = (
        tables.three(level[key])
        for key in ("first_token_seconds", "first_event_seconds", "tokens_per_second")
    )
    return (
        f"first word {first} s  first event {event} s  {speed} tokens/s  errors"
        f" {len(level['errors'])}  without sources {level['without_sources']}  calls"
        f" {level['calls_per_question']}"
    )


def direct_verb(site: Site, users: str, count: int, answer_tokens: int) -> Json:
    """vLLM alone: this harness beside `vllm bench serve`, on the vLLM that serves."""
    with no_night(site):
        result = vllm_alone.run(site, numbers(users), count, answer_tokens, command_line())
    environment.save(site, "direct", result)
    return result


def swap_verb(site: Site) -> Json:
    """Every phase of day to night to day, cold and warm, and hot promotion. The chat's model
    restarts twice."""
    with no_night(site):
        result = swap.run(
            site, command_line(), lambda so_far: environment.save(site, "swap", so_far)
        )
    return result


def report_verb(site: Site, compare: Path | None) -> Json:
    """One self-contained page of all results in state/bench, each table beside the published
    one."""
    from bench import report  # matplotlib takes a second to import, and no other verb waits for it

    return report.write(site.state / "bench", compare)


def scale_verb(site: Site, source: Path, out: Path) -> Json:
    """People a Spark serves by prompt and answer length, computed from a result of `python -m bench
    rag`."""
    result = json.loads(source.read_text(encoding="utf-8"))
    if result.get("kind") != "rag" or not capacity.usable(result):
        saw = f"no level of ours in {source} says where its time went"
        raise PreconditionFailed(
            "nothing can be computed of this result",
            saw,
            "python -m bench rag, and give its file as --source",
        )
    files.write(out, capacity.document(result, "docs/measurements/" + source.name))
    return {"document": str(out)}


def all_verb(site: Site, rounds: int) -> Json:
    """The report, and what it holds: vLLM alone, the chat before it, the swap, training, the chats
    before a paced model."""
    with no_night(site):
        failed = measure_all(site, rounds, command_line())
    report = report_verb(site, None)
    if failed:
        saw = "; ".join(f"{name}: {words}" for name, words in failed.items())
        raise GlueError(
            "parts of the bench failed",
            saw,
            f"the rest is in {report['page']}; mend it, then make bench again",
        )
    return report


def measure_all(site: Site, rounds: int, command: str) -> dict[str, str]:
    """All but the browser. Returns what failed, and why.

    A step that fails keeps none of the others; what an earlier run had measured of it goes, so that
    no report shows it as new.
    """
    failed: dict[str, str] = {}
    for name, measure in steps(site, rounds, command).items():
        (site.state / "bench" / f"{name}.json").unlink(missing_ok=True)
        try:
            day.start(site)
            measure(partial(environment.save, site, name))
        except desired_state.Preempted:
            raise  # a person stopped everything
        except (GlueError, OSError) as error:
            site.tell(f"{name} failed: {error}")
            failed[name] = error.saw if isinstance(error, GlueError) else str(error)
    return failed


def steps(site: Site, rounds: int, command: str) -> dict[str, Callable[[Keep], object]]:
    """Each gets what keeps its result, by whose name it is saved."""
    # the rehearsal's practice model reads a few hundred tokens: short passages, and a stock chat's
    # prompt is too long for it
    small = rag.Plan(model=chats.SERVED, names=(chats.OURS,), users=(1, 2), rounds=3, books=3)
    served = small if site.settings.rehearsal else rag.Plan(model=chats.SERVED, rounds=rounds)
    count, answer_tokens = (8, 32) if site.settings.rehearsal else (24, 64)
    return {
        "direct": lambda keep: keep(vllm_alone.run(site, (1, 4), count, answer_tokens, command)),
        served.name: lambda keep: rag.run(site, served, command, keep),
        "swap": lambda keep: swap.run(site, command, keep),
        "training": lambda keep: training.in_between(site, command, keep),
        "rag-paced": lambda keep: rag.run(site, rag.Plan(rounds=rounds), command, keep),
    }


def show_table(shown: tables.Table) -> None:
    table = Table(*shown.heading, title=shown.title, box=None)
    for row in shown.rows:
        table.add_row(*row)
    Console().print(table)


def training_verb(site: Site, **chosen: Any) -> Json:
    """Time training steps: tokens a second, memory, seconds a step, and how near the machine's
    limits that is."""
    return training.verb(site, chosen, command_line())


@click.group(params=list(framework.cli.params), context_settings=framework.cli.context_settings)
def bench(**chosen: Any) -> None:
    """Measure this machine, beside what the case study published."""
    assert framework.cli.callback is not None
    framework.cli.callback(**chosen)


def shown(table: Callable[[Json], tables.Table]) -> Callable[[Json], None]:
    return lambda result: show_table(table(result))


verb = partial(framework.verb, group=bench)
verb(training_verb, options=options.TRAINING)
verb(rag_verb, options=options.RAG, show=show_rag)
verb(direct_verb, options=options.DIRECT, show=shown(tables.direct))
verb(swap_verb, show=shown(tables.swap))
verb(report_verb, options=options.REPORT, show=lambda result: print(result["page"]))
verb(scale_verb, options=options.SCALE, show=lambda result: print(result["document"]))
verb(all_verb, options=options.ALL, show=lambda result: print(result["page"]))
