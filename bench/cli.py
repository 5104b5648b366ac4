"""The command line: python -m bench."""

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
    """Keeps nights from starting while the block runs. Raises Locked if a night or another bench
    runs: starting the day would end it."""
    with lock.hold(site.state, lock.TRAINING, "a bench"):
        with lock.hold(site.state, lock.SWITCH, "begin a bench", model.SWITCH_WAIT_SECONDS):
            recovery.undo(
                site, alive=False
            )  # while this holds the training lock, a dead night would look alive
        yield


def rag_verb(site: Site, **chosen: Any) -> Json:
    """Measure simultaneous users through Open WebUI, stock and ours: the case study's Tables 2
    and 3."""
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
    """Measure vLLM alone, with this harness and with `vllm bench serve`."""
    with no_night(site):
        result = vllm_alone.run(site, numbers(users), count, answer_tokens, command_line())
    environment.save(site, "direct", result)
    return result


def swap_verb(site: Site) -> Json:
    """Measure each phase of day to night to day, cold and warm, and hot promotion. The chat's
    model restarts twice."""
    with no_night(site):
        result = swap.run(
            site, command_line(), lambda so_far: environment.save(site, "swap", so_far)
        )
    return result


def report_verb(site: Site, compare: Path | None) -> Json:
    """Write one self-contained page of all results in state/bench, each table beside the
    published one."""
    from bench import report  # matplotlib takes a second to import, and no other verb waits for it

    return report.write(site.state / "bench", compare)


def scale_verb(site: Site, source: Path, out: Path) -> Json:
    """Compute how many people a Spark serves, by prompt and answer length, from a result of
    `python -m bench rag`."""
    result = json.loads(source.read_text(encoding="utf-8"))
    if result.get("kind") != "rag" or not capacity.usable(result):
        saw = f"{source} has no level of ours with its time divided into parts"
        raise PreconditionFailed(
            "this result has too little to compute from",
            saw,
            "run python -m bench rag and pass its file as --source",
        )
    files.write(out, capacity.document(result, "docs/measurements/" + source.name))
    return {"document": str(out)}


def all_verb(site: Site, rounds: int) -> Json:
    """Measure everything and write the report: vLLM alone, the chat on vLLM, the swap, training,
    the chats on a paced model."""
    with no_night(site):
        failed = measure_all(site, rounds, command_line())
    report = report_verb(site, None)
    if failed:
        saw = "; ".join(f"{name}: {words}" for name, words in failed.items())
        raise GlueError(
            "parts of the bench failed",
            saw,
            f"the other results are in {report['page']}; correct the fault, then make bench again",
        )
    return report


def measure_all(site: Site, rounds: int, command: str) -> dict[str, str]:
    """Measures everything except the browser. Returns what failed, and why.

    A step that fails does not stop the others. Its result from an earlier run is deleted, so that
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
    """Each function gets the callback that saves its result. The key is the result's name."""
    # the rehearsal's practice model has a context of a few hundred tokens: only short passages fit,
    # and the prompt of a stock chat does not
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
    """Time training steps: tokens a second, memory, seconds a step, and how close that is to the
    machine's limits."""
    return training.verb(site, chosen, command_line())


@click.group(params=list(framework.cli.params), context_settings=framework.cli.context_settings)
def bench(**chosen: Any) -> None:
    """Measure this machine and compare with what the case study published."""
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
