"""One message to one address outside, by HTTP or by mail, within a time limit. Each way raises
unless the message was taken."""

from __future__ import annotations

import queue
import smtplib
import ssl
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from email.message import EmailMessage
from typing import Any
from urllib.parse import urljoin, urlsplit

import requests
from requests.adapters import HTTPAdapter

from glue.core.errors import PreconditionFailed

READ_SECONDS = 20
TOTAL_SECONDS = 30  # of one message
REDIRECTS = 3
SMTPS_PORT = 465
PLAIN_FIRST = (25, 587)  # where TLS, if any, begins by STARTTLS


class Undelivered(OSError):
    """The other side answered, and has not taken the message."""


def within(seconds: float, act: Callable[[], None]) -> None:
    """Raises what act raises, or TimeoutError. requests and smtplib limit each read: a server that
    sends slowly has no end.

    act goes on in a thread that ends with the program: nothing can stop a read, or a name that is
    being looked up.
    """
    ended: queue.Queue[Exception | None] = queue.Queue()

    def run() -> None:
        try:
            act()
            ended.put(None)
        except Exception as error:
            ended.put(error)

    threading.Thread(target=run, daemon=True).start()
    try:
        error = ended.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError(f"no end after {seconds:.0f} s") from None
    if error is not None:
        raise error


def trusted(extra_ca: str | None) -> ssl.SSLContext:
    """This machine's authorities, and the office's own. A file that cannot be read costs only what
    it would vouch for."""
    context = ssl.create_default_context()
    with suppress(OSError):
        if extra_ca:
            context.load_verify_locations(extra_ca)
    return context


class OfficeAdapter(HTTPAdapter):
    """requests with the office's authorities beside its own, for servers and proxies."""

    def __init__(self, extra_ca: str | None) -> None:
        self.context = trusted(extra_ca)
        super().__init__()

    def build_connection_pool_key_attributes(self, *arguments: Any, **named: Any) -> Any:
        host, pool = super().build_connection_pool_key_attributes(*arguments, **named)
        return host, pool | {"ssl_context": self.context}


def post(url: str, extra_ca: str | None, **body: Any) -> None:
    """Raises Undelivered, or another OSError. The answer's body is not read: only its status
    counts."""
    with requests.Session() as session:
        session.mount("https://", OfficeAdapter(extra_ca))
        for _ in range(REDIRECTS):
            with session.post(
                url, timeout=READ_SECONDS, allow_redirects=False, stream=True, **body
            ) as answer:
                if answer.ok and answer.status_code < 300:
                    return
                url = redirected(url, answer)
    raise Undelivered(f"more than {REDIRECTS} redirects")


def redirected(url: str, answer: requests.Response) -> str:
    """Where to POST again: by 307 and 308 (RFC 9110, 15.4.8), on the same host, never from https to
    http. Else Undelivered."""
    status, target = answer.status_code, urljoin(url, answer.headers.get("Location", ""))
    if not 300 <= status < 400:
        raise Undelivered(f"HTTP {status}")
    old, new = urlsplit(url), urlsplit(target)
    if (
        status in (307, 308)
        and new.hostname == old.hostname
        and new.scheme in ("https", old.scheme)
    ):
        return target
    raise Undelivered(
        f"HTTP {status}, a redirect to {new.scheme}://{new.hostname}: set the address that it"
        " leads to"
    )


def mail(values: Mapping[str, str], subject: str, words: str) -> None:
    message, user = EmailMessage(), values.get("SMTP_USER", "")
    message["Subject"], message["To"] = subject, values["NOTIFY_EMAIL"]
    message["From"] = user if "@" in user else values["NOTIFY_EMAIL"]
    message.set_content(words or subject)
    context = trusted(values.get("EXTRA_CA"))
    host, _, port = values["SMTP_SERVER"].partition(":")
    with connected(host, int(port or 25), context) as server:
        encrypt(server, context)
        if password := values.get("SMTP_PASSWORD"):
            if not isinstance(server.sock, ssl.SSLSocket):
                what, do = (
                    "the mail server offers no TLS, so it gets no password",
                    "set another SMTP_SERVER, or no SMTP_PASSWORD",
                )
                raise PreconditionFailed(what, values["SMTP_SERVER"], do)
            server.login(user, password)
        server.send_message(message)


def connected(host: str, port: int, context: ssl.SSLContext) -> smtplib.SMTP:
    """TLS from the first byte on port 465 (RFC 8314), and wherever a server on an unusual port
    speaks it."""
    if port not in PLAIN_FIRST:
        try:
            return smtplib.SMTP_SSL(host, port, timeout=READ_SECONDS, context=context)
        except ssl.SSLError as error:
            if port == SMTPS_PORT or isinstance(error, ssl.SSLCertVerificationError):
                raise
    return smtplib.SMTP(host, port, timeout=READ_SECONDS)


def encrypt(server: smtplib.SMTP, context: ssl.SSLContext) -> None:
    """By STARTTLS where the server offers it; its certificate must be good."""
    server.ehlo()  # what a server offers is not known before
    if not isinstance(server.sock, ssl.SSLSocket) and server.has_extn("starttls"):
        server.starttls(context=context)
