"""The text of documents that Open WebUI 0.12.4 takes without an error, and not as they are.

Its readers take a Western text for Hebrew (https://github.com/open-webui/open-webui/issues/25172),
join the cells of an HTML table (https://github.com/n8n-io/n8n/issues/11648), leave out the tables,
groups and notes of slides (https://github.com/HKUDS/nanobot/issues/3250), and turn 0042 into 42 and
4915112345678 into 4.915112e+12 (https://github.com/langgenius/dify/issues/20079).
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path, PurePosixPath
from typing import Any
from xml.etree import ElementTree

from glue.operations.documents_encoding import declared_in, decoded
from glue.operations.documents_refused import refusal
from glue.operations.documents_sheets import sheet_texts

LARGEST_CHARACTERS = 50_000_000  # of what an archive unpacks to
WITHOUT_TEXT = "if it shows text as pictures, make a PDF of it with text recognition (OCR)"
OLDER_OR_CLOSED = b"\xd0\xcf\x11\xe0"  # the container of .doc, and of a document with a password
BLOCKS = frozenset(
    {"br", "dd", "div", "dt", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "li", "option", "p", "pre"}
    | {"section", "table", "title", "tr"}
)
CELLS = {"td", "th"}
NOT_READ = {"script", "style", "template"}
DRAWING = "{http://schemas.openxmlformats.org/drawingml/2006/main}"


class Unreadable(Exception):
    """Why a document has no text, and what to do."""

    def __init__(self, saw: str, do: str, words: str = "") -> None:
        super().__init__(refusal(saw, do, words))


def text_of(path: Path) -> tuple[str, str] | None:
    """(its text, a note for people or ""); None if Open WebUI reads this type well. Raises
    Unreadable, or OSError."""
    reader = READERS.get(path.suffix.lower())
    if path.suffix.lower() in ARCHIVES:
        with path.open("rb") as file:
            if file.read(len(OLDER_OR_CLOSED)) == OLDER_OR_CLOSED:
                what = "it opens with a password, or it is in the format of before 2007"
                do = f"save a copy as {path.suffix.lower()} without a password"
                raise Unreadable(what, do)
    if reader is None:
        return None
    text, note = reader(path)
    if not text.strip():
        raise Unreadable("; ".join(filter(None, ("it holds no text", note))), WITHOUT_TEXT)
    return text.replace("\0", "").replace("\r\n", "\n"), note


# ---------------------------------------------------------------------- plain text


def plain(path: Path) -> tuple[str, str]:
    return whole(decoded(path.read_bytes()))


def whole(found: tuple[str, str] | None) -> tuple[str, str]:
    if found is None:
        raise Unreadable("it is no text, whatever its name says", "save it as text in UTF-8")
    return found


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
    data = path.read_bytes()
    source, note = whole(decoded(data, declared_in(data)))
    page = Page()
    page.feed(source)
    page.close()
    lines = (" ".join(line.split()).removeprefix("| ") for line in "".join(page.parts).split("\n"))
    return "\n".join(filter(None, lines)), note


# ---------------------------------------------------------------------- slides and sheets


def slides(path: Path) -> tuple[str, str]:
    return opened(path, slide_texts), ""


class Limited(zipfile.ZipFile):
    """Raises Unreadable before more than LARGEST_CHARACTERS are unpacked, whatever the parts are
    called. Each part may be opened three times, as a sheet is; pictures and films are not."""

    unpacked = 0

    def open(self, name: Any, *args: Any, **options: Any) -> Any:
        size = self.getinfo(getattr(name, "filename", name)).file_size
        self.unpacked += size
        if max(size, self.unpacked / 3) > LARGEST_CHARACTERS:
            raise Unreadable("its text is too long", "split it into smaller files")
        return super().open(name, *args, **options)


def opened(path: Path, read: Callable[[zipfile.ZipFile], Iterator[str]]) -> str:
    """Raises Unreadable for whatever is wrong inside an Office file."""
    try:
        with Limited(path) as archive:
            return "\n\n".join(read(archive))
    except Unreadable:
        raise
    except Exception as error:
        kind = path.suffix.lower()
        do = f"open it and save it as a new {kind}"
        raise Unreadable(f"it is not a whole {kind} file", do, type(error).__name__) from error


def slide_texts(deck: zipfile.ZipFile) -> Iterator[str]:
    """Each slide's paragraphs and rows, in the order of the show, then its notes."""
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
    notes: list[str] = []
    text = opened(path, lambda archive: sheet_texts(archive, notes))
    return text, "; ".join(notes)


READERS: dict[str, Callable[[Path], tuple[str, str]]] = {
    ".txt": plain,
    ".md": plain,
    ".html": html,
    ".htm": html,
    ".pptx": slides,
    ".xlsx": sheets,
}
ARCHIVES = (".docx", ".pptx", ".xlsx")
