"""Why a document is not taken in: what was seen, what to do, and a library's words in brackets."""

from __future__ import annotations

import errno
import re
from pathlib import Path

DAMAGED = "it is damaged, or made in a way that Open WebUI cannot read"
COPY = "copy it again from where it came from"
UNOPENED = "it cannot be opened"
PRINT = "open it and print it to a new PDF"
MAKE_ANEW = {".pdf": PRINT, ".docx": "open it in Word and save it as a new .docx"}
BEGINS = {".pdf": b"%PDF-", ".docx": b"PK"}
MOST_WORDS = 120  # characters
HEAD_BYTES = 1024  # readers of PDFs look for its mark in these
OCR = "run text recognition (OCR) on it"
LOOK = "make logs SERVICE=open-webui shows why"
ENCRYPTED = "not been decrypted"
# words of Open WebUI 0.12.4 and its pypdf 6.21 -> what was seen, and what to do
KNOWN = {
    ("content provided is empty",): ("it holds no text, as a scan does", OCR),
    (ENCRYPTED,): ("it opens with a password only", "save a copy without a password"),
    ("encryption handler", "Encryption V=", "NOT supported"): (
        "it is protected in a way that Open WebUI cannot open, as by a certificate",
        "save a copy without protection",
    ),
    ("Duplicate content",): (
        "Open WebUI has its text in the index only",
        "Admin Panel, Settings, Documents: Reindex",
    ),
    ("startxref", "EOF marker", "Stream has ended"): (
        "it is damaged, or its end is missing",
        f"{COPY}, or {PRINT}",
    ),
    ("exceeds", "too large after decompression"): (
        "a part of it is larger than Open WebUI allows",
        f"{PRINT}, or split it into smaller files",
    ),
    ("jbig2dec",): ("it holds pictures in the format JBIG2, which Open WebUI cannot read", PRINT),
}
# of an encryption dictionary, which is never compressed (ISO 32000-2, 7.5.7 and 7.6): the filters
# of text are others than Identity; it has filters, and so may leave the text readable
TEXT_ENCRYPTED = re.compile(rb"/St[mr]F\s*/(?!Identity\b)")
CRYPT_FILTER = re.compile(rb"/CFM\s*/(?:AESV|V2)")


def refusal(saw: str, do: str, words: str = "") -> str:
    """On one line. words: a library's."""
    shown = " ".join(words.split())[:MOST_WORDS]
    return f"{saw}; {do}" + (f" ({shown})" if shown else "")


def cannot_open(error: OSError) -> str:
    return refusal(UNOPENED, how_to_open(error), error.strerror or str(error))


def how_to_open(error: OSError) -> str:
    denied = error.errno in (errno.EACCES, errno.EPERM)
    return "let this user read it" if denied else "look at its disk or share"


def by_open_webui(reason: str, path: Path) -> str:
    """reason: Open WebUI's own, often that of a library."""
    kind = path.suffix.lower()
    if kind in BEGINS and BEGINS[kind] not in start(path):
        do = f"{COPY}, or give it the name of its own type"
        return refusal(f"it is no {kind} file, whatever its name says", do)
    if ENCRYPTED in reason and only_attachments_are_encrypted(path):
        saw = "only its attachments are encrypted, and Open WebUI reads no PDF of that kind"
        return refusal(saw, PRINT)
    for marks, words in KNOWN.items():
        if any(mark in reason for mark in marks):
            return refusal(*words)
    if kind not in MAKE_ANEW:  # glue has read its text
        return refusal("Open WebUI does not take its text", LOOK, reason)
    return refusal(DAMAGED, MAKE_ANEW[kind], reason)


def start(path: Path) -> bytes:
    """What cannot be read now was read for the upload, and counts as right."""
    try:
        with path.open("rb") as file:
            return file.read(HEAD_BYTES)
    except OSError:
        return BEGINS[path.suffix.lower()]


def only_attachments_are_encrypted(path: Path) -> bool:
    """Its text can be read without a password, by viewers that look at each part by itself."""
    try:
        data = path.read_bytes()
    except OSError:
        return False
    return bool(CRYPT_FILTER.search(data)) and not TEXT_ENCRYPTED.search(data)
