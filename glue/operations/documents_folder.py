"""The documents in a folder, and the reasons why other files are not."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from glue.core import files
from glue.core.errors import PreconditionFailed
from glue.operations import documents_plan as planning
from glue.operations.documents_plan import Document, Folder

DOCUMENT_TYPES = (".pdf", ".docx", ".pptx", ".xlsx", ".md", ".txt", ".html", ".htm")
UNOPENED = "it cannot be opened"
LARGEST_BYTES = 100 << 20  # RAG_FILE_MAX_SIZE in compose.day.yaml


def look_through(folder: Path) -> Folder:
    """Everything below folder. Links are followed, and no folder is read twice."""
    if not folder.is_dir():
        raise PreconditionFailed(
            "there is no such folder", planning.name_of(str(folder)), "name a folder of documents"
        )
    documents: list[Document] = []
    refused: dict[str, str] = {}
    not_read: dict[str, str] = {}
    keys: set[str] = set()
    unopened: list[str] = []
    empty: list[str] = []  # as a disk or share that is not mounted leaves it
    for path in walk(folder, unopened, empty):
        relative = os.path.relpath(path, folder)
        keys.add(planning.key_of(relative))
        shown = planning.name_of(relative)
        if not path.exists():
            unopened.append(str(path))  # the link may be to a folder that is not mounted now
        elif reason := why_not_read(path, relative):
            not_read[shown] = reason
        elif isinstance(found := document(path, relative), str):
            refused[shown] = found
        else:
            documents.append(found)
    not_read |= dict.fromkeys(map(planning.name_of, below(folder, unopened)), UNOPENED)
    closed = tuple(map(planning.key_of, below(folder, unopened + empty)))
    return Folder(tuple(documents), refused, not_read, frozenset(keys), closed)


def below(folder: Path, paths: list[str]) -> list[str]:
    return [os.path.relpath(one, folder) for one in paths]


def walk(folder: Path, unopened: list[str], empty: list[str]) -> Iterator[Path]:
    """Every file below folder, sorted; a link that leads back into a folder is not followed.
    unopened and empty: get such folders."""
    seen: set[tuple[int, int]] = set()

    def lost(error: OSError) -> None:
        unopened.append(str(error.filename))

    for top, folders, names in os.walk(folder, onerror=lost, followlinks=True):
        try:
            found = Path(top).stat()
        except OSError:  # its disk was taken away meanwhile
            unopened.append(top)
            continue
        if (found.st_dev, found.st_ino) in seen:
            folders.clear()
            continue
        if not folders and not names:
            empty.append(top)
        seen.add((found.st_dev, found.st_ino))
        folders.sort()
        yield from (Path(top, one) for one in sorted(names))


def why_not_read(path: Path, relative: str) -> str:
    """Why a file is not a document; empty if it is one."""
    if any(part.startswith((".", "~$")) for part in relative.split("/")):
        return "hidden or temporary"
    if path.suffix.lower() not in DOCUMENT_TYPES:
        return "another file type"
    return "" if path.is_file() else "not a regular file"


def document(path: Path, relative: str) -> Document | str:
    """The document, or why it cannot be read, as far as this can be known without Open WebUI."""
    try:
        size = path.stat().st_size
        if not size:
            return "it is empty"
        if size > LARGEST_BYTES:
            return f"it is larger than {LARGEST_BYTES >> 20} MB"
        key, shown = planning.key_of(relative), planning.name_of(relative)
        return Document(path, key, shown, files.sha256(path), size)
    except OSError as error:
        return error.strerror or str(error)
