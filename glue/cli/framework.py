"""What every program of this repository has: --profile, --json, and printed progress."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from datetime import datetime
from inspect import signature
from pathlib import Path
from typing import Any, TypeVar, cast

import click
from rich.console import Console

from glue.clients.docker import Stacks
from glue.clients.site import Site, Tell
from glue.core import redact, settings
from glue.core.errors import Exit, GlueError, PreconditionFailed
from glue.serving import notify

Function = TypeVar("Function", bound=Callable[..., Any])
JSON = click.Option(["--json", "as_json"], is_flag=True, help="Print JSON only.")

people = Console(stderr=True, highlight=False, soft_wrap=True)  # a command is copied from one line


def teller() -> Tell:
    """Prints a line when it differs from the last one. A closed terminal, or a pipe without a
    reader (where rich raises SystemExit), ends nothing."""
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
    """For the verbs that the day depends on: they also notify if Docker fails."""
    try:
        return open_site(profile)
    except GlueError as error:
        chosen = settings.load(profile)
        unseen = Site(chosen, cast(Stacks, None), teller())  # telling asks no container
        notify.tell_once(unseen, notify.NOT_SERVING, str(error))
        raise


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--profile",
    type=click.Choice(settings.PROFILES),
    help="spark or rehearsal. Default: detected.",
)
@click.option("--verbose", is_flag=True, help="Show every command that is run.")
@click.pass_context
def cli(context: click.Context, profile: str | None, verbose: bool) -> None:
    """Chat over the team's documents by day, training by night."""
    level = logging.DEBUG if verbose else logging.WARNING
    logging.basicConfig(level=level, format="%(name)s: %(message)s")
    for library in ("urllib3", "docker"):
        logging.getLogger(library).setLevel(logging.WARNING)
    require_no_sudo(context.invoked_subcommand)
    context.obj = profile


def require_no_sudo(verb: str | None) -> None:
    """With sudo the state folder gets root-owned files, which the timers cannot change."""
    person = os.environ.get("SUDO_USER", "root")
    if os.geteuid() == 0 and person != "root" and verb != "schedule":
        raise PreconditionFailed(
            f"do not use sudo for make {verb}: it creates root-owned files that {person} cannot"
            " change",
            "running through sudo",
            f"run it without sudo. To run it as root on purpose: env -u SUDO_USER make {verb}",
        )


def lines(result: dict[str, Any]) -> None:
    for key, value in result.items():
        print(f"{key:13} {'-' if value is None else value}")


def overdue(result: Any) -> int:
    return Exit.OVERDUE if isinstance(result, dict) and result.get("overdue") else 0


def verb(
    function: Function,
    words: str = "",
    options: Iterable[click.Parameter] = (),
    group: click.Group = cli,
    show: Callable[[Any], object] = lines,
    exit_code: Callable[[Any], int] = overdue,
    opened: Callable[[str | None], Any] | None = None,
    typed: str = "",
) -> Function:
    """Makes function, which takes a site and returns a JSON value, a command with --json.

    Name, arguments and, without words, help are its own. options: it takes those that it names, or
    all by **options. show prints the value for people. opened: turns --profile into the first
    argument. typed: an example, as make does it, with the variable that gives the argument.
    """

    def call(as_json: bool, **given: Any) -> None:
        result = function((opened or open_site)(click.get_current_context().obj), **given)
        if as_json:
            print(json.dumps(result, ensure_ascii=False))
        else:
            show(result)
        if code := exit_code(result):
            sys.exit(code)

    name = function.__name__.removesuffix("_verb")
    known: dict[str | None, click.Parameter] = {option.name: option for option in options}
    params = [*parameters(function, known, typed), JSON]
    help_text = words or function.__doc__
    group.add_command(click.Command(name, params=params, callback=call, help=help_text))
    return function


def parameters(
    function: Callable[..., Any],
    options: dict[str | None, click.Parameter],
    typed: str = "",
) -> Iterator[click.Parameter]:
    """The command-line parameters of function: an argument unless it has an option."""
    for parameter in list(signature(function).parameters.values())[1:]:
        if parameter.kind is parameter.VAR_KEYWORD:
            yield from options.values()
        elif parameter.name in options:
            yield options[parameter.name]
        elif parameter.default is parameter.empty:
            kind = click.Path(path_type=Path, resolve_path=True)
            path = parameter.annotation in ("Path", Path)
            yield Typed([parameter.name], typed, type=kind if path else None)


class Typed(click.Argument):
    """An argument that a variable of make gives, if there is an example of it."""

    def __init__(self, names: list[str], example: str, **facts: Any) -> None:
        self.example = example
        self.variable = example.partition("=")[0].rpartition(" ")[2]
        super().__init__(names, envvar=f"ARG_{self.variable}" if example else None, **facts)

    def process_value(self, context: click.Context, value: Any) -> Any:
        try:
            return super().process_value(context, value)
        except click.MissingParameter:
            if not self.example:
                raise
            words = f"Missing {self.variable}. Example: {self.example}"
            raise click.ClickException(words) from None


def option(*names: str, **facts: Any) -> click.Option:
    return click.Option(names, **{"show_default": True, **facts})


def flag(*names: str, words: str) -> click.Option:
    return click.Option(names, is_flag=True, help=words)


def group(name: str, words: str) -> click.Group:
    made = click.Group(name, help=words)
    cli.add_command(made)
    return made
