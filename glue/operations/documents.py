"""A folder of PDFs, kept in step with the team's knowledge collection."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pypdf import PdfReader

from glue.clients.site import Site
from glue.core.errors import PreconditionFailed


@dataclass(frozen=True)
class Document:
    path: Path
    checksum: str
    size: int


def ingest(site: Site, folder: Path, skip_bad: bool = False) -> dict[str, Any]:
    """Adds what is new, replaces what changed, removes what is gone; nothing to do is done at once.

    Every PDF is read before anything is changed. Raises PreconditionFailed, with nothing touched,
    for a folder that is
    not there and for a PDF without text, unless skip_bad leaves those out (an earlier version of
    one stays).
    """
    if not folder.is_dir():
        raise PreconditionFailed("there is no such folder", str(folder), "name a folder of PDFs")
    documents = [
        read(path)
        for path in sorted(folder.iterdir())
        if path.is_file() and path.suffix.lower() == ".pdf"
    ]
    if not documents:
        raise PreconditionFailed(
            "there is no PDF in the folder",
            str(folder),
            "put PDFs into it; files in subfolders are not read",
        )
    bad = {
        document.path.name: reason
        for document in documents
        if (reason := why_unreadable(document.path))
    }
    if bad and not skip_bad:
        saw = "; ".join(f"{name}: {reason}" for name, reason in sorted(bad.items()))
        raise PreconditionFailed(
            "a PDF cannot be read; nothing was changed",
            saw,
            "mend or remove it, or run again with --skip-bad",
        )
    return sync(site, documents, bad)


def sync(site: Site, documents: list[Document], bad: dict[str, str]) -> dict[str, Any]:
    person = site.administrator()
    knowledge = person.ensure_knowledge()
    manifest = [
        {"filename": d.path.name, "path": "", "checksum": d.checksum, "size": d.size}
        for d in documents
    ]
    difference = person.compare_folder(knowledge, manifest)
    added = [row["filename"] for row in difference["added"] if row["filename"] not in bad]
    changed = {
        row["filename"]: row["stale_file_id"]
        for row in difference["modified"]
        if row["filename"] not in bad
    }
    deleted = [row["file_id"] for row in difference["deleted"]]
    # before the uploads: Open WebUI refuses a text that it already holds under another name
    person.remove_files(knowledge, deleted + list(changed.values()))
    todo = [
        document
        for document in documents
        if document.path.name in added or document.path.name in changed
    ]
    for number, document in enumerate(todo, 1):
        site.tell(f"reading document {number} of {len(todo)}: {document.path.name}")
        person.add_file(knowledge, document.path, document.checksum)
    return {
        "added": added,
        "changed": sorted(changed),
        "deleted": len(deleted),
        "skipped": bad,
        "documents": len(person.knowledge_files(knowledge)),
    }


def read(path: Path) -> Document:
    return Document(path, hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_size)


def why_unreadable(path: Path) -> str:
    """Empty if the PDF holds text; else why not, in words."""
    if path.stat().st_size == 0:
        return "it is empty"
    try:
        if any(page.extract_text().strip() for page in PdfReader(path).pages):
            return ""
    except Exception as error:  # pypdf's own documentation: broken files may raise anything
        return f"it is damaged or protected ({error})"
    return "it holds no text; a scan needs a text layer (OCR) first"
