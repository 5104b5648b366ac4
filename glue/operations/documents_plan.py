"""Plans an ingest: compares a folder with the team's collection. Pure."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from glue.clients.knowledge import Held
from glue.core import control_words

SHOWN_NAMES = 20


@dataclass(frozen=True)
class Document:
    """key: its path below the folder, percent-encoded. name: the same for people. checksum: SHA-256
    of its bytes."""

    path: Path
    key: str
    name: str
    checksum: str
    size: int


@dataclass(frozen=True)
class Folder:
    """refused and not_read: name -> reason. keys: of every file in it, read or not. closed: keys of
    folders that could not be listed, or hold nothing at all."""

    documents: tuple[Document, ...]
    refused: Mapping[str, str]
    not_read: Mapping[str, str]
    keys: frozenset[str]
    closed: tuple[str, ...] = ()

    def may_hold(self, key: str) -> bool:
        return key in self.keys or any(key.startswith(f"{folder}/") for folder in self.closed)


@dataclass(frozen=True)
class Plan:
    """todo: to add. twins: name -> the name under which the same content is in, or will be.
    stays: IDs of unchanged files. gone: no longer in the folder. kept: nor these, but
    their folder is closed. by_hand: added by people.
    foreign: folder and collection have no document in common."""

    todo: tuple[Document, ...]
    twins: Mapping[str, str]
    stays: frozenset[str]
    gone: tuple[Held, ...]
    kept: tuple[Held, ...]
    by_hand: tuple[Held, ...]
    foreign: bool


def key_of(relative: str) -> str:
    """Of a path as the system gives it, with any bytes; as ASCII it fits into JSON."""
    return quote(os.fsencode(relative))


def name_of(relative: str) -> str:
    """For people, and for the model: on one line, and without control words."""
    text = os.fsencode(relative).decode("utf-8", "backslashreplace")
    line = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return control_words.broken(line)[0]


def is_same(document: Document, held: Held, texts: Mapping[str, str]) -> bool:
    """Whether people find this document's content by what is held. texts: checksum -> the SHA-256
    of the text that was read from such a file."""
    return bool(held.text) and (
        held.checksum == document.checksum or texts.get(document.checksum) == held.text
    )


def contents(held: Iterable[Held]) -> set[str]:
    """Checksums of files and texts that people find."""
    return {checksum for one in held if one.text for checksum in (one.checksum, one.text)}


def is_in(document: Document, contents: set[str], texts: Mapping[str, str]) -> bool:
    return document.checksum in contents or texts.get(document.checksum) in contents


def up_to_date(
    documents: Iterable[Document], held: Iterable[Held], texts: Mapping[str, str]
) -> list[Held]:
    """People's own files, and those of ours that hold what their path in the folder holds."""
    by_key = {document.key: document for document in documents}
    return [
        one
        for one in held
        if one.key is None or (one.key in by_key and is_same(by_key[one.key], one, texts))
    ]


def outdated(
    documents: Iterable[Document], held: Iterable[Held], texts: Mapping[str, str]
) -> list[Held]:
    """Earlier versions of documents whose current content is in."""
    documents, held = list(documents), list(held)
    stays = {one.id for one in up_to_date(documents, held, texts)}
    there = contents(held)
    replaced = {one.key for one in documents if is_in(one, there, texts)}
    return [one for one in held if one.key in replaced and one.id not in stays]


def compare(folder: Folder, held: Iterable[Held], texts: Mapping[str, str]) -> Plan:
    held = list(held)
    stays = up_to_date(folder.documents, held, texts)
    there = {one.key for one in stays}
    names = {one.checksum: one.name for one in stays} | {one.text: one.name for one in stays}
    names.pop("", None)
    todo: list[Document] = []
    twins: dict[str, str] = {}
    for document in folder.documents:
        twin = names.get(document.checksum) or names.get(texts.get(document.checksum, ""))
        as_kind = (
            document.checksum + document.path.suffix.lower()
        )  # the name decides how it is read
        twin = twin or names.get(as_kind)
        if document.key in there:
            continue
        if twin:
            twins[document.name] = twin
        else:
            names[as_kind] = document.name
            todo.append(document)
    ours = [one for one in held if one.key is not None]
    checksums = {document.checksum for document in folder.documents}
    shared = [one for one in ours if one.key in folder.keys or one.checksum in checksums]
    absent = [one for one in ours if one.key not in folder.keys]
    gone = tuple(one for one in absent if not folder.may_hold(one.key or ""))
    return Plan(
        tuple(todo),
        twins,
        frozenset(one.id for one in stays),
        gone,
        tuple(one for one in absent if one not in gone),
        tuple(one for one in held if one.key is None),
        bool(gone) and not shared,
    )


def told_kept(kept: Iterable[Held]) -> list[str]:
    names = listing(one.name for one in kept)
    why = "their folder is empty or cannot be opened, as without its disk or share"
    return [f"{names}: kept, because {why}; to remove them, delete the folder"] if names else []


def listing(names: Iterable[str]) -> str:
    shown = list(names)
    more = len(shown) - SHOWN_NAMES
    return "; ".join(shown[:SHOWN_NAMES]) + (f"; and {more} more" if more > 0 else "")


def progress(number: int, todo: list[Document], seconds: float) -> str:
    """A line before document `number`, counted from 1. seconds: since the first was begun."""
    words = f"reading {number} of {len(todo)}: {todo[number - 1].name}"
    # every file has calls of its own, about as long as 20 kB take to embed
    work = [document.size + 20_000 for document in todo]
    done, left = sum(work[: number - 1]), sum(work[number - 1 :])
    minutes = seconds / done * left / 60 if done else 0
    return f"{words}, about {minutes:.0f} min left" if minutes >= 1 else words
