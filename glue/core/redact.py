"""Removes secrets, logins in URLs, tokens of webhooks, and people from text. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from urllib.parse import quote, unquote

HIDDEN, PERSON = "(hidden)", "(person)"
LONG = 6  # characters; a shorter piece of a URL also occurs in ordinary words
# user:password@ of any URL, up to its last @, also as JSON (\/) or a query (%3A%2F%2F) writes it
LOGIN = re.compile(r"""(?i)((?::|%3A)(?:\\?/|%2F){2})[^\s"'<>]*(@|%40)""")
HOOK = re.compile(r"""(?i)(https?://(?=[^\s"'<>]*hook)[^\s"'<>/]+)/[^\s"'<>]+""")
TOKEN = re.compile(
    r"""(?i)(b(?:earer|asic)\s+|(?:token|key|password|secret|signature|[?&]sig)["']?\s*[=:]\s*["']?|eyJ)[\w.+/=%\-]{16,}"""
)
# with the name before it, as in Uma Example <uma@example.org>
EMAIL = re.compile(
    r"""(?:"?(?:[^\W\d_a-z][\w.'-]*"?[ ]){1,3}<)?[\w.+\-']+@[\w\-]+(?:\.[\w\-]+)*>?"""
)
HOME_FOLDER = re.compile(r"""((?:/home|/Users)/)[^/\s"':]+""")


def urls(text: str) -> str:
    """text without logins in URLs, and without paths of URLs that look like webhooks."""
    return HOOK.sub(rf"\1/{HIDDEN}", LOGIN.sub(rf"\1{HIDDEN}\2", text))


def secrets(values: Mapping[str, str], hidden: Iterable[str]) -> set[str]:
    """The values of the keys in hidden, their pieces, and logins in any value that is a URL."""
    whole = {values[key] for key in hidden if values.get(key)}
    pieces = {piece for value in whole for piece in path_pieces(value)}
    logins = {piece for value in values.values() for piece in login_pieces(value)}
    return whole | {piece for piece in pieces | logins if len(piece) >= LONG}


def login_pieces(url: str) -> Iterator[str]:
    """user:password and password, as written and percent-decoded."""
    login, at, _ = url.partition("://")[2].rpartition("@")
    for piece in (login, login.partition(":")[2]) if at else ():
        yield from (piece, unquote(piece))


def path_pieces(url: str) -> Iterator[str]:
    """Path, query and their parts: errors of programs quote them without the host."""
    path = url.partition("://")[2].partition("/")[2]
    yield from (path, *re.split(r"[/?&=]", path))


def hidden(text: str, secrets: Iterable[str]) -> str:
    """text without secrets, also as JSON and URLs write them, and without logins in URLs."""
    for secret in sorted(secrets, key=len, reverse=True):
        for form in {
            secret,
            json.dumps(secret)[1:-1],
            json.dumps(secret, ensure_ascii=False)[1:-1],
            quote(secret),
        }:
            text = text.replace(form, HIDDEN)
    return urls(text)


def strangers(text: str, names: Iterable[str]) -> str:
    """text for readers outside the team: without people and without strings that look like keys."""
    text = HOME_FOLDER.sub(rf"\1{PERSON}", EMAIL.sub(PERSON, TOKEN.sub(rf"\1{HIDDEN}", text)))
    forms = {form for name in names for form in (name, json.dumps(name)[1:-1])}
    for name in sorted(forms, key=len, reverse=True):
        text = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", PERSON, text)
    return text
