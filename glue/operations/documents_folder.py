"""The documents in a folder, and the reasons why other files are not."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from glue.core import files
from glue.core.errors import PreconditionFailed
from glue.operations import documents_plan as planning
from glue.operations.documents_plan import Document, Folder
from glue.operations.documents_refused import (
    COPY,
    UNOPENED,
    cannot_open,
    how_to_open,
    refusal,
)

DOCUMENT_TYPES = (".pdf", ".docx", ".pptx", ".xlsx", ".md", ".txt", ".html", ".htm")
LARGEST_BYTES = 100 << 20  # RAG_FILE_MAX_SIZE in compose.day.yaml


def look_through(folder: Path) -> Folder:
    """Everything below folder. Links are followed, and no folder is read twice."""
    if not is_folder(folder):
        if not isinstance(status(folder), OSError):
            saw = f"{planning.name_of(str(folder))} is a file"
            do = "name the folder that holds the file"
            raise PreconditionFailed("Expected a folder", saw, do)
        raise PreconditionFailed(
            "there is no such folder", planning.name_of(str(folder)), "name a folder of documents"
        )
    documents: list[Document] = []
    refused: dict[str, str] = {}
    not_read: dict[str, str] = {}
    keys: set[str] = set()
    unopened: dict[str, str] = {}  # path -> reason
    empty: list[str] = []  # as a disk or share that is not mounted leaves it
    for path in walk(folder, unopened, empty):
        relative = os.path.relpath(path, folder)
        keys.add(planning.key_of(relative))
        shown = planning.name_of(relative)
        if isinstance(found := status(path), OSError):
            unopened[str(path)] = cannot_open(found)  # may be a folder that is not mounted now
            if not isinstance(found, FileNotFoundError) and not named_otherwise(path, relative):
                refused[shown] = cannot_open(found)
        elif reason := why_not_read(path, relative, found.st_mode):
            not_read[shown] = reason
        elif isinstance(read := document(path, relative), str):
            refused[shown] = read
        else:
            documents.append(read)
    names = map(planning.name_of, below(folder, unopened))
    lost = dict(zip(names, unopened.values(), strict=True))
    not_read |= {name: reason for name, reason in lost.items() if name not in refused}
    closed = tuple(map(planning.key_of, below(folder, [*unopened, *empty])))
    return Folder(tuple(documents), refused, not_read, frozenset(keys), closed)


def is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError as error:
        saw = f"{planning.name_of(str(path))}: {error.strerror or error}"
        raise PreconditionFailed(UNOPENED, saw, how_to_open(error)) from error


def status(path: Path) -> os.stat_result | OSError:
    """The error if nothing can be known of it, as of a file in a folder that may be listed but not
    entered, or on a share that went away."""
    try:
        return path.stat()
    except OSError as error:
        return error


def below(folder: Path, paths: Iterable[str]) -> list[str]:
    return [os.path.relpath(one, folder) for one in paths]


def walk(folder: Path, unopened: dict[str, str], empty: list[str]) -> Iterator[Path]:
    """Every file below folder, sorted; a link that leads back into a folder is not followed.
    unopened (path -> reason) and empty: get such folders."""
    seen: set[tuple[int, int]] = set()

    def lost(error: OSError) -> None:
        unopened[str(error.filename)] = cannot_open(error)

    for top, folders, names in os.walk(folder, onerror=lost, followlinks=True):
        try:
            found = Path(top).stat()
        except OSError as error:  # its disk was taken away meanwhile
            unopened[top] = cannot_open(error)
            continue
        if (found.st_dev, found.st_ino) in seen:
            folders.clear()
            continue
        if not folders and not names:
            empty.append(top)
        seen.add((found.st_dev, found.st_ino))
        folders.sort()
        yield from (Path(top, one) for one in sorted(names))


def why_not_read(path: Path, relative: str, mode: int) -> str:
    """Why a file is not a document; empty if it is one."""
    return named_otherwise(path, relative) or ("" if stat.S_ISREG(mode) else "not a regular file")


def named_otherwise(path: Path, relative: str) -> str:
    """Why a file is not a document by its name; empty if it is one."""
    if any(part.startswith((".", "~$")) for part in relative.split("/")):
        return "hidden or temporary"
    if path.suffix.lower() not in DOCUMENT_TYPES:
        return "another file type"
    return ""


def document(path: Path, relative: str) -> Document | str:
    """The document, or why it cannot be read, as far as this can be known without Open WebUI."""
    try:
        size = path.stat().st_size
        if not size:
            return refusal("it is empty", COPY)
        if size > LARGEST_BYTES:
            saw = f"it is larger than {LARGEST_BYTES >> 20} MB"
            return refusal(saw, "split it into smaller files")
        key, shown = planning.key_of(relative), planning.name_of(relative)
        return Document(path, key, shown, files.sha256(path), size)
    except OSError as error:
        return cannot_open(error)
