"""The verbs of glue. The table at the end declares each of them once."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import click

from glue.cli import framework, peer_verbs, show
from glue.cli.framework import cli, flag, open_watched, option, teller
from glue.clients import chat_volume
from glue.clients.site import Site
from glue.core import waiting
from glue.core.errors import Exit, GlueError, Invalid, Misconfigured
from glue.core.services import DAY_SERVICES, HTTPS_PROXY
from glue.machine import doctor, images, schedule
from glue.machine.check_types import Grade
from glue.night import night
from glue.operations import (
    airgap,
    backup,
    clean,
    dataset,
    documents,
    forget,
    notes,
    restore,
    setup,
    support,
    upgrade,
)
from glue.serving import adapters, day, export, notify, reconcile

__all__ = ["cli", "peer_verbs"]

Json = dict[str, Any]
SERVICES = (*DAY_SERVICES, HTTPS_PROXY, "trainer")


def setup_verb(profile: str | None) -> Json:
    """Check the machine; get its secrets, images and models."""
    site = setup.ensure(profile, teller())
    return {"profile": site.settings.profile, "state": str(site.state), "ready": True}


def doctor_verb(site: Site) -> list[Json]:
    """Check all that days and nights need; change nothing. Exit code 10: something is missing."""
    found = doctor.examine(doctor.observe(site, doctor.ALL), doctor.ALL)
    return [asdict(finding) for finding in found]


def missing(rows: list[Json]) -> int:
    return Exit.PRECONDITION if any(row["grade"] is Grade.FAIL for row in rows) else 0


def day_verb(site: Site, scheduled: bool, empty: bool) -> Json:
    """Start the chat and wait until it answers. A training that still runs is stopped."""
    site.tell(f"profile {site.settings.profile}")
    with notify.watching(site, "day") as told:
        if empty:
            chat_volume.begin_anew(site.settings, site.stacks)
        told |= day.start(site, day.Caller.TIMER if scheduled else day.Caller.PERSON)
    return told


def reconcile_verb(site: Site) -> Json:
    """Restart a failed day or undo a night that died. For timers. Exit code 12: it gave up."""
    with notify.watching(site, "reconcile") as told:
        told |= reconcile.reconcile(site)
    return told


def backup_verb(site: Site, anew: bool) -> Json:
    """Back up the chat and all state. The chat keeps running."""
    with notify.watching(site, "backup"):
        return backup.backup(site, anew)


def night_verb(site: Site, until: str | None, scheduled: bool) -> Json:
    """Train on the team's ratings and keep what helps. Exit code 3: the gate refused it."""
    site.tell(f"profile {site.settings.profile}, recipe {site.settings['RECIPE']}")
    with notify.watching(site, "night") as told:
        told |= night.run(site, night.scheduled_end(site) if scheduled else until_time(until))
    return told


def until_time(clock: str | None) -> float | None:
    """The next moment at which the clock shows this, as a Unix time."""
    if clock is None:
        return None
    try:
        return waiting.next_moment(clock)
    except ValueError:
        do = "Expected a time such as 07:00."
        raise Invalid("Invalid value for --until", repr(clock), do) from None


def ingest_verb(site: Site, folder: Path, skip_bad: bool, yes: bool) -> Json:
    """Make the team's documents match FOLDER. Exit code 1: not all of them are in."""
    ask = partial(click.confirm, err=True) if sys.stdin.isatty() else None
    return documents.ingest(site, folder, skip_bad, yes, ask)


def incomplete(result: Json) -> int:
    left = result.get("incomplete") or result.get("still_in_the_chat")
    return Exit.FAILED if left else 0


def forget_verb(site: Site, user: str | None, chat: str | None) -> Json:
    """Remove a person or a chat from every data set, note and page. Lists the adapters that saw it.
    Exit code 1: the chat still has some of it."""
    if bool(user) == bool(chat):
        saw = "both CHAT and USER_ID" if user else "neither CHAT nor USER_ID"
        do = "Set exactly one: make forget CHAT=<id> or make forget USER_ID=<id>."
        raise Invalid("Invalid arguments for make forget", saw, do)
    return forget.forget(site, "user" if user else "chat", str(user or chat))


def notes_verb(site: Site, scheduled: bool, accept: str | None, drop: str | None) -> list[Json]:
    """List the notes made from the team's corrections. Makes new ones first."""
    if scheduled:
        notes.keep_in_step(site)
        return []  # a timer's journal is not for what people wrote
    return notes.notes(site, accept or "", drop or "")


def ask_verb(site: Site, question: str) -> Json:
    """Ask the Team Assistant a QUESTION and show its sources. Exit code 1: an empty answer."""
    if not question.strip():
        raise Misconfigured("the question is empty", repr(question), 'make ask Q="..."')
    answer = site.administrator().ask([{"role": "user", "content": question}])
    if not answer.text.strip():
        saw = f"an empty answer; sources: {', '.join(answer.source_names) or 'none'}"
        raise GlueError("the assistant answered nothing", saw, "make logs SERVICE=vllm")
    return {
        "answer": answer.text,
        "sources": answer.source_names,
        "passages": answer.passages,
        "usage": answer.usage,
    }


def adapters_verb(site: Site, add: Path | None) -> list[Json]:
    """List the adapters, oldest first, and mark the one that serves."""
    if add is not None:
        site.tell(f"added {adapters.add(site, add)}")
    return adapters.listing(site)


def promote_verb(site: Site, adapter: str, form: str | None) -> Json:
    """Serve ADAPTER, or "base". Restarts vLLM only to or from a merged one."""
    return {"adapter": adapters.promote(site, None if adapter == "base" else adapter, form)}


def rollback_verb(site: Site) -> Json:
    """Serve the previous adapter again. Restarts vLLM only if one of the two is merged."""
    return {"adapter": adapters.rollback(site)}


def export_verb(site: Site, adapter: str, checkpoint_form: str) -> Json:
    """Write ADAPTER as a whole checkpoint.

    merged: merge into the served model. bf16, nvfp4: merge into the BF16 model, fetched first.
    """
    made = adapters.make_checkpoint(site, adapter, checkpoint_form)
    return {"checkpoint": str(site.store.folder / adapter / "checkpoint"), **made}


def show_verb(site: Site, adapter: str) -> Json:
    """Show the manifest of ADAPTER: recipe, data and verdict."""
    return site.store.manifest(adapter)


def diff_verb(site: Site, one: str, other: str) -> Json:
    """Compare the manifests of two adapters."""
    return adapters.difference(site.store.manifest(one), site.store.manifest(other))


def prune_verb(site: Site, keep: int, dry_run: bool) -> Json:
    """Remove old adapters. What serves, what a rollback needs and the last good ones stay."""
    gone = adapters.prune(site, keep, dry_run)
    return {"removed": [] if dry_run else gone, "removable": gone if dry_run else []}


def logs_verb(site: Site, service: str) -> str:
    """Print the last log lines of SERVICE.

    One of vllm, open-webui, door, night-desk, https-proxy, trainer.
    """
    if service not in SERVICES:
        do = f"Expected one of: {', '.join(SERVICES)}."
        raise Invalid("Invalid value for SERVICE", repr(service), do)
    stack = "night" if service == "trainer" else "day"
    return site.stacks.last_log_lines(stack, service, 200)


def compose_verb(site: Site, stack: str, arguments: tuple[str, ...]) -> int:
    """Run docker compose on STACK, with its files and settings."""
    command = site.stacks.compose_command(stack, *arguments)
    environment = site.stacks.compose_environment()
    return subprocess.run(command, env=environment, check=False).returncode


# ---------------------------------------------------------------------- every verb, once

FOLDER = click.Path(path_type=Path)
OPTIONS = (  # a verb has the options that its function names
    flag(
        "--scheduled", words="For timers: skip if stopped by hand or outside the scheduled hours."
    ),
    flag("--new", "empty", words="Start with an empty chat if the chat is lost."),
    flag("--new", "anew", words="Start a new series in an empty folder, or accept a smaller chat."),
    flag("--replace", words="Replace the existing chat."),
    flag("--skip-bad", words="Exit 0 although documents were refused."),
    flag("--yes", words="Do not ask before replacing unrelated documents."),
    flag("--dry-run", words="Only list what would be removed."),
    flag("--cron", words="Lines for cron instead of systemd units."),
    option("--until", help="Time of day by which training ends, such as 05:30."),
    option("--user", envvar="ARG_USER_ID", help="ID of a person in Open WebUI."),
    option("--chat", envvar="ARG_CHAT", help="ID of a conversation in Open WebUI."),
    option("--accept", envvar="ARG_ACCEPT", help="ID of a note to accept."),
    option("--drop", envvar="ARG_DROP", help="ID of a note to withdraw."),
    option("--add", type=FOLDER, help="Add the adapter in this folder. It does not serve yet."),
    option("--form", type=click.Choice(["adapter", "merged"]), help="Default: as its recipe says."),
    option(
        "--form",
        "checkpoint_form",
        type=click.Choice(list(export.FORMS)),
        envvar="ARG_FORM",
        default="merged",
        help="The model that the adapter is merged into.",
    ),
    option(
        "--keep",
        type=click.IntRange(min=1),
        default=3,
        help="How many to keep of those that served, and of those that the gate accepted.",
    ),
    framework.Typed(["to"], "make upgrade TO=origin/main", metavar="VERSION"),
    click.Argument(["service"], default="vllm", envvar="ARG_SERVICE"),
    click.Argument(["stack"], type=click.Choice(["day", "night"])),
    click.Argument(["arguments"], nargs=-1, type=click.UNPROCESSED),
)
verb = partial(framework.verb, options=OPTIONS)
verb(setup_verb, opened=lambda profile: profile)
verb(doctor_verb, show=show.findings, exit_code=missing)
verb(day_verb, opened=open_watched, show=show.day)
verb(day.https, "Serve the chat over HTTPS. Prints what clients must trust.")
verb(day.stop, "Stop the chat and any night that runs. They stay stopped until make day.")
verb(reconcile_verb, opened=open_watched)
verb(backup_verb)
RESTORE = "Restore the backup in FOLDER, here or on a new machine. Then run make day."
verb(restore.restore, RESTORE, typed="make restore FROM=/mnt/nas/dual-use-spark/20260301T113000Z")
verb(upgrade.upgrade, "Back up, then change to VERSION. Returns if it does not serve.")
verb(night_verb)
verb(ingest_verb, typed="make ingest DIR=/srv/documents", show=show.ingested, exit_code=incomplete)
verb(forget_verb, exit_code=incomplete)
verb(notes_verb, show=show.notes)
verb(ask_verb, typed='make ask Q="What is the code of the harbor?"', show=show.answer)
verb(adapters_verb, show=show.adapters)
verb(promote_verb, typed="make promote ADAPTER=base")
verb(export_verb, typed="make export ADAPTER=<name>")
verb(rollback_verb)
verb(show_verb, show=show.manifest)
verb(diff_verb, show=show.difference)
verb(prune_verb)
PIN = "Add the registry's digest to every image in env/images.env."
verb(images.pin, PIN, show=lambda pinned: print("\n".join(pinned) or "Every image has its digest."))
CLEAN = "Remove the rehearsal: containers, volumes, state, older images. Refused on a Spark."
verb(clean.clean, CLEAN, show=lambda result: print("removed " + ", ".join(result["removed"])))
BUNDLE = "Write a bundle for a site without a network to a new FOLDER."
verb(airgap.bundle, BUNDLE, typed="make bundle TO=/mnt/disk/bundle")
verb(
    airgap.load,
    "Check and load the bundle in FOLDER. Then run make setup.",
    typed="make load FROM=/mnt/disk/bundle",
)
verb(support.support, "Pack settings, states and logs for support. No secrets, no chats.")
verb(logs_verb, show=print)
verb(compose_verb, show=lambda code: None, exit_code=int)
cli.commands["compose"].context_settings["ignore_unknown_options"] = True

learning = framework.group("dataset", "Build the data set that a night would learn from.")
verb(dataset.build, "Build tonight's data set, a card and a page in state/dataset.", group=learning)
recipes = framework.group("recipe", "Show what the recipes in env/recipes train.")
COUNT = "Count the parameters that recipe NAME trains."
verb(setup.show, COUNT, group=recipes, typed="make recipe RECIPE=team")
timers = framework.group("schedule", "Install timers for days, nights and backups.")
verb(schedule.install, "Install the timers. Needs root.", group=timers, show=show.schedule)
verb(schedule.show, "Print the timers that install would write.", group=timers, show=show.schedule)
verb(schedule.remove, "Remove what install wrote. Needs root.", group=timers, show=show.schedule)
