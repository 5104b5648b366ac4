"""The text of documents that Open WebUI 0.12.4 takes without an error, and not as they are.

Its readers take a Western text for Hebrew (https://github.com/open-webui/open-webui/issues/25172),
join the cells of an HTML table (https://github.com/n8n-io/n8n/issues/11648), leave out the tables,
groups and notes of slides (https://github.com/HKUDS/nanobot/issues/3250), and turn 0042 into 42 and
4915112345678 into 4.915112e+12 (https://github.com/langgenius/dify/issues/20079).
"""

from __future__ import annotations

import codecs
import re
import zipfile
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path, PurePosixPath
from typing import Any
from xml.etree import ElementTree

import charset_normalizer
import openpyxl

LARGEST_CHARACTERS = 50_000_000  # of what an archive unpacks to
OLDER_OR_CLOSED = b"\xd0\xcf\x11\xe0"  # the container of .doc, and of a document with a password
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
BLOCKS = frozenset(
    {"br", "dd", "div", "dt", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "li", "option", "p", "pre"}
    | {"section", "table", "title", "tr"}
)
CELLS = {"td", "th"}
NOT_READ = {"script", "style", "template"}
DRAWING = "{http://schemas.openxmlformats.org/drawingml/2006/main}"


class Unreadable(Exception):
    """Why a document has no text, for people."""


def text_of(path: Path) -> tuple[str, str] | None:
    """(its text, a note for people or ""); None if Open WebUI reads this type well. Raises
    Unreadable, or OSError."""
    reader = READERS.get(path.suffix.lower())
    if path.suffix.lower() in ARCHIVES:
        with path.open("rb") as file:
            if file.read(len(OLDER_OR_CLOSED)) == OLDER_OR_CLOSED:
                what = "it opens with a password, or it is in the format of before 2007"
                raise Unreadable(f"{what}; save a copy as {path.suffix.lower()} without a password")
    if reader is None:
        return None
    text, note = reader(path)
    if not text.strip():
        raise Unreadable("it holds no text")
    return text.replace("\0", "").replace("\r\n", "\n"), note


# ---------------------------------------------------------------------- plain text


def plain(path: Path) -> tuple[str, str]:
    text, guessed = decoded(path.read_bytes())
    note = f"it does not say in which encoding it is, read as {guessed}; UTF-8 is never guessed"
    return text, note if guessed else ""


def decoded(data: bytes) -> tuple[str, str]:
    """(the text, its encoding if that is a guess). Raises Unreadable."""
    name = next((name for mark, name in MARKS if data.startswith(mark)), "utf-8")
    try:
        return data.decode(name), ""
    except UnicodeDecodeError:
        pass
    if (western := decode_western(data)) is not None:
        return western, "cp1252"
    found = charset_normalizer.from_bytes(data).best()
    if found is None:
        raise Unreadable("it is no text, whatever its name says")
    return str(found), found.encoding


def decode_western(data: bytes) -> str | None:
    try:
        text = data.decode("cp1252")
    except UnicodeDecodeError:
        return None
    letters = [letter for letter in text if letter.isalpha()]
    ascii_letters = sum(letter.isascii() for letter in letters)
    likely = ascii_letters >= LEAST_ASCII_LETTERS * len(letters)
    return text if likely and "\0" not in text and WESTERN.fullmatch(text) else None


# ---------------------------------------------------------------------- HTML


class Page(HTMLParser):
    """Collects what a browser shows, with a line for each block and " | " between cells."""

    def __init__(self) -> None:
        super().__init__()
        self.parts: list[str] = []
        self.hidden = 0

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.hidden += tag in NOT_READ
        if tag in BLOCKS:
            self.parts.append("\n")
        elif tag in CELLS:
            self.parts.append(" | ")

    def handle_endtag(self, tag: str) -> None:
        self.hidden = max(0, self.hidden - (tag in NOT_READ))
        if tag in BLOCKS:
            self.parts.append("\n")

    def handle_data(self, data: str) -> None:
        if not self.hidden:
            self.parts.append(data)


def html(path: Path) -> tuple[str, str]:
    source, note = plain(path)
    page = Page()
    page.feed(source)
    page.close()
    lines = (" ".join(line.split()).removeprefix("| ") for line in "".join(page.parts).split("\n"))
    return "\n".join(filter(None, lines)), note


# ---------------------------------------------------------------------- slides and sheets


def slides(path: Path) -> tuple[str, str]:
    return opened(path, lambda: "\n\n".join(slide_texts(path))), ""


def opened(path: Path, read: Callable[[], str]) -> str:
    """Raises Unreadable for whatever is wrong inside an Office file."""
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(entry.file_size for entry in xml_parts(archive)) > LARGEST_CHARACTERS:
                raise Unreadable("its text is too long")
        return read()
    except Unreadable:
        raise
    except Exception as error:
        kind = type(error).__name__
        raise Unreadable(f"it is not a whole {path.suffix.lower()} file ({kind})") from error


def xml_parts(archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    return [entry for entry in archive.infolist() if entry.filename.endswith((".xml", ".rels"))]


def slide_texts(path: Path) -> Iterator[str]:
    """Each slide's paragraphs and rows, in the order of the show, then its notes."""
    with zipfile.ZipFile(path) as deck:
        for number, slide in enumerate(targets(deck, "ppt/presentation.xml", "slide"), 1):
            notes = targets(deck, slide, "notesSlide")
            lines = [line for part in (slide, *notes) for line in paragraphs(deck, part)]
            if lines:
                yield "\n".join([f"Slide {number}:", *lines])


def targets(deck: zipfile.ZipFile, part: str, kind: str) -> list[str]:
    """The parts of this kind that a part refers to, in the order in which it does."""
    folder, name = PurePosixPath(part).parent, PurePosixPath(part).name
    relations = f"{folder}/_rels/{name}.rels"
    if relations not in deck.namelist():
        return []
    found = {
        str(row.get("Id")): str(row.get("Target"))
        for row in ElementTree.fromstring(deck.read(relations))
        if str(row.get("Type")).endswith(f"/{kind}")
    }
    used = [
        value
        for row in ElementTree.fromstring(deck.read(part)).iter()
        for value in row.attrib.values()
    ]
    order = sorted(found, key=lambda one: used.index(one) if one in used else len(used))
    return [str(resolved(folder, found[one])) for one in order]


def resolved(folder: PurePosixPath, target: str) -> PurePosixPath:
    """A target such as ../notesSlides/notesSlide1.xml, from the folder of what names it."""
    if target.startswith("/"):
        return PurePosixPath(target[1:])
    while target.startswith("../"):
        folder, target = folder.parent, target[3:]
    return folder / target


def paragraphs(deck: zipfile.ZipFile, part: str) -> Iterator[str]:
    """Lines of a slide; a row of a table is one, with " | " between its cells."""
    root = ElementTree.fromstring(deck.read(part))
    in_rows: set[ElementTree.Element] = set()
    for node in root.iter():
        if node.tag == f"{DRAWING}tr":
            in_rows.update(node.iter(f"{DRAWING}p"))
            yield " | ".join(words(cell) for cell in node.iter(f"{DRAWING}tc"))
        elif node.tag == f"{DRAWING}p" and node not in in_rows and (line := words(node)):
            yield line


def words(node: ElementTree.Element) -> str:
    parts = (
        one.text or "" if one.tag == f"{DRAWING}t" else " " for one in node.iter() if text_tag(one)
    )
    return " ".join("".join(parts).split())


def text_tag(node: ElementTree.Element) -> bool:
    return node.tag in (f"{DRAWING}t", f"{DRAWING}br", f"{DRAWING}p")


def sheets(path: Path) -> tuple[str, str]:
    return opened(path, lambda: "\n\n".join(sheet_texts(path))), ""


def sheet_texts(path: Path) -> Iterator[str]:
    """Each sheet's rows, with " | " between the cells. A formula without a stored value is
    empty."""
    book = openpyxl.load_workbook(path, read_only=True, data_only=True)
    for sheet in book.worksheets:
        sheet.reset_dimensions()  # some programs write wrong ones
        lines = (
            " | ".join(map(shown, row)).rstrip(" |") for row in sheet.iter_rows(values_only=True)
        )
        if rows := [line for line in lines if line]:
            yield "\n".join([f"Sheet {sheet.title}:", *rows])


def shown(value: Any) -> str:
    """A cell as people see it, on one line."""
    if value is None:
        return ""
    text = f"{value:.15g}" if isinstance(value, float) else str(value)
    return " ".join(text.removesuffix(" 00:00:00").split())


READERS: dict[str, Callable[[Path], tuple[str, str]]] = {
    ".txt": plain,
    ".md": plain,
    ".html": html,
    ".htm": html,
    ".pptx": slides,
    ".xlsx": sheets,
}
ARCHIVES = (".docx", ".pptx", ".xlsx")
