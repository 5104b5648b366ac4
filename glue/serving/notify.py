"""Tells somebody who is not there: a ping URL, a webhook, an e-mail, each if the site names one.

A message that cannot be delivered is told, also by make status, and costs nothing else. What goes
on every five minutes is
told once in six hours.
"""

from __future__ import annotations

import json
import smtplib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from glue.clients import deliver
from glue.clients.site import Site
from glue.core import desired_state, files, journal
from glue.core.desired_state import Wanted
from glue.core.errors import DayNotServing, GateRefused, GlueError, Locked
from glue.core.services import SERVES, Mode, not_serving
from glue.machine import hours

LONGEST_REASON = 300  # characters
AGAIN_SECONDS = 6 * 3600
NOT_SERVING = "day not serving"
WATCH = "reconcile"


@contextmanager
def watching(site: Site, verb: str) -> Iterator[dict[str, Any]]:
    """Tells how the verb ended: what went wrong, and of a night also what went well. The caller
    puts its result into the dict."""
    result: dict[str, Any] = {}
    began = int(time.time())
    try:
        yield result
    except Locked as busy:
        if verb == "day":
            closed(site, str(busy))
        raise
    except GateRefused as refused:
        tell(site, "night refused", morning_words(site, began, refused.saw), good=True)
        raise
    except DayNotServing as error:
        once(site, NOT_SERVING, str(error))
        raise
    except BaseException as error:
        words = str(error) if isinstance(error, GlueError) else f"{type(error).__name__}: {error}"
        if verb == WATCH:  # it looks every few minutes
            once(site, f"{verb} failed", words)
        else:
            tell(site, f"{verb} failed", words, good=False)
        raise
    if verb == "night":
        tell(
            site,
            f"night {result.get('outcome')}",
            morning_words(site, began, result.get("reason", "")),
            good=True,
        )
    elif result.get("mode") == Mode.DOWN:
        tell(site, "day stays stopped", "a person stopped everything: make day", good=True)
    elif verb == "day" or result.get("why") == SERVES:
        over(site)


def morning_words(site: Site, began: int, otherwise: str) -> str:
    """summary.txt of the night that ended since began, a Unix time; otherwise where that or its end
    could not be written."""
    with suppress(OSError, ValueError, KeyError):
        last = journal.last_night(site.state) or {}
        if datetime.fromisoformat(last["time"]).timestamp() >= began:
            return (site.state / "nights" / str(last["night"]) / "summary.txt").read_text(
                encoding="utf-8"
            )
    return otherwise


def once(site: Site, what: str, words: str) -> None:
    """Not again within AGAIN_SECONDS, unless it was over or something else meanwhile, or reached
    nobody.

    A full disk makes it tell again, and nothing worse.
    """
    path = site.state / "alarm.json"
    with suppress(OSError, ValueError, KeyError, TypeError):
        last = json.loads(path.read_text(encoding="utf-8"))
        if last["what"] == what and 0 <= time.time() - last["time"] < AGAIN_SECONDS:
            return
    if tell(site, what, words, good=False):
        with suppress(OSError):
            files.write_json(path, {"what": what, "time": time.time()})


def closed(site: Site, why: str) -> None:
    """Somebody is at it, and nobody may mend the day: told once where it is wanted, and does not
    serve in office hours."""
    wanted = desired_state.read(site.state)
    if (
        wanted is None
        or wanted.wanted is Wanted.DOWN
        or (wanted.night and time.time() < wanted.until_time)
    ):
        return
    with suppress(
        GlueError, OSError
    ):  # what cannot be seen is no reason to lose the error that is told of
        late = not_serving(site.stacks.services("day"))
        if late and hours.of(site.settings).is_open(datetime.now()):
            once(
                site,
                NOT_SERVING,
                f"{', '.join(f'{name} {state}' for name, state in late.items())}; {why}",
            )


def over(site: Site) -> None:
    path, watch = site.state / "alarm.json", f"{WATCH} failed"
    with suppress(OSError):  # as a rule there was no alarm
        was = path.read_text(encoding="utf-8", errors="replace")
        path.unlink()
        tell(
            site,
            "the watch works again" if watch in was else "day serves again",
            site.settings.chat_url,
            good=True,
        )


def tell(site: Site, what: str, words: str, good: bool) -> bool:
    """By every way that the site names; whether one of them took it, or there is none. Nothing here
    raises."""
    settings = site.settings.values
    subject, words, ca = (
        f"{settings['TEAM_NAME']}: {what}",
        site.settings.hide(words),
        settings.get("EXTRA_CA"),
    )
    text = f"{subject}\n{words}"
    ways: dict[str, Callable[[], None]] = {
        # as the usual monitors of timed jobs have it: the URL itself for good, with /fail for bad
        "NOTIFY_PING_URL": lambda: deliver.post(
            failed_or(settings["NOTIFY_PING_URL"], good), ca, data=words.encode()
        ),
        # "text" is what most chats' webhooks show; the rest is for programs
        "NOTIFY_WEBHOOK": lambda: deliver.post(
            settings["NOTIFY_WEBHOOK"], ca, json={"text": text, "event": what}
        ),
        "NOTIFY_EMAIL": lambda: deliver.mail(settings, subject, words),
    }
    taken = [delivered(site, key, way) for key, way in ways.items() if settings.get(key)]
    return any(taken) or not taken


def failed_or(url: str, good: bool) -> str:
    """url, or with /fail behind its path where something failed."""
    parts = urlsplit(url)
    return url if good else parts._replace(path=f"{parts.path.rstrip('/')}/fail").geturl()


def delivered(site: Site, key: str, way: Callable[[], None]) -> bool:
    """Whether it was taken. The journal keeps it for make status: under a timer nobody reads what
    is printed."""
    reason = ""
    try:
        deliver.within(deliver.TOTAL_SECONDS, way)
    except GlueError as error:
        reason = error.what
    except (OSError, smtplib.SMTPException, ValueError, KeyError) as error:
        reason = f"{type(error).__name__}: {site.settings.hide(str(error))[:LONGEST_REASON]}"
    if reason:
        site.tell(f"{key} was not reached: {reason}")
    journal.note(
        site.state, event="message", way=key, result="failed" if reason else "done", reason=reason
    )
    return not reason
