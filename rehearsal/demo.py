"""What both demonstrations share, from nothing to demo.json in the state folder. The profile demo
plays rehearsal.talk, the profile rehearsal plays rehearsal.codes.

The team is simulated: its questions, corrections and ratings go through Open WebUI's own API, as
its pages send them. Everything behind them is real.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

from glue.clients.site import Site, Tell
from glue.core import files, journal
from glue.core.errors import GlueError, PreconditionFailed
from glue.core.settings import Settings
from glue.operations import setup
from glue.serving import day
from rehearsal import codes, talk
from rehearsal.phases import Phases

Result = dict[str, Any]
LONG = ("examples", "seconds")  # not in an error's message


def run(profile: str | None, tell: Tell) -> tuple[Result, Callable[[Result], None]]:
    """Returns the result, which it writes to demo.json, and what shows it. Raises GlueError
    if a promise is broken; the machine then stays as it is, for a look."""
    phases = Phases(tell)
    with phases.phase("setup"):
        site = setup.ensure(profile, tell)
    played = play_of(site.settings)
    with phases.phase("day"):
        day.start(site)
    result = played.play(site, phases) | {"seconds": phases.seconds}
    keep(site, result, played.COUNTS)
    require_kept(result, played.promises(result))
    return result, played.show


def play_of(settings: Settings) -> ModuleType:
    if not settings.rehearsal:
        raise PreconditionFailed(
            "the demonstration is for a rehearsal",
            f"profile {settings.profile}",
            "GLUE_PROFILE=demo make demo",
        )
    return talk if settings.profile == "demo" else codes


def keep(site: Site, result: Result, counts: tuple[str, ...]) -> None:
    files.write_json(site.state / "demo.json", result)
    journal.record(site.state, event="demo", **{key: result[key] for key in counts})


def require_kept(result: Result, promises: dict[str, bool]) -> None:
    """promises: in words -> whether it was kept."""
    if broken := [words for words, kept in promises.items() if not kept]:
        figures = {key: value for key, value in result.items() if key not in LONG}
        raise GlueError(
            "the demonstration broke a promise",
            f"not true: {'; '.join(broken)}; {figures}",
            "see demo.json in the state folder",
        )
