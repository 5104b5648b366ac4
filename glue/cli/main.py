"""Signals, exit codes, and how an error is printed."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import traceback
from pathlib import Path

import click

from glue.cli import framework
from glue.cli.verbs import cli
from glue.clients import host
from glue.core.errors import Exit, GlueError


def stopped(number: int, _: object) -> None:
    raise KeyboardInterrupt(f"signal {number}")


def main(program: click.Command = cli) -> None:
    """Runs a program, and exits with the code of its error if there is one."""
    # SIGTERM, or a terminal that closes, ends a night as Ctrl-C does: the day starts again
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stopped)
    try:
        run(program)
    except GlueError as error:
        framework.people.print(str(error), markup=False, soft_wrap=True)
        if "--json" in sys.argv:
            facts = {"error": error.what, "saw": error.saw, "do": error.do}
            print(json.dumps(facts | {"exit_code": int(error.exit_code)}))
        sys.exit(error.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(Exit.MISCONFIGURED)
    except (KeyboardInterrupt, click.Abort):
        framework.people.print("interrupted")
        sys.exit(Exit.INTERRUPTED)


def run(program: click.Command) -> None:
    """Turns every exception into a GlueError. --verbose shows where it was raised."""
    try:
        program(standalone_mode=False)
    except (GlueError, click.ClickException, click.Abort):
        raise
    except PermissionError as error:
        raise host.denied(Path(os.fsdecode(error.filename or ""))) from error
    except (OSError, subprocess.SubprocessError) as error:
        raise GlueError(type(error).__name__, str(error), "make doctor") from error
    except Exception as error:
        logging.getLogger(__name__).debug("where it was raised", exc_info=True)
        last = traceback.extract_tb(error.__traceback__)[-1]
        saw = f"{type(error).__name__}: {error} ({Path(last.filename).name}, line {last.lineno})"
        what = "a bug in glue, or a damaged file"
        raise GlueError(what, saw, "make doctor, then make support") from error
