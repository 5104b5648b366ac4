"""Copies Open WebUI's data out of its volume, while it runs, and back in. Runs in Open WebUI's
image only; /data is the volume.

    python3 webui_data.py pack      writes a tar of it to stdout
    python3 webui_data.py sizes     prints bytes of databases with vectors, and bytes of uploads
    python3 webui_data.py unpack    replaces the data by the tar on stdin
    python3 webui_data.py look      exits 0 if the database has accounts, 4 if it has none or is
                                    missing

The databases are copied by SQLite's own backup, so that a copy is consistent. The main database
comes first: a document that is added meanwhile is then in the vectors and not in the list, which
does no harm.
"""

from __future__ import annotations

import shutil
import sqlite3
import sys
import tarfile
import tempfile
import time
from contextlib import closing
from pathlib import Path

DATA = Path("/data")
PEOPLE, VECTORS = Path("webui.db"), Path("vector_db")
UPLOADS = Path("uploads")
TRIES = 20
EMPTY = 4
TABLES = {"people": "user", "conversations": "chat", "documents": "file"}  # Open WebUI's names


def counts(database: Path, access: str = "mode=rw") -> dict[str, int]:
    """The number of rows in each of TABLES; 0 for a missing table or database. Raises sqlite3.Error
    for a file that is not a database.

    access: "immutable=1" for a copy that nothing writes to; it may be on a share without locks.
    """
    if not database.exists():
        return dict.fromkeys(TABLES, 0)
    with closing(
        sqlite3.connect(f"{database.resolve().as_uri()}?{access}", uri=True, timeout=60)
    ) as found:
        there = {
            row[0] for row in found.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        }
        asked = {
            what: f'SELECT count(*) FROM "{table}"'
            for what, table in TABLES.items()
            if table in there
        }
        return {
            what: found.execute(asked[what]).fetchone()[0] if what in asked else 0
            for what in TABLES
        }


def copy_database(source: Path, target: Path) -> None:
    """Raises ValueError for a copy that SQLite finds faulty, and for a missing source: SQLite
    would create an empty one."""
    if not source.exists():
        raise ValueError(f"there is no {source.name}")
    target.parent.mkdir(parents=True, exist_ok=True)
    here, there = sqlite3.connect(source, timeout=60), sqlite3.connect(target)
    try:
        here.backup(there)
        found = there.execute("PRAGMA quick_check").fetchone()[0]
    finally:
        here.close()
        there.close()
    if found != "ok":
        raise ValueError(f"{source.name}: {found}")


def is_empty(database: Path) -> bool:
    """Whether there are no accounts. A database that SQLite cannot read is damaged, not empty."""
    try:
        return not counts(database)["people"]
    except sqlite3.DatabaseError:
        return False


def marks(folder: Path) -> dict[str, tuple[int, int]]:
    found = ((path, path.stat()) for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): (stat.st_size, stat.st_mtime_ns) for path, stat in found}


def copy_vectors(source: Path, target: Path) -> None:
    """Copies the database and the index files beside it at a moment when no index file changes."""
    for _ in range(TRIES):
        shutil.rmtree(target, ignore_errors=True)
        before = marks(source)
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("*.sqlite3*"))
        for database in source.glob("*.sqlite3"):
            copy_database(database, target / database.name)
        if kept(before) == kept(marks(source)):
            return
        time.sleep(1)
    raise ValueError("the vectors changed during every attempt to copy them")


def kept(found: dict[str, tuple[int, int]]) -> dict[str, tuple[int, int]]:
    return {name: mark for name, mark in found.items() if ".sqlite3" not in name}


def pack(data: Path, tar: tarfile.TarFile) -> None:
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        copy_database(data / PEOPLE, copy / PEOPLE)
        if (data / VECTORS).is_dir():
            copy_vectors(data / VECTORS, copy / VECTORS)
        for name in sorted(path.relative_to(copy) for path in copy.rglob("*") if path.is_file()):
            tar.add(copy / name, str(name))
    for path in sorted((data / UPLOADS).rglob("*")):
        if path.is_file():
            tar.add(path, str(path.relative_to(data)))


def sizes(data: Path) -> tuple[int, int]:
    """Bytes of databases and vectors, which pack needs once more while it runs, and bytes of
    uploads."""
    databases = sum(path.stat().st_size for path in data.glob(f"{PEOPLE}*"))
    vectors, uploads = (
        sum(size for size, _ in marks(data / name).values()) for name in (VECTORS, UPLOADS)
    )
    return databases + vectors, uploads


def unpack(data: Path, tar: tarfile.TarFile) -> None:
    """Removes the old data first: a leftover journal of another database would corrupt the new
    one."""
    for path in data.iterdir():
        if path.name == UPLOADS.name or path.name == VECTORS.name:
            shutil.rmtree(path)
        elif path.name.startswith(PEOPLE.name):
            path.unlink()
    for member in tar:
        put_back(data, tar, member)


def put_back(data: Path, tar: tarfile.TarFile, member: tarfile.TarInfo) -> None:
    """Raises ValueError for anything except a file inside the folder. Not by tarfile's
    extraction filter, which Debian 12's Python does not have."""
    target, content = (data / member.name).resolve(), tar.extractfile(member)
    if content is None or not target.is_relative_to(data.resolve()):
        raise ValueError(f"{member.name} is not a file of a chat's data")
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("wb") as file:
        shutil.copyfileobj(content, file)


def main(verb: str) -> int:
    if verb == "look":
        return EMPTY if is_empty(DATA / PEOPLE) else 0
    if verb == "sizes":
        print(*sizes(DATA))
    elif verb == "pack":
        with tarfile.open(fileobj=sys.stdout.buffer, mode="w|") as tar:
            pack(DATA, tar)
    else:
        with tarfile.open(fileobj=sys.stdin.buffer, mode="r|") as tar:
            unpack(DATA, tar)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
