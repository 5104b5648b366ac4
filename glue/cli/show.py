"""How the results of verbs are printed for people."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from rich.console import Console
from rich.table import Table

from glue.cli.framework import lines
from glue.clients import adapter_store
from glue.core.services import Mode
from glue.machine import doctor
from glue.operations import documents
from glue.serving import adapters as serving_adapters
from glue.serving import watch

Json = dict[str, Any]


def findings(rows: list[Json]) -> None:
    print("\n".join(str(doctor.Finding(**row)) for row in rows))


def day(result: Json) -> None:
    down = result["mode"] == Mode.DOWN
    print(watch.STAYS_DOWN if down else f"The chat answers at {result['url']}")


def status(result: Json) -> None:
    hidden = ("last_night", "morning", "peers")
    lines({key: value for key, value in result.items() if key not in hidden})
    lines({f"peer {host}": row["words"] for host, row in result["peers"].items()})
    print(f"\n{result['morning'] or 'No night has ended yet.'}", end="")


def answer(result: Json) -> None:
    print(result["answer"])
    print("sources:", ", ".join(result["sources"]) or "none: Open WebUI retrieved nothing")


def adapters(rows: list[Json]) -> None:
    shown = table("", "adapter", "trained on", "loss", "steps")
    serving = any(row["serves"] for row in rows)
    shown.add_row("" if serving else "serves", adapter_store.shown(None), "", "", "")
    for row in rows:
        training, counts = row.get("training", {}), row.get("counts", {})
        losses = [str(training.get(key, "")) for key in ("loss_first", "loss_last")]
        shown.add_row(
            "serves" if row["serves"] else "",
            row["name"],
            str(counts.get("train", "")),
            " -> ".join(losses) if losses[1] else "",
            str(training.get("steps", "")),
        )
    Console().print(shown)


def manifest(manifest: Json) -> None:
    lines(serving_adapters.flat(manifest))


def difference(rows: dict[str, list[Any]]) -> None:
    shown = table("", "one", "other")
    for key, (one, other) in rows.items():
        shown.add_row(key, *("-" if value is None else str(value) for value in (one, other)))
    Console().print(shown)


def table(*headings: str) -> Table:
    made = Table(box=None)
    for heading in headings:
        made.add_column(heading, overflow="fold")
    return made


def schedule(result: Json) -> None:
    for key, value in result.items():
        print(f"# {key}\n{value}" if isinstance(value, str) else f"{key}:\n  " + "\n  ".join(value))


def notes(rows: list[Json]) -> None:
    for row in rows:
        day = f", {datetime.fromtimestamp(row['when']):%Y-%m-%d}" if row["when"] else ""
        print(f"{row['id']}  {row['state']} ({row['who']}{day})")
        print(f"    {' '.join(row['question'].split())}\n    {' '.join(row['answer'].split())}")
        for name in row["documents"].get("otherwise", []):
            print(f"    says otherwise: {name}; change the document, or drop the note")


def ingested(result: Json) -> None:
    print("\n".join(documents.lines(result)))
