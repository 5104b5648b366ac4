"""In which encoding a text is. Pure."""

from __future__ import annotations

import codecs
import re

import charset_normalizer

MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# The letters and signs of Western European languages; a detector that counts letters takes some of
# them for Eastern ones. Cyrillic has these bytes too, but hardly any ASCII letters among them
WESTERN = re.compile(
    r"[\x00-\x7fäöüßÄÖÜàâæçéèêëîïôœùûÀÂÇÉÈÊÎÔÙáíóúñÁÍÓÚÑãõåøÅØ€§°²µ×«»–—„“”‚‘’…•\xa0]+"
)
LEAST_ASCII_LETTERS = 2 / 3
REPLACEMENT = "\ufffd"  # the sign that stands for what cannot be read
LARGEST_LOSS = 0.02  # of a text's characters; with more it is likely in another encoding
GUESSED = "it does not say in which encoding it is, read as {}; UTF-8 is never guessed"
COMMENT = re.compile(rb"<!--.*?-->", re.DOTALL)
DECLARED = re.compile(
    rb"""(?:<meta\s[^>]*?\bcharset|^\s*<\?xml\s[^>]*?\bencoding)\s*=\s*["']?\s*([\w-]{1,40})""",
    re.I,
)
HEAD_BYTES = 8192  # browsers look for the encoding in the first 1024
# As browsers take them (https://encoding.spec.whatwg.org/#names-and-labels), by Python's names
TAKEN_AS = {
    "iso8859-1": "cp1252",
    "ascii": "cp1252",
    "iso8859-9": "cp1254",
    "tis-620": "cp874",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "shift_jis": "cp932",
    "euc_kr": "cp949",
}
ENCODINGS = re.compile(r"cp\d+|iso8859-\d+|koi8-[ru]|mac-\w+|gb18030|big5\w*|euc_jp|iso2022_jp")


def decoded(data: bytes, declared: str = "") -> tuple[str, str] | None:
    """(the text, a note for people or ""); None if it is no text. declared: the encoding that it
    names, or ""."""
    mark = next((name for mark, name in MARKS if data.startswith(mark)), "")
    known = [declared, "utf-8"] if data.isascii() else ["utf-8", declared]  # iso-2022-jp is ASCII
    for name in filter(None, [mark] if mark else known):
        if found := mended(data, name, name != "utf-8"):
            return found
    if (western := decode_western(data)) is not None:
        return western, GUESSED.format("cp1252")
    if found := mended(data, "utf-8", True):
        return found
    guess = charset_normalizer.from_bytes(data).best()
    if guess is None:
        return None
    return str(guess), GUESSED.format(guess.encoding)


def mended(data: bytes, name: str, certain: bool) -> tuple[str, str] | None:
    """(the text with a sign for each damaged place, a note); None if it is likely in another
    encoding. certain: no other character beyond ASCII needs to prove that it is in this one."""
    try:
        return data.decode(name), ""
    except UnicodeDecodeError:
        text = data.decode(name, "replace")
    lost = text.count(REPLACEMENT) - data.decode(name, "ignore").count(REPLACEMENT)
    proof = len(text) - len(text.encode("ascii", "ignore")) - lost
    if "\0" in text or lost > max(proof > lost, LARGEST_LOSS * len(text)):
        return None
    note = f"{lost} of its {len(text)} characters could not be read as {name}"
    return (text, note) if certain or proof > lost else None


def decode_western(data: bytes) -> str | None:
    try:
        text = data.decode("cp1252")
    except UnicodeDecodeError:
        return None
    letters = [letter for letter in text if letter.isalpha()]
    ascii_letters = sum(letter.isascii() for letter in letters)
    likely = ascii_letters >= LEAST_ASCII_LETTERS * len(letters)
    return text if likely and "\0" not in text and WESTERN.fullmatch(text) else None


def declared_in(page: bytes) -> str:
    """The encoding that an HTML page names, as Python calls it; "" for none, UTF-8, which is tried
    anyway, and UTF-16, which a page that can be searched for ASCII is not in."""
    found = DECLARED.search(COMMENT.sub(b"", page[:HEAD_BYTES]))
    try:
        name = codecs.lookup(found[1].decode("ascii", "replace")).name if found else ""
    except LookupError:
        return ""
    name = TAKEN_AS.get(name, name)
    return name if ENCODINGS.fullmatch(name) else ""
