"""Notifies people by a ping URL, a webhook or an e-mail, where the site sets one.

make status shows a message that could not be delivered. A repeated alarm is sent every six hours.
"""

from __future__ import annotations

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
from glue.core.errors import DayNotServing, GlueError, Locked
from glue.core.services import SERVES, Mode, not_serving
from glue.machine import hours
from glue.serving import last_night, pages, watch
from glue.serving.last_night import NightRefused, Report

LONGEST_REASON = 300  # characters
AGAIN_SECONDS = 6 * 3600
NOT_SERVING = "day not serving"
WATCH = "reconcile"
ALARM = "alarm.json"


@contextmanager
def watching(site: Site, verb: str) -> Iterator[dict[str, Any]]:
    """Reports how the verb ended. The caller adds its result to the dictionary."""
    result: dict[str, Any] = {}
    try:
        yield result
    except Locked as busy:
        if verb == "day":
            tell_if_blocked(site, str(busy))
        raise
    except NightRefused as refused:
        tell_night(site, refused.report)
        raise
    except DayNotServing as error:
        tell_once(site, NOT_SERVING, str(error))
        raise
    except BaseException as error:
        words = str(error) if isinstance(error, GlueError) else f"{type(error).__name__}: {error}"
        if verb == WATCH:  # it runs every few minutes
            tell_once(site, f"{verb} failed", words)
        else:
            tell(site, f"{verb} failed", words, good=False)
        raise
    if verb == "night":
        tell_night(site, last_night.read(site.state, result))
    elif result.get("mode") == Mode.DOWN:
        tell(site, "day stays stopped", watch.STAYS_DOWN, good=True)
    elif verb == "day" or result.get("why") == SERVES:
        tell_recovered(site)


def tell_night(site: Site, report: Report) -> None:
    words = last_night.summary(report, pages.links(site))
    tell(site, f"night {report.outcome}", words, good=True)


def tell_once(site: Site, what: str, words: str) -> None:
    """Again after AGAIN_SECONDS, another alarm, or a failed delivery; always on a full disk."""
    path = site.state / ALARM
    with suppress(OSError, KeyError, TypeError):
        last = files.read_json_if_whole(path, {})
        if last["what"] == what and 0 <= time.time() - last["time"] < AGAIN_SECONDS:
            return
    if tell(site, what, words, good=False):
        with suppress(OSError):
            files.write_json(path, {"what": what, "time": time.time()})


def tell_if_blocked(site: Site, why: str) -> None:
    """For a command that keeps the day from starting: if the day is wanted in office hours."""
    desired = desired_state.read(site.state)
    if desired is None or desired.wanted is Wanted.DOWN or time.time() < desired.until_time:
        return
    with suppress(GlueError, OSError):  # the caller's own error must not be lost
        late = not_serving(site.stacks.services("day"))
        if late and hours.of(site.settings).is_open(datetime.now()):
            words = ", ".join(f"{name} {state}" for name, state in late.items())
            tell_once(site, NOT_SERVING, f"{words}; {why}")


def tell_recovered(site: Site) -> None:
    path = site.state / ALARM
    with suppress(OSError):  # as a rule there was no alarm
        was = path.read_text(encoding="utf-8", errors="replace")
        path.unlink()
        of_watch = f"{WATCH} failed" in was
        what = "the watch works again" if of_watch else "day serves again"
        tell(site, what, site.settings.people_url, good=True)


def tell(site: Site, what: str, words: str, good: bool) -> bool:
    """By every way that the site sets. Whether one took it, or none is set. Never raises."""
    settings = site.settings.values
    subject, words = f"{settings['TEAM_NAME']}: {what}", site.settings.hide(words)
    ca, text = settings.get("EXTRA_CA"), f"{subject}\n{words}"
    ways: dict[str, Callable[[], None]] = {
        # as monitors of scheduled jobs expect it: the URL itself if good, with /fail if not
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
    parts = urlsplit(url)
    return url if good else parts._replace(path=f"{parts.path.rstrip('/')}/fail").geturl()


def delivered(site: Site, key: str, way: Callable[[], None]) -> bool:
    """Whether it was delivered. The journal keeps the result for make status."""
    reason = ""
    try:
        deliver.within(deliver.TOTAL_SECONDS, way)
    except GlueError as error:
        reason = error.what
    except (OSError, smtplib.SMTPException, ValueError, KeyError) as error:
        reason = f"{type(error).__name__}: {site.settings.hide(str(error))[:LONGEST_REASON]}"
    if reason:
        site.tell(f"{key} was not reached: {reason}")
    result = "failed" if reason else "done"
    journal.note(site.state, event="message", way=key, result=result, reason=reason)
    return not reason
