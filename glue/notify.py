"""Tells somebody who is not there: a ping URL, a webhook, an e-mail, each if the site names one.

A message that cannot be delivered is told and costs nothing else. What goes on every five minutes is told once in six hours.
"""

from __future__ import annotations

import json
import smtplib
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from email.message import EmailMessage
from typing import Any

import requests

from glue import files, hours, journal, turn
from glue.plan import SERVES, Wanted, not_serving
from glue.settings import HIDDEN
from glue.site import Site
from glue.types import DayNotServing, GateRefused, GlueError, Locked, Mode, PreconditionFailed

TIMEOUT_SECONDS = 20
AGAIN_SECONDS = 6 * 3600
NOT_SERVING = "day not serving"
WATCH = "reconcile"


@contextmanager
def watching(site: Site, verb: str) -> Iterator[dict[str, Any]]:
    """Tells how the verb ended: what went wrong, and of a night also what went well. The caller puts its result into the dict."""
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
        tell(site, f"night {result.get('outcome')}", morning_words(site, began, result.get("reason", "")), good=True)
    elif result.get("mode") == Mode.DOWN:
        tell(site, "day stays stopped", "a person stopped everything: make day", good=True)
    elif verb == "day" or result.get("why") == SERVES:
        over(site)


def morning_words(site: Site, began: int, otherwise: str) -> str:
    """summary.txt of the night that ended since began, a Unix time; otherwise where that or its end could not be written."""
    with suppress(OSError, ValueError, KeyError):
        last = journal.last_night(site.state) or {}
        if datetime.fromisoformat(last["time"]).timestamp() >= began:
            return (site.state / "nights" / str(last["night"]) / "summary.txt").read_text(encoding="utf-8")
    return otherwise


def once(site: Site, what: str, words: str) -> None:
    """Not again within AGAIN_SECONDS, unless it was over or something else meanwhile, or reached nobody.

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
    """Somebody is at it, and nobody may mend the day: told once where it is wanted, and does not serve in office hours."""
    wanted = turn.read(site.state)
    if wanted is None or wanted.wanted is Wanted.DOWN or (wanted.night and time.time() < wanted.until_time):
        return
    with suppress(GlueError, OSError):  # what cannot be seen is no reason to lose the error that is told of
        late = not_serving(site.stacks.services("day"))
        if late and hours.of(site.settings).is_open(datetime.now()):
            once(site, NOT_SERVING, f"{', '.join(f'{name} {state}' for name, state in late.items())}; {why}")


def over(site: Site) -> None:
    path, watch = site.state / "alarm.json", f"{WATCH} failed"
    with suppress(OSError):  # as a rule there was no alarm
        was = path.read_text(encoding="utf-8", errors="replace")
        path.unlink()
        tell(site, "the watch works again" if watch in was else "day serves again", site.settings.chat_url, good=True)


def tell(site: Site, what: str, words: str, good: bool) -> bool:
    """By every way that the site names; whether one of them took it, or there is none. Nothing here raises."""
    settings = site.settings.values
    subject, words = f"{settings['TEAM_NAME']}: {what}", masked(settings, words)
    ways: dict[str, Callable[[], None]] = {
        "NOTIFY_PING_URL": lambda: ping(settings["NOTIFY_PING_URL"], good, words),
        "NOTIFY_WEBHOOK": lambda: post(settings["NOTIFY_WEBHOOK"], what, f"{subject}\n{words}"),
        "NOTIFY_EMAIL": lambda: mail(settings, subject, words),
    }
    taken = [reached(site, key, way) for key, way in ways.items() if settings.get(key)]
    return any(taken) or not taken


def reached(site: Site, key: str, way: Callable[[], None]) -> bool:
    try:
        way()
        return True
    except GlueError as error:
        site.tell(f"{key}: {error.what}")
    except (OSError, smtplib.SMTPException, ValueError, KeyError) as error:
        site.tell(f"{key} was not reached: {type(error).__name__}")  # its words would name the address
    return False


def masked(settings: dict[str, str], text: str) -> str:
    """Every secret, also as JSON writes it, which is otherwise where it holds quotes or umlauts."""
    for secret in (settings[key] for key in HIDDEN if settings.get(key)):
        for form in (secret, json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1]):
            text = text.replace(form, "(hidden)")
    return text


def ping(url: str, good: bool, words: str) -> None:
    """As the usual monitors of timed jobs have it: the URL itself for good, with /fail for bad."""
    requests.post(url if good else f"{url.rstrip('/')}/fail", data=words.encode(), timeout=TIMEOUT_SECONDS).raise_for_status()


def post(url: str, what: str, text: str) -> None:
    """ "text" is what most chats' webhooks show; the rest is for programs."""
    requests.post(url, json={"text": text, "event": what}, timeout=TIMEOUT_SECONDS).raise_for_status()


def mail(settings: dict[str, str], subject: str, words: str) -> None:
    message = EmailMessage()
    message["Subject"], message["To"] = subject, settings["NOTIFY_EMAIL"]
    message["From"] = settings.get("SMTP_USER") or settings["NOTIFY_EMAIL"]
    message.set_content(words or subject)
    host, _, port = settings["SMTP_SERVER"].partition(":")
    with smtplib.SMTP(host, int(port or 25), timeout=TIMEOUT_SECONDS) as server:
        encrypted = encrypt(server, settings.get("EXTRA_CA"))
        if settings.get("SMTP_PASSWORD"):
            if not encrypted:
                do = "name another SMTP_SERVER, or take SMTP_PASSWORD away"
                raise PreconditionFailed(
                    "the mail server offers no TLS, and gets no password without", settings["SMTP_SERVER"], do
                )
            server.login(settings["SMTP_USER"], settings["SMTP_PASSWORD"])
        server.send_message(message)


def encrypt(server: smtplib.SMTP, extra_ca: str | None) -> bool:
    """By STARTTLS, if the server offers it; its certificate must be good, by the office's own authority too."""
    server.ehlo()  # before it nobody knows what a server offers
    if not server.has_extn("starttls"):
        return False
    context = ssl.create_default_context()
    if extra_ca:
        context.load_verify_locations(extra_ca)
    server.starttls(context=context)
    server.ehlo()
    return True
