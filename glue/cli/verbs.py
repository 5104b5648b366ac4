"""The verbs of glue: arguments in, a JSON value and how people are shown it out."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from glue.cli.framework import cli, lines, open_site, open_watched, teller, verb
from glue.clients import adapter_store, chat_volume
from glue.clients.site import Site
from glue.core import settings, waiting
from glue.core.errors import Exit, GlueError, Misconfigured
from glue.core.services import Mode
from glue.machine import doctor, images, schedule
from glue.machine.checks import Grade
from glue.night import night
from glue.operations import airgap, backup, clean, documents, restore, setup, support, upgrade
from glue.serving import adapters, day, export, notify, reconcile, status
from learning.dataset import build, forget

__all__ = ["cli"]


@verb
def setup_verb(profile: str | None) -> tuple[Any, Callable[[Any], None]]:
    """Everything that day and night stand on: Docker, secrets, images, models."""
    site = setup.ensure(profile, teller())
    return {"profile": site.settings.profile, "state": str(site.state), "ready": True}, lines


@cli.command(name="doctor")
@click.option("--json", "as_json", is_flag=True, help="Print JSON only.")
@click.pass_obj
def doctor_command(profile: str | None, as_json: bool) -> None:
    """Look at everything that days and nights need, and change nothing. Exit 10: something is
    missing."""
    site = open_site(profile)
    found = doctor.examine(doctor.observe(site, doctor.ALL), doctor.ALL)
    if as_json:
        print(json.dumps([asdict(finding) for finding in found]))
    else:
        print("\n".join(map(str, found)))
    if any(finding.grade is Grade.FAIL for finding in found):
        sys.exit(Exit.PRECONDITION)


@verb
@click.option(
    "--scheduled", is_flag=True, help="As the timer says it: what a person stopped stays stopped."
)
@click.option(
    "--new",
    "anew",
    is_flag=True,
    help="Begin with an empty chat, where the one that was here is lost.",
)
def day_verb(profile: str | None, scheduled: bool, anew: bool) -> tuple[Any, Callable[[Any], None]]:
    """Bring up the chat, or find it up; a trainer that still runs is stopped."""
    site = open_watched(profile)
    site.tell(f"profile {site.settings.profile}")
    with notify.watching(site, "day") as told:
        if anew:
            chat_volume.begin_anew(site.settings, site.stacks)
        told |= day.ensure(site, scheduled=scheduled)
    return told, lambda result: print(
        day.STAYS_DOWN if result["mode"] == Mode.DOWN else f"The chat answers at {result['url']}"
    )


@verb
def https_verb(profile: str | None) -> tuple[Any, Callable[[Any], None]]:
    """Bring up the chat with HTTPS for HTTPS_NAMES, and say what the office's machines must
    trust."""
    return day.https(open_site(profile)), lines


@verb
def stop_verb(profile: str | None) -> tuple[Any, Callable[[Any], None]]:
    """Stop everything, also a night that runs, until somebody says day."""
    return day.stop(open_site(profile)), lines


@verb
def reconcile_verb(profile: str | None) -> tuple[Any, Callable[[Any], None]]:
    """Put back what is wanted: a day that fell, a night that died or is late. Timers call it. Exit
    12: it gave up."""
    site = open_watched(profile)
    with notify.watching(site, "reconcile") as told:
        told |= reconcile.reconcile(site)
    return told, lines


@verb
@click.option(
    "--new",
    "anew",
    is_flag=True,
    help="In a folder without the earlier backups, or of a chat with less in it.",
)
def backup_verb(profile: str | None, anew: bool) -> tuple[Any, Callable[[Any], None]]:
    """Copy all that cannot be had again: chats, documents, adapters, journal, settings, secrets.
    Nothing stops for it."""
    site = open_site(profile)
    with notify.watching(site, "backup"):
        return backup.backup(site, anew), lines


@verb
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--replace", is_flag=True, help="Also where there is a chat already.")
def restore_verb(
    profile: str | None, folder: Path, replace: bool
) -> tuple[Any, Callable[[Any], None]]:
    """Put back the backup in FOLDER, on this machine or a fresh one. Then: make day."""
    return restore.restore(open_site(profile), folder.resolve(), replace), lines


@verb
@click.argument("version")
def upgrade_verb(profile: str | None, version: str) -> tuple[Any, Callable[[Any], None]]:
    """Backup, then VERSION, a tag or commit of this repository; if that does not serve, what was
    before serves again."""
    return upgrade.upgrade(open_site(profile), version), lines


@verb
@click.option("--until", help="A time of day, such as 05:30, by which training ends.")
@click.option(
    "--scheduled", is_flag=True, help="Only in the hours of the schedule, and until they end."
)
def night_verb(
    profile: str | None, until: str | None, scheduled: bool
) -> tuple[Any, Callable[[Any], None]]:
    """Learn from the team's ratings, keep what helps, and leave the day serving. Exit 3: the gate
    refused."""
    site = open_site(profile)
    site.tell(f"profile {site.settings.profile}, recipe {site.settings['RECIPE']}")
    with notify.watching(site, "night") as told:
        told |= night.run(site, night.scheduled_end(site) if scheduled else until_time(until))
    return told, lines


@verb
def status_verb(profile: str | None) -> tuple[Any, Callable[[Any], None]]:
    """Mode, what serves, and how the last night ended."""
    return status.status(open_site(profile)), show_status


@verb
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--skip-bad",
    is_flag=True,
    help="Leave out PDFs that cannot be read instead of refusing the folder.",
)
def ingest_verb(
    profile: str | None, folder: Path, skip_bad: bool
) -> tuple[Any, Callable[[Any], None]]:
    """Keep the team's knowledge in step with a FOLDER of PDFs: what is new, changed or gone."""
    return documents.ingest(open_site(profile), folder, skip_bad), lines


@cli.group(name="dataset")
def dataset_group() -> None:
    """What a night would learn from."""


def build_verb(profile: str | None) -> tuple[Any, Callable[[Any], None]]:
    """Build state/dataset as tonight's would be, with a card and a page to read through. Changes
    nothing else."""
    site = open_site(profile)
    return build.build(site, site.recipe()), lines


verb(build_verb, dataset_group)


@verb
@click.option("--user", help="The id of a person in Open WebUI.")
@click.option("--chat", help="The id of a conversation in Open WebUI.")
def forget_verb(
    profile: str | None, user: str | None, chat: str | None
) -> tuple[Any, Callable[[Any], None]]:
    """Remove a person or a conversation from every dataset, and say which adapters had seen it."""
    if bool(user) == bool(chat):
        raise Misconfigured(
            "forget what?", "neither or both of --user and --chat", "name one of them"
        )
    return forget.forget(open_site(profile), "user" if user else "chat", str(user or chat)), lines


@verb
@click.argument("question")
def ask_verb(profile: str | None, question: str) -> tuple[Any, Callable[[Any], None]]:
    """Ask the Team Assistant a QUESTION, with retrieval, and show its sources. Exit 1: it said
    nothing."""
    answer = open_site(profile).administrator().ask([{"role": "user", "content": question}])
    if not answer.text.strip():
        saw = f"an empty answer; sources: {', '.join(answer.source_names) or 'none'}"
        raise GlueError("the assistant answered nothing", saw, "make logs SERVICE=vllm")
    result = {
        "answer": answer.text,
        "sources": answer.source_names,
        "passages": answer.passages,
        "usage": answer.usage,
    }

    def show(result: dict[str, Any]) -> None:
        print(result["answer"])
        print("sources:", ", ".join(result["sources"]) or "none: Open WebUI retrieved nothing")

    return result, show


@verb
@click.option(
    "--add",
    type=click.Path(path_type=Path),
    help="Take in the adapter in this folder; it does not serve yet.",
)
def adapters_verb(profile: str | None, add: Path | None) -> tuple[Any, Callable[[Any], None]]:
    """List the adapters, oldest first, with the one that serves marked."""
    site = open_site(profile)
    if add is not None:
        site.tell(f"added {adapters.add(site, add)}")
    return adapters.listing(site), show_adapters


@verb
@click.argument("adapter")
@click.option(
    "--form",
    type=click.Choice(["adapter", "merged"]),
    help="Beside the base model, or a checkpoint of its own.",
)
def promote_verb(
    profile: str | None, adapter: str, form: str | None
) -> tuple[Any, Callable[[Any], None]]:
    """Make an ADAPTER serve, or "base" for the base model. vLLM restarts only for, or after, a
    merged one."""
    site = open_site(profile)
    return {"adapter": adapters.promote(site, None if adapter == "base" else adapter, form)}, lines


@verb
@click.argument("adapter")
@click.option("--form", type=click.Choice(list(export.FORMS)), default="merged", show_default=True)
def export_verb(profile: str | None, adapter: str, form: str) -> tuple[Any, Callable[[Any], None]]:
    """Put an ADAPTER into a whole checkpoint: merged into the model that serves, or as bf16 or
    nvfp4 of the trained one."""
    site = open_site(profile)
    made = adapters.make_checkpoint(site, adapter, form)
    return {"checkpoint": str(site.releases.folder / adapter / "checkpoint"), **made}, lines


@verb
def pin_verb(profile: str | None) -> tuple[Any, Callable[[Any], None]]:
    """Add its digest to every image in env/images.env, from its registry."""
    return images.pin(open_site(profile).stacks), lambda pinned: print(
        "\n".join(pinned) or "every image has its digest"
    )


@verb
def rollback_verb(profile: str | None) -> tuple[Any, Callable[[Any], None]]:
    """What served before serves again. vLLM restarts only if one of the two is merged."""
    return {"adapter": adapters.rollback(open_site(profile))}, lines


def show_adapter(profile: str | None, adapter: str) -> tuple[Any, Callable[[Any], None]]:
    """All that is known of an ADAPTER: what made it, from what, and what the gate said."""
    return open_site(profile).releases.manifest(adapter), lambda result: lines(
        adapters.flat(result)
    )


verb(click.argument("adapter")(show_adapter), name="show")


@verb
@click.argument("one")
@click.argument("other")
def diff_verb(profile: str | None, one: str, other: str) -> tuple[Any, Callable[[Any], None]]:
    """In what the manifests of two adapters differ."""
    releases = open_site(profile).releases
    return adapters.difference(releases.manifest(one), releases.manifest(other)), show_difference


@verb
@click.option(
    "--keep",
    type=click.IntRange(min=1),
    default=3,
    show_default=True,
    help="So many that served, and so many good.",
)
@click.option("--dry-run", is_flag=True, help="Only name what would go.")
def prune_verb(profile: str | None, keep: int, dry_run: bool) -> tuple[Any, Callable[[Any], None]]:
    """Remove old adapters; never what serves, what a rollback goes to, or the last good ones."""
    gone = adapters.prune(open_site(profile), keep, dry_run)
    return {"removed": [] if dry_run else gone, "removable": gone if dry_run else []}, lines


@verb
def clean_verb(profile: str | None) -> tuple[Any, Callable[[Any], None]]:
    """Remove the rehearsal: containers, volumes, state folder, and images of other versions. Not on
    a Spark."""
    return clean.clean(open_site(profile)), lambda result: print(
        "removed " + ", ".join(result["removed"])
    )


@cli.group(name="recipe")
def recipe_group() -> None:
    """What the recipes of env/recipes train."""


def show_verb(profile: str | None, name: str) -> tuple[Any, Callable[[Any], None]]:
    """Count what the recipe NAME trains, on the real architecture without its weights."""
    return setup.show(open_site(profile), name), lines


verb(click.argument("name")(show_verb), recipe_group)


@cli.group(name="schedule")
def schedule_group() -> None:
    """Days, nights and backups by the clock: systemd's timers, or lines for cron."""


def schedule_verb(name: str, act: Callable[[Site, bool], dict[str, Any]], help_text: str) -> None:
    def command(profile: str | None, cron: bool) -> tuple[Any, Callable[[Any], None]]:
        return act(open_site(profile), cron), schedule_lines

    command.__name__, command.__doc__ = name, help_text
    verb(
        click.option("--cron", is_flag=True, help="Lines for cron instead of units for systemd.")(
            command
        ),
        schedule_group,
    )


schedule_verb(
    "install", schedule.install, "Put the site's hours in force, in place of what was; as root."
)
schedule_verb("show", schedule.show, "Print what install would write.")
schedule_verb(
    "remove", lambda site, cron: schedule.remove(site), "Take away what install wrote; as root."
)


def schedule_lines(result: dict[str, Any]) -> None:
    for key, value in result.items():
        print(f"# {key}\n{value}" if isinstance(value, str) else f"{key}:\n  " + "\n  ".join(value))


@verb
@click.argument("folder", type=click.Path(path_type=Path))
def bundle_verb(profile: str | None, folder: Path) -> tuple[Any, Callable[[Any], None]]:
    """Everything that a site without a network needs, into a new FOLDER: images, models, packages,
    this repository."""
    return airgap.bundle(open_site(profile), folder.resolve()), lines


@verb
@click.argument("folder", type=click.Path(path_type=Path))
def load_verb(profile: str | None, folder: Path) -> tuple[Any, Callable[[Any], None]]:
    """Take in the bundle in FOLDER, every byte checked; then make setup, which needs no network."""
    return airgap.load(open_site(profile), folder.resolve()), lines


@verb
def support_verb(profile: str | None) -> tuple[Any, Callable[[Any], None]]:
    """Pack what a helper needs to see: states, settings, journal and logs, without anybody's words
    and without secrets."""
    return support.support(open_site(profile)), lines


@cli.command(name="logs")
@click.argument("service", default="vllm")
@click.pass_obj
def logs_command(profile: str | None, service: str) -> None:
    """The last lines of a SERVICE: vllm, open-webui, door, night-desk or trainer."""
    stacks = open_site(profile).stacks
    print(stacks.last_log_lines("night" if service == "trainer" else "day", service, 200))


@cli.command(name="compose", context_settings={"ignore_unknown_options": True})
@click.argument("stack", type=click.Choice(["day", "night"]))
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.pass_obj
def compose_command(profile: str | None, stack: str, arguments: tuple[str, ...]) -> None:
    """Run docker compose on the day's or the night's STACK with the right files and settings."""
    stacks = open_site(profile).stacks
    sys.exit(
        subprocess.run(
            stacks.compose_command(stack, *arguments), env=stacks.compose_environment(), check=False
        ).returncode
    )


def until_time(clock: str | None) -> float | None:
    """The next moment at which the clock shows this, as a Unix time."""
    if clock is None:
        return None
    if not settings.CLOCK.accepts(clock):
        raise Misconfigured(
            "--until is no time of day", clock, f"allowed: {settings.CLOCK.allowed}"
        )
    return waiting.next_moment(clock)


def show_status(result: dict[str, Any]) -> None:
    lines({key: value for key, value in result.items() if key not in ("last_night", "morning")})
    print(f"\n{result['morning'] or 'no night has ended yet'}", end="")


def show_difference(rows: dict[str, list[Any]]) -> None:
    table = Table(box=None)
    for heading in ("", "one", "other"):
        table.add_column(heading, overflow="fold")
    for key, (one, other) in rows.items():
        table.add_row(key, *("-" if value is None else str(value) for value in (one, other)))
    Console().print(table)


def show_adapters(rows: list[dict[str, Any]]) -> None:
    table = Table(box=None)
    for heading in ("", "adapter", "trained on", "loss", "steps"):
        table.add_column(heading)
    serving = any(row["serves"] for row in rows)
    table.add_row("" if serving else "serves", adapter_store.shown(None), "", "", "")
    for row in rows:
        training = row.get("training", {})
        counts = row.get("counts", {})
        loss = (
            f"{training['loss_first']} -> {training['loss_last']}"
            if "loss_last" in training
            else ""
        )
        table.add_row(
            "serves" if row["serves"] else "",
            row["name"],
            str(counts.get("train", "")),
            loss,
            str(training.get("steps", "")),
        )
    Console().print(table)
