"""Open WebUI's data in and out of its volume, while it runs. Runs inside Open WebUI's image only;
/data is the volume.

    python3 webui_data.py pack      writes a tar of it to stdout
    python3 webui_data.py sizes     prints how many bytes of databases with vectors, and of uploads,
                                    that is
    python3 webui_data.py unpack    replaces it by the tar on stdin
    python3 webui_data.py look      exits 0 if there are people in its database, 4 if there are
                                    none, or no database

The databases are copied by SQLite's own backup, so that a copy is one moment's. The people's
database comes first: a document
that is taken in meanwhile is then in the vectors and not yet in the list, which harms nobody.
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
    """How many of TABLES it holds; 0 where there is no such table, and no database. Raises
    sqlite3.Error for what is none.

    access: "immutable=1" for a copy that nothing writes to, which may lie on a share without locks.
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
    """Raises ValueError for a copy that SQLite finds fault with, and where there is nothing to
    copy: SQLite would make one."""
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
    """A database that SQLite cannot read is damaged, and not empty."""
    try:
        return not counts(database)["people"]
    except sqlite3.DatabaseError:
        return False


def marks(folder: Path) -> dict[str, tuple[int, int]]:
    found = ((path, path.stat()) for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): (stat.st_size, stat.st_mtime_ns) for path, stat in found}


def copy_vectors(source: Path, target: Path) -> None:
    """The database and the index files beside it, of a moment at which no index file changed."""
    for _ in range(TRIES):
        shutil.rmtree(target, ignore_errors=True)
        before = marks(source)
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("*.sqlite3*"))
        for database in source.glob("*.sqlite3"):
            copy_database(database, target / database.name)
        if kept(before) == kept(marks(source)):
            return
        time.sleep(1)
    raise ValueError("the vectors never stood still")


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
    """Bytes of databases and vectors, which pack holds once more while it runs, and bytes of
    uploads."""
    databases = sum(path.stat().st_size for path in data.glob(f"{PEOPLE}*"))
    vectors, uploads = (
        sum(size for size, _ in marks(data / name).values()) for name in (VECTORS, UPLOADS)
    )
    return databases + vectors, uploads


def unpack(data: Path, tar: tarfile.TarFile) -> None:
    """What was there goes first: a leftover journal of another database would spoil the new one."""
    for path in data.iterdir():
        if path.name == UPLOADS.name or path.name == VECTORS.name:
            shutil.rmtree(path)
        elif path.name.startswith(PEOPLE.name):
            path.unlink()
    for member in tar:
        put_back(data, tar, member)


def put_back(data: Path, tar: tarfile.TarFile, member: tarfile.TarInfo) -> None:
    """Raises ValueError for anything but a file inside the folder. By hand: Debian 12's Python has
    no extraction filter yet."""
    target, content = (data / member.name).resolve(), tar.extractfile(member)
    if content is None or not target.is_relative_to(data.resolve()):
        raise ValueError(f"{member.name} is no file of a chat's data")
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
