"""What an ingest does when Open WebUI dies, hangs or has a full disk. A stub answers like it;
tests/e2e has the real one."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import requests

from glue.clients import knowledge
from glue.clients.site import Site
from glue.clients.webui_connection import Refused, TooSlow
from glue.core.errors import GlueError
from glue.operations import documents
from glue.operations import documents_take_in as taking
from glue.operations.documents_folder import look_through
from glue.operations.documents_plan import compare
from glue.operations.documents_take_in import MOST_DEATHS, MOST_TRIES, NOTES, Run


class Chat:
    """The stub. fails: the first letter of a document's text -> what its reading raises."""

    def __init__(self, fails: dict[str, Exception], comes_back: bool = True) -> None:
        self.fails, self.comes_back, self.alive = fails, comes_back, True
        self.linked: list[str] = []

    def call(self, method: str, path: str, *_: object, **body: Any) -> Any:
        if path == "/ready":
            self.alive = self.alive or self.comes_back
        if not self.alive:
            raise GlueError("Open WebUI did not answer", "Connection refused", "make logs")
        if path.startswith("/api/v1/files/?"):
            return {"id": body["data"]["metadata"]}
        if path.endswith("/process/file"):
            return self.read(body["json"]["content"])
        if path.endswith("/file/add"):
            self.linked.append(json.loads(body["json"]["file_id"])["ingest_path"])
        return None

    def read(self, text: str) -> dict[str, str]:
        failure = self.fails.get(text[0])
        if failure is not None:
            self.alive = isinstance(failure, Refused | TooSlow)
            raise failure
        return {"content": text}


def refused(reason: str, status: int = 400) -> Refused:
    response = requests.Response()
    response.status_code = status
    response._content = json.dumps({"detail": reason}).encode()
    return Refused("POST", response)


DEATH = GlueError("Open WebUI did not answer", "Remote end closed connection", "make logs")
SLOW = TooSlow("Open WebUI did not answer", "Read timed out.", "make logs")


def ingest(chat: Chat, folder: Path, state: Path) -> Run:
    settings = {"EMBEDDING_MODEL": "e"}
    told: list[str] = []
    facts = SimpleNamespace(settings=settings, state=state, tell=told.append, told=told)
    site = cast(Site, facts)
    notes = json.loads((state / NOTES).read_text()) if (state / NOTES).exists() else {}
    tries = notes.get("tries", {})
    run = Run(site, cast(Any, chat), "k", {}, frozenset(), {}, set(), tries=tries)
    found = look_through(folder)
    plan = compare(found, [], {})
    documents.announce(run, plan, found)
    taking.take_in_all(run, plan)
    taking.remember(run)
    return run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "docs").mkdir()
    for name in "abcd":
        (tmp_path / "docs" / f"{name}.txt").write_text(name)
    return tmp_path / "docs"


@pytest.mark.parametrize(
    ("failure", "words"),
    [(DEATH, "Open WebUI stopped while it read it"), (SLOW, "did not finish it within 600 s")],
)
def test_a_file_that_open_webui_does_not_survive_does_not_keep_out_the_others(
    failure: Exception, words: str, folder: Path, tmp_path: Path
) -> None:
    """https://github.com/open-webui/open-webui/issues/8264"""
    chat = Chat({"b": failure})
    for _ in range(MOST_TRIES):
        run = ingest(chat, folder, tmp_path)
        assert list(run.refused) == ["b.txt"] and words in run.refused["b.txt"]
    assert chat.linked == ["a.txt", "c.txt", "d.txt"] * MOST_TRIES
    words = ingest(chat, folder, tmp_path).refused["b.txt"]
    assert f"failed at it {MOST_TRIES} times" in words and words.endswith(f"rm {tmp_path / NOTES}")
    (folder / "b.txt").write_text("better")
    chat.fails = {}
    assert not ingest(chat, folder, tmp_path).refused


def test_one_death_alone_is_forgotten(folder: Path, tmp_path: Path) -> None:
    ingest(Chat({"b": DEATH}), folder, tmp_path)
    assert not ingest(Chat({}), folder, tmp_path).tries


def test_an_open_webui_that_stays_away_or_dies_at_every_file_ends_the_run(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(taking, "STARTS_SECONDS", 0.01)
    with pytest.raises(GlueError, match="stopped answering; 1 of 4"):
        ingest(Chat({"b": DEATH}, comes_back=False), folder, tmp_path)
    assert len(json.loads((tmp_path / NOTES).read_text())["tries"]) == 1, "it is not forgotten"
    (tmp_path / NOTES).unlink()
    with pytest.raises(GlueError, match="stopped answering; 0 of 4"):
        ingest(Chat(dict.fromkeys("abcd", DEATH)), folder, tmp_path)
    assert len(json.loads((tmp_path / NOTES).read_text())["tries"]) == MOST_DEATHS


@pytest.mark.parametrize("reason", ["[Errno 28] No space left on device", "disk is full"])
def test_a_full_disk_is_not_the_files_fault(reason: str, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(GlueError, match="disk is full; 1 of 4 new documents are in") as error:
        ingest(Chat({"b": refused(reason)}), folder, tmp_path)
    assert "make doctor" in error.value.do


def test_a_refused_file_is_not_counted(folder: Path, tmp_path: Path) -> None:
    run = ingest(Chat({"b": refused("not a PDF")}), folder, tmp_path)
    assert list(run.refused) == ["b.txt"] and not run.tries


def test_each_refusal_is_told_once_and_all_are_listed(folder: Path, tmp_path: Path) -> None:
    (folder / "copy-of-b.txt").write_text("b")
    (folder / "empty.txt").touch()
    run = ingest(Chat({"b": refused("not a PDF")}), folder, tmp_path)
    told = [one for one in cast(Any, run.site).told if one.startswith("not in: ")]
    names = ["b.txt", "copy-of-b.txt", "empty.txt"]
    assert sorted(one.split(": ")[1] for one in told) == names
    listed = Path(documents.list_refused(run))
    assert listed.read_text().splitlines() == sorted(one.removeprefix("not in: ") for one in told)
    assert listed.stat().st_mode & 0o777 == 0o600, "names of documents"
    run.refused.clear()
    assert documents.list_refused(run) == "" and not listed.exists()


def test_a_file_that_goes_away_meanwhile_is_refused_in_plain_words(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def goes_away(path: Path) -> None:
        raise FileNotFoundError(2, "No such file or directory", str(path))

    monkeypatch.setattr(taking, "text_of", goes_away)
    refusal = ingest(Chat({}), folder, tmp_path).refused["b.txt"]
    assert refusal == ("it cannot be opened; look at its disk or share (No such file or directory)")


@pytest.mark.parametrize("status", [401, 403])
def test_an_account_without_access_ends_the_run_at_once(
    status: int, folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(GlueError, match="account access; 1 of 4") as error:
        ingest(Chat({"b": refused("Not authenticated", status)}), folder, tmp_path)
    assert str(status) in error.value.saw and "make doctor" in error.value.do


@pytest.mark.parametrize("status", [500, 502, 503])
def test_a_server_error_at_a_second_file_ends_the_run(
    status: int, folder: Path, tmp_path: Path
) -> None:
    failure = refused("Internal Server Error", status)
    with pytest.raises(GlueError, match="server errors; 1 of 4") as error:
        ingest(Chat(dict.fromkeys("bcd", failure)), folder, tmp_path)
    assert str(status) in error.value.saw and error.value.do.startswith("make logs")
    assert not json.loads((tmp_path / NOTES).read_text())["tries"], "no file is given up"


def test_skip_bad_accepts_a_bad_file_and_no_server_error(folder: Path, tmp_path: Path) -> None:
    bad = ingest(Chat({"b": refused("not a PDF")}), folder, tmp_path)
    assert not documents.is_incomplete(bad, [], skip_bad=True)
    assert documents.is_incomplete(bad, [], skip_bad=False)
    chat = Chat({"b": refused("Internal Server Error", 500)})
    failed = ingest(chat, folder, tmp_path)
    assert "500" in failed.refused["b.txt"] and chat.linked == ["a.txt", "c.txt", "d.txt"]
    assert documents.is_incomplete(failed, [], skip_bad=True)


def test_a_large_file_gets_more_time() -> None:
    deadline = knowledge.deadline_seconds
    assert deadline(0) == 600 and deadline(100 << 20) > 4000
