"""One message to one address outside, by HTTP or mail, with a time limit; an error if refused."""

from __future__ import annotations

import smtplib
import ssl
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, wait
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
    """The server answered, and did not accept the message."""


def within(seconds: float, act: Callable[[], None]) -> None:
    """Raises what act raises, or TimeoutError: requests and smtplib limit each read, not the whole.
    act then goes on in its thread: nothing can stop a read or a name lookup."""
    ended: Future[None] = Future()

    def run() -> None:
        try:
            act()
            ended.set_result(None)
        except Exception as error:
            ended.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    if not wait([ended], seconds).done:
        raise TimeoutError(f"no end after {seconds:.0f} s")
    ended.result()


def trusted(extra_ca: str | None) -> ssl.SSLContext:
    """The system's certificate authorities and EXTRA_CA, which is ignored if unreadable."""
    context = ssl.create_default_context()
    with suppress(OSError):
        if extra_ca:
            context.load_verify_locations(extra_ca)
    return context


class OfficeAdapter(HTTPAdapter):
    """requests that also trusts EXTRA_CA, for servers and proxies."""

    def __init__(self, extra_ca: str | None) -> None:
        self.context = trusted(extra_ca)
        super().__init__()

    def build_connection_pool_key_attributes(self, *arguments: Any, **named: Any) -> Any:
        host, pool = super().build_connection_pool_key_attributes(*arguments, **named)
        return host, pool | {"ssl_context": self.context}


def post(url: str, extra_ca: str | None, **body: Any) -> None:
    """Raises Undelivered, or another OSError. Only the answer's status counts."""
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
    """Where to POST again: for 307 and 308 (RFC 9110, 15.4.8) on the same host, not from https to
    http. Else raises Undelivered."""
    status, target = answer.status_code, urljoin(url, answer.headers.get("Location", ""))
    if not 300 <= status < 400:
        raise Undelivered(f"HTTP {status}")
    old, new = urlsplit(url), urlsplit(target)
    same = new.hostname == old.hostname and new.scheme in ("https", old.scheme)
    if same and status in (307, 308):
        return target
    where = f"{new.scheme}://{new.hostname}"
    raise Undelivered(f"HTTP {status}, a redirect to {where}: set that address instead")


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
                what = "the mail server offers no TLS, so no password was sent"
                do = "set another SMTP_SERVER, or no SMTP_PASSWORD"
                raise PreconditionFailed(what, values["SMTP_SERVER"], do)
            server.login(user, password)
        server.send_message(message)


def connected(host: str, port: int, context: ssl.SSLContext) -> smtplib.SMTP:
    """TLS from the first byte on port 465 (RFC 8314), and on other unusual ports if offered."""
    if port not in PLAIN_FIRST:
        try:
            return smtplib.SMTP_SSL(host, port, timeout=READ_SECONDS, context=context)
        except ssl.SSLError as error:
            if port == SMTPS_PORT or isinstance(error, ssl.SSLCertVerificationError):
                raise
    return smtplib.SMTP(host, port, timeout=READ_SECONDS)


def encrypt(server: smtplib.SMTP, context: ssl.SSLContext) -> None:
    """STARTTLS where the server offers it; its certificate must be valid."""
    server.ehlo()  # only then it is known what the server offers
    if not isinstance(server.sock, ssl.SSLSocket) and server.has_extn("starttls"):
        server.starttls(context=context)
