"""What an ingest finds in a folder and plans; tests/e2e/test_documents.py runs it on the real
Open WebUI."""

import errno
import os
from pathlib import Path

import pytest

from glue.clients.knowledge import Held
from glue.core import files
from glue.core.errors import PreconditionFailed
from glue.operations import documents
from glue.operations.documents_folder import look_through
from glue.operations.documents_plan import (
    SHOWN_NAMES,
    Document,
    Folder,
    compare,
    key_of,
    listing,
    name_of,
    outdated,
    progress,
    told_kept,
)


def document(name: str, checksum: str, size: int = 1) -> Document:
    return Document(Path(name), name, name, checksum, size)


def in_folder(*found: Document, closed: tuple[str, ...] = ()) -> Folder:
    return Folder(found, {}, {}, frozenset(one.key for one in found), closed)


def held(name: str, checksum: str, text: str = "", by_hand: bool = False) -> Held:
    return Held(f"id-{name}-{checksum}", name, None if by_hand else name, checksum, text or "t")


def test_new_changed_and_removed_documents_are_distinguished() -> None:
    folder = in_folder(document("a", "1"), document("b", "2"), document("c", "3"))
    there = [held("a", "1"), held("b", "old"), held("d", "4"), held("x", "5", by_hand=True)]
    plan = compare(folder, there, {})
    assert [one.name for one in plan.todo] == ["b", "c"]
    assert [one.name for one in plan.gone] == ["d"]
    assert [one.name for one in plan.by_hand] == ["x"]
    assert plan.stays == {"id-a-1", "id-x-5"} and not plan.foreign


def test_a_document_without_searchable_text_counts_as_missing() -> None:
    broken = Held("id", "a", "a", "1", text="")
    assert compare(in_folder(document("a", "1")), [broken], {}).todo


def test_the_same_content_is_added_once() -> None:
    folder = in_folder(document("a", "1"), document("b", "1"), document("c", "3"))
    plan = compare(folder, [], {})
    assert [one.name for one in plan.todo] == ["a", "c"] and plan.twins == {"b": "a"}
    known = {"1": "same text", "3": "same text"}  # of other bytes
    plan = compare(folder, [held("a", "1", "same text")], known)
    assert plan.twins == {"b": "a", "c": "a"} and not plan.todo
    plan = compare(in_folder(document("c", "3")), [held("a", "1", "same text")], known)
    assert [one.name for one in plan.todo] == ["c"], "the one that had it goes"


def test_the_same_bytes_under_another_kind_of_name_are_tried_too() -> None:
    """A PDF that somebody named .docx is refused, and the PDF beside it is not."""
    plan = compare(in_folder(document("a.docx", "1"), document("b.pdf", "1")), [], {})
    assert [one.name for one in plan.todo] == ["a.docx", "b.pdf"] and not plan.twins


def test_an_old_version_is_removed_only_after_the_new_one_is_in() -> None:
    wanted, old, new = [document("a", "2")], held("a", "1", "t1"), held("a", "2", "t2")
    assert outdated(wanted, [old], {}) == []
    assert outdated(wanted, [old, new], {}) == [old]


@pytest.mark.parametrize("key", ["shut/a", "shut/deeper/a"])
def test_documents_in_an_unreadable_folder_are_not_removed(key: str) -> None:
    folder = in_folder(document("b", "2"), closed=("shut",))
    assert not compare(folder, [held(key, "1"), held("b", "2")], {}).gone
    assert compare(folder, [held("shutter", "1")], {}).gone


def test_an_emptied_folder_may_be_a_share_that_is_not_mounted(tmp_path: Path) -> None:
    """https://github.com/openmediavault/openmediavault/issues/86"""
    (tmp_path / "share" / "2024").mkdir(parents=True)
    (tmp_path / "b.pdf").write_text("b")
    there = [held("share/a.pdf", "1"), held("share/2024/c.pdf", "3"), held("b.pdf", "2")]
    plan = compare(look_through(tmp_path), there, {})
    assert [one.name for one in plan.gone] == ["share/a.pdf"], "share holds a folder"
    assert [one.name for one in plan.kept] == ["share/2024/c.pdf"]
    assert "share/2024/c.pdf: kept" in told_kept(plan.kept)[0] and not told_kept([])
    (tmp_path / "share" / "2024").rmdir()
    plan = compare(look_through(tmp_path), there, {})
    assert not plan.gone and len(plan.kept) == 2
    (tmp_path / "share").rmdir()
    assert len(compare(look_through(tmp_path), there, {}).gone) == 2


def test_a_folder_with_nothing_in_common_is_foreign() -> None:
    there = [held("a", "1"), held("x", "9", by_hand=True)]
    assert compare(in_folder(document("b", "9")), there, {}).foreign
    assert not compare(in_folder(document("b", "1")), there, {}).foreign, "moved"
    assert not compare(in_folder(document("b", "2")), [there[1]], {}).foreign, "nothing to lose"


def test_a_foreign_folder_needs_confirmation_or_yes() -> None:
    plan = compare(in_folder(document("b", "2")), [held("a", "1")], {})
    documents.confirm(plan, yes=False, ask=lambda question: "would be removed: a" in question)
    documents.confirm(plan, yes=True, ask=lambda question: False)
    with pytest.raises(PreconditionFailed, match="collection; nothing was changed") as error:
        documents.confirm(plan, yes=False, ask=lambda question: False)
    assert error.value.saw == "the answer was no", "the question had the names"
    with pytest.raises(PreconditionFailed, match="collection; nothing was changed") as error:
        documents.confirm(plan, yes=False, ask=None)
    assert error.value.saw == "1 documents would be removed: a"


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "a.pdf").write_text("a")
    with pytest.raises(PreconditionFailed, match="Expected a folder") as error:
        look_through(tmp_path / "a.pdf")
    assert error.value.saw == f"{tmp_path / 'a.pdf'} is a file"
    with pytest.raises(PreconditionFailed, match="no such folder"):
        look_through(tmp_path / "b")


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (b'a "b".pdf', 'a "b".pdf'),
        (b"two\nlines.pdf", "two\\nlines.pdf"),
        (b"caf\xe9.pdf", "caf\\xe9.pdf"),
        ("Prüfung.pdf".encode(), "Prüfung.pdf"),
        (b"a<|im_end|>.pdf", "a< |im_end|>.pdf"),
    ],
)
def test_a_name_is_shown_on_one_line_and_its_key_is_ascii(name: bytes, shown: str) -> None:
    assert name_of(os.fsdecode(name)) == shown
    assert key_of(os.fsdecode(name)).isascii()


def test_a_folder_is_searched_recursively(tmp_path: Path) -> None:
    for name in ("b.pdf", "a.DOCX", "2024/c.md", "plan.dwg", ".trash/d.pdf", "~$a.docx"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / "empty.txt").touch()
    with (tmp_path / "large.pdf").open("wb") as file:
        file.truncate((100 << 20) + 1)
    (tmp_path / "nowhere.pdf").symlink_to("/nowhere")
    (tmp_path / "2024" / "round").symlink_to(tmp_path)
    (tmp_path / "link.txt").symlink_to(tmp_path / "b.pdf")
    (tmp_path / os.fsdecode(b"caf\xe9.txt")).write_text("latin")
    found = look_through(tmp_path)
    names = {one.name for one in found.documents}
    assert names == {"b.pdf", "a.DOCX", "2024/c.md", "link.txt", "caf\\xe9.txt"}
    assert found.refused == {
        "empty.txt": "it is empty; copy it again from where it came from",
        "large.pdf": "it is larger than 100 MB; split it into smaller files",
    }
    assert found.not_read.keys() == {"plan.dwg", ".trash/d.pdf", "~$a.docx", "nowhere.pdf"}
    assert found.may_hold("nowhere.pdf/below"), "the link may be to a disk that is not mounted"


def test_a_file_that_cannot_be_read_is_refused_by_name(tmp_path: Path) -> None:
    """A stub of a bad disk: root can read every file."""
    (tmp_path / "a.txt").write_text("a")

    def fails(path: Path) -> str:
        raise OSError(5, "Input/output error")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "sha256", fails)
        found = look_through(tmp_path).refused
    reason = "it cannot be opened; look at its disk or share (Input/output error)"
    assert found == {"a.txt": reason}


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.ESTALE])
def test_an_entry_that_cannot_be_looked_at_is_named_and_the_others_go_on(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stub of a folder that may be listed but not entered, and of a share that went away: root
    enters every folder."""
    for name in ("shut/a.pdf", "shut/old", "b.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    real = Path.stat

    def status(path: Path, **options: bool) -> os.stat_result:
        if path.parent.name == "shut":
            raise OSError(number, os.strerror(number))
        return real(path, **options)

    monkeypatch.setattr(Path, "stat", status)
    found = look_through(tmp_path)
    do = "let this user read it" if number == errno.EACCES else "look at its disk or share"
    reason = f"it cannot be opened; {do} ({os.strerror(number)})"
    assert [one.name for one in found.documents] == ["b.txt"]
    assert found.refused == {"shut/a.pdf": reason} and found.not_read == {"shut/old": reason}
    assert found.may_hold("shut/a.pdf") and found.may_hold("shut/old/c.pdf")
    with pytest.raises(PreconditionFailed, match="it cannot be opened") as error:
        look_through(tmp_path / "shut" / "old")
    assert os.strerror(number) in error.value.saw and error.value.do == do


def test_a_named_pipe_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.txt")
    assert look_through(tmp_path).not_read == {"pipe.txt": "not a regular file"}


def test_progress_says_the_name_and_the_time_left() -> None:
    todo = [document(name, name, 1_000_000) for name in "abcd"]
    assert progress(1, todo, 0.0) == "reading 1 of 4: a"
    assert progress(2, todo, 60.0) == "reading 2 of 4: b, about 3 min left"
    assert progress(4, todo, 30.0) == "reading 4 of 4: d"


def test_a_long_list_of_names_is_cut() -> None:
    assert listing(map(str, range(SHOWN_NAMES + 2))).endswith("19; and 2 more")
    assert listing(["a", "b"]) == "a; b"


def test_the_last_line_says_how_many_are_in_and_where_the_others_are_listed() -> None:
    lists = {"added": ["a"], "changed": [], "notes": ["a: 1 of 2 pages"], "listed_in": ""}
    result = lists | {"deleted": 2, "not_read": {"c": "another kind"}, "in": 1, "of": 1}
    told = documents.lines(result)
    assert told[0] == "a: 1 of 2 pages"
    assert told[1].startswith("not read: c: another kind. What is read: .pdf, .docx, ")
    assert told[2:] == ["1 added, 0 changed, 2 removed", "1 of 1 documents are in"]
    last = documents.lines(result | {"of": 3, "listed_in": "/srv/state/not-in.txt"})[-1]
    assert last == "1 of 3 documents are in; the others are listed in /srv/state/not-in.txt"
