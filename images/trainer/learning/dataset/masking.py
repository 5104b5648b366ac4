"""Secrets and personal data are masked before anything is written. Pure.

detect-secrets knows the tokens of many services, phonenumbers the numbers of every country,
python-stdnum the check digits of
cards and bank accounts. Names of people are not masked: that takes a language model, and a team
asks about its own people.
What was masked is listed by kind and place; the values are kept nowhere.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import phonenumbers
from detect_secrets.core.plugins.util import get_mapping_from_secret_type_to_class
from detect_secrets.plugins.basic_auth import BasicAuthDetector
from phonenumbers import Leniency, PhoneNumberMatcher
from stdnum import iban, luhn

EMAIL = re.compile(r"(?<![\w.+-])[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,4}(?![\w-])")
IBAN = re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,4})?\b")
CARD = re.compile(r"\b\d(?:[ -]?\d){12,18}\b")
PHONE = re.compile(r"\+?\(?\d[\d\s()./-]{5,}\d")
PRIVATE_KEY = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL
)
# detect-secrets wants quotes around a value; people write none in a chat. After "is" a digit tells
# a password from a word.
PASSWORD = r"\b(?:password|passwort|passphrase|kennwort|pwd?)\b"
SECRET = r"\b(?:(?:api|access|auth|secret)[ _-]?(?:access[ _-]?)?(?:key|token)|secret|token)\b"
SPOKEN = re.compile(
    rf"(?:{PASSWORD}|{SECRET})(?:\s+[^\s:=.!?]{{1,24}}){{0,5}}?\s*(?:[:=]|\b(?:is|ist|lautet)\b)\s*"
    r"[\"'`]?(?P<value>(?=\S{0,127}\d)[^\s\"'`]{6,128})",
    re.IGNORECASE,
)
WRITTEN = re.compile(rf"{PASSWORD}\s*[:=]\s*[\"'`]?(?P<value>[^\s\"'`]{{6,128}})", re.IGNORECASE)
# tokens that detect-secrets 1.5 does not know, or knows only the first part of
TOKENS = re.compile(
    r"\bgh[opusr]_\w{20,255}|\bgithub_pat_\w{20,255}|\bglpat-[\w-]{16,255}|\bhf_[A-Za-z0-9]{20,255}|\bAIza[\w-]{30,64}"
    r"|\bsk-[\w-]{20,255}|\bxox[abeoprs]-[\w-]{10,255}|\beyJ[\w-]{8,4096}\.[\w-]{8,8192}\.[\w-]{0,4096}"
    r"|(?<=\bBearer )[\w.~+/-]{16,4096}=*|(?<=\bbearer )[\w.~+/-]{16,4096}=*"
    r"|(?<=aws_secret_access_key)\s*[=:]\s*[\"']?[\w/+]{40}",
)
# Random-looking strings and addresses of machines are what a technical team talks about; they are
# no secrets by themselves.
NO_SECRETS = (
    "Base64 High Entropy String",
    "Hex High Entropy String",
    "Public IP (ipv4)",
    "Private Key",
)
PLUGINS: dict[str, Any] = get_mapping_from_secret_type_to_class()
DETECTORS = [
    plugin() for kind, plugin in PLUGINS.items() if kind not in (*NO_SECRETS, "Secret Keyword")
]
NAMED_SECRETS = PLUGINS["Secret Keyword"]()
NAMES = re.compile(
    r"key|pass|pwd|secret|contrase", re.IGNORECASE
)  # it is slow, and knows no other names
# No secret that is known stands in a line without one of these, and most lines have none.
HINT = re.compile(r"://|[\w+/.-]{16}|key|pass|pwd|secret|contrase|token", re.IGNORECASE)


@dataclass(frozen=True)
class Finding:
    """kind, and where in the text as it was: never what."""

    kind: str
    start: int
    end: int


@lru_cache(maxsize=100_000)  # turns of one conversation come again with each of its ratings
def mask(text: str, region: str) -> tuple[str, tuple[Finding, ...]]:
    """The text with "[e-mail]", "[phone]", "[card]", "[account]" and "[secret]" in the place of
    such things, and where they were.

    region: the country, as two letters, whose phone numbers are written without its prefix.
    """
    found = without_overlaps(sorted(findings(text, region), key=lambda one: (one.start, -one.end)))
    if not found:
        return text, ()
    parts, at = [], 0
    for one in found:
        parts += [text[at : one.start], f"[{one.kind}]"]
        at = one.end
    return "".join([*parts, text[at:]]), tuple(found)


def findings(text: str, region: str) -> Iterator[Finding]:
    for match in PRIVATE_KEY.finditer(text):
        yield Finding("secret", *match.span())
    for pattern in (SPOKEN, WRITTEN):
        for match in pattern.finditer(text):
            yield Finding("secret", *match.span("value"))
    for match in TOKENS.finditer(text):
        yield Finding("secret", *match.span())
    yield from service_secrets(text)
    for match in EMAIL.finditer(text):
        yield Finding("e-mail", *match.span())
    for match in IBAN.finditer(text):
        if iban.is_valid(match[0]):
            yield Finding("account", *match.span())
    for match in CARD.finditer(text):
        if luhn.is_valid(re.sub(r"\D", "", match[0])) and match[0][0] in "3456":
            yield Finding("card", *match.span())
    if PHONE.search(text):
        yield from phone_numbers(text, region)


def service_secrets(text: str) -> Iterator[Finding]:
    start = 0
    for line in text.split("\n"):
        if HINT.search(line) and len(line) < 20_000:
            for begin, end in [
                *known_tokens(line),
                *(named_values(line) if NAMES.search(line) else ()),
            ]:
                yield Finding("secret", start + begin, start + end)
        start += len(line) + 1


def known_tokens(line: str) -> Iterator[tuple[int, int]]:
    """Whole tokens: analyze_string would give a pattern's groups, and leave the rest of the token
    in clear.

    Of an address with a password in it only that.
    """
    for detector in DETECTORS:
        only = 1 if isinstance(detector, BasicAuthDetector) else 0
        for pattern in detector.denylist:
            yield from (match.span(only) for match in pattern.finditer(line))


def named_values(line: str) -> Iterator[tuple[int, int]]:
    for value in filter(None, set(NAMED_SECRETS.analyze_string(line))):
        yield from (match.span() for match in re.finditer(re.escape(value), line))


def phone_numbers(text: str, region: str) -> Iterator[Finding]:
    """Those that are valid and written as such: a bare row of digits is more often a part's
    number."""
    known = region if region in phonenumbers.SUPPORTED_REGIONS else None
    for match in PhoneNumberMatcher(text, known, leniency=Leniency.EXACT_GROUPING):
        if not match.raw_string.isdigit():
            yield Finding("phone", match.start, match.end)


def without_overlaps(found: list[Finding]) -> list[Finding]:
    """Two that overlap are one, and a secret if either is."""
    kept: list[Finding] = []
    for one in found:
        if kept and one.start < kept[-1].end:
            kind = "secret" if one.kind == "secret" else kept[-1].kind
            kept[-1] = Finding(kind, kept[-1].start, max(kept[-1].end, one.end))
        else:
            kept.append(one)
    return kept
