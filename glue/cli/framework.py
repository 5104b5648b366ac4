"""What every program of this repository has: --profile, --json, progress for people."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from functools import update_wrapper
from typing import Any, cast

import click
from rich.console import Console

from glue.clients.docker import Stacks
from glue.clients.site import Site, Tell
from glue.core import redact, settings
from glue.core.errors import Exit, GlueError, PreconditionFailed
from glue.serving import notify

people = Console(stderr=True, highlight=False, soft_wrap=True)  # a command is copied from one line


def teller() -> Tell:
    """Prints each line once, when it changes; a wait of minutes is a few lines, not a few hundred.

    A terminal that is gone, or a pipe that nobody reads (there rich raises SystemExit), ends
    nothing: the day has to come up.
    """
    last = ""

    def tell(line: str) -> None:
        nonlocal last
        if line != last:
            with suppress(OSError, SystemExit):
                people.print(f"[dim]{datetime.now():%H:%M:%S}[/dim] ", end="")
                people.print(redact.urls(line), markup=False)
        last = line

    return tell


def open_site(profile: str | None) -> Site:
    chosen = settings.load(profile)
    return Site(chosen, Stacks(chosen), teller())


def open_watched(profile: str | None) -> Site:
    """For the verbs that the day hangs on: where Docker does not answer nobody has a chat, and
    somebody is told."""
    chosen = settings.load(profile)
    try:
        return Site(chosen, Stacks(chosen), teller())
    except GlueError as error:
        unseen = Site(chosen, cast(Stacks, None), teller())  # telling asks no container
        notify.tell_once(unseen, notify.NOT_SERVING, str(error))
        raise


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--profile",
    type=click.Choice(settings.PROFILES),
    help="spark or rehearsal; found by itself if not given.",
)
@click.option("--verbose", is_flag=True, help="Show every command that is run.")
@click.pass_context
def cli(context: click.Context, profile: str | None, verbose: bool) -> None:
    """Chat over the team's documents by day, training by night."""
    logging.basicConfig(
        level=logging.DEBUG if verbose else logging.WARNING, format="%(name)s: %(message)s"
    )
    logging.getLogger("urllib3").setLevel(logging.WARNING)
    logging.getLogger("docker").setLevel(logging.WARNING)
    require_no_sudo(context.invoked_subcommand)
    context.obj = profile


def require_no_sudo(verb: str | None) -> None:
    """By sudo, files of root would be left in the state folder, which its owner's timers could not
    change."""
    person = os.environ.get("SUDO_USER", "root")
    if os.geteuid() == 0 and person != "root" and verb != "schedule":
        do = (
            "the same command without sudo. In a root shell that is meant: env -u SUDO_USER make"
            f" {verb}"
        )
        raise PreconditionFailed(
            f"sudo would leave files of root here, which {person} could not change",
            f"{verb} by sudo",
            do,
        )


def verb(function: Callable[..., Any], parent: click.Group = cli, name: str = "") -> Any:
    """A command with --json: its function returns a JSON value and how people are shown it."""

    def command(context: click.Context, as_json: bool, **arguments: Any) -> None:
        result, show = function(context.obj, **arguments)
        if as_json:
            print(json.dumps(result, ensure_ascii=False))
        else:
            show(result)
        if isinstance(result, dict) and result.get("overdue"):
            sys.exit(Exit.OVERDUE)
        if isinstance(result, dict) and result.get("incomplete"):
            sys.exit(Exit.FAILED)

    wrapped: Any = update_wrapper(command, function)
    name = name or function.__name__.removesuffix("_verb")
    json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON only.")
    return parent.command(name=name, help=function.__doc__)(
        json_option(click.pass_context(wrapped))
    )


def lines(result: dict[str, Any]) -> None:
    for key, value in result.items():
        print(f"{key:14}{'-' if value is None else value}")
