"""Forgotten examples are removed from every data set on disk, and the adapters that saw them are
still known."""

import json
import shutil
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from glue.clients import jobs
from glue.clients.adapter_store import AdapterStore
from glue.clients.site import Site
from glue.core import files, names
from glue.core.errors import GlueError, PreconditionFailed
from glue.operations import forget as forgetting
from glue.operations import notes, restore, setup
from learning.dataset import build, card, forget, passages, split
from learning.dataset import files as dataset_files
from learning.dataset.passages import Passage
from learning.dataset.prepare import Masked, Prepared
from learning.examples import Dataset, Example, Message, Origin, Preference
from tests.learning import on_host


def example(chat: str, user: str) -> Example:
    origin = Origin("rated answer", chat, user, f"r-{chat}", f"m-{chat}")
    return Example(
        (Message("user", f"Asked in {chat}?"),),
        f"Said to {user} in {chat}.",
        f"rating r-{chat}",
        chat,
        origin,
    )


ROWS = (example("chat-1", "user-1"), example("chat-2", "user-1"), example("chat-3", "user-2"))


CHAT_1 = {names.hashed("chat", "chat-1")}


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """A state folder with one night's data set and its adapter."""
    monkeypatch.setattr(jobs, "run", on_host.run_offline)
    pair = Preference(
        ROWS[0].prompt, "Said to user-1 in chat-1.", "no", "regenerated answer", "", ROWS[0].origin
    )
    ready = Prepared(ROWS, (pair,), (Masked("phone", "answer", 3, 9, ROWS[0].origin),), {}, 0)
    built = Dataset(ROWS[:2], ROWS[2:], ())
    night = tmp_path / "nights" / "20260101T000000Z"
    dataset_files.write(night / "dataset", ready, built, card.card(ready, built, {}, 3, 3), "night")
    (night / "scratch").mkdir()
    for left in ("report.html", "said.json", "scratch/train.arrow"):
        files.write(night / left, "Said to user-1 in chat-1.")
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (adapter / name).write_text("{}")
    store = AdapterStore(tmp_path / "adapters")
    store.publish(adapter, {"origins": split.origins(built.learned)})
    monkeypatch.setattr(notes, "clear", lambda _: None)  # stubs of the chat
    chat = SimpleNamespace(delete_ratings_of_deleted=lambda account: 0)
    found = SimpleNamespace(state=tmp_path, store=store, administrator=lambda: chat)
    return cast(Site, SimpleNamespace(**vars(found), tell=lambda line: None))


@pytest.mark.parametrize(
    ("what", "value", "gone", "left"),
    [
        ("chat", "chat-1", ["chat-1"], ["chat-2", "chat-3"]),
        ("user", "user-1", ["chat-1", "chat-2"], ["chat-3"]),
    ],
)
def test_forgotten_examples_are_removed_from_files_and_page(
    site: Site, what: str, value: str, gone: list[str], left: list[str]
) -> None:
    done = forgetting.forget(site, what, value)
    everything = "".join(path.read_text() for path in site.state.glob("nights/**/*.*"))
    assert not any(f"in {chat}" in everything for chat in gone)
    assert all(f"in {chat}" in everything for chat in left)
    assert done["rows_removed"] == len(gone) + 2  # and the pair, and the place of what was masked
    assert done["adapters_that_had_seen_it"] == site.store.names() and done["serving"] is None
    facts = json.loads(next(site.state.glob("nights/*/dataset/card.json")).read_text())
    assert facts["forgotten"] == done["rows_removed"]
    assert forgetting.forget(site, what, value)["rows_removed"] == 0


def test_a_note_goes_with_its_chat_and_so_do_other_people_s_examples_that_quote_it(
    site: Site,
) -> None:
    said = {"question": "Asked?", "chat": "chat-1", "user": "user-1"}
    mine = said | {"id": "1", "text": f"Asked?\nA note {'and more ' * 9}of chat-1."}
    withdrawn = said | {"text": "Asked?\nA note that was withdrawn."}
    other = {"id": "2", "text": "Of a term.", "question": "", "chat": "", "user": ""}
    kept = {"notes": [mine, other], "gone": [withdrawn], "seen": "x"}
    files.write_json(site.state / names.NOTES, kept)
    shown = (
        mine["text"],
        mine["text"][8:40],
        withdrawn["text"],
        "Asked?\nA note of another value.",
    )
    named = Passage.named(names.NOTE, "Of a term.")
    quoting = [reading(Passage.named(names.NOTE, text)) for text in shown]
    beside = reading(named, Passage.named("a document", mine["text"][8:40]))
    folder = site.state / "nights" / "20260103T000000Z" / "dataset"
    built = Dataset((*quoting, beside), (), ())
    dataset_files.write(folder, Prepared((), (), (), {}, 0), built, card_of(built), "night")
    done = forgetting.forget(site, "chat", "chat-1")
    left = files.read_json(site.state / names.NOTES, {})
    assert (left["notes"], left["gone"], left["seen"]) == ([other], [], "")
    assert done["datasets"][names.NOTES] == 2
    assert dataset_files.read(folder).train == (beside,)
    assert "withdrawn" not in "".join(path.read_text() for path in folder.iterdir())


def reading(*shown: Passage) -> Example:
    reads = Message("system", passages.rendered(shown))
    return replace(ROWS[2], prompt=(reads, *ROWS[2].prompt))


def card_of(built: Dataset) -> dict[str, Any]:
    return card.card(Prepared((), (), (), {}, 0), built, {}, 2, 2)


def test_an_interrupted_forget_is_finished_by_the_next(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It dies before each of its writes in turn; after the next run no file names the chat."""
    write, count = files.write, 0

    def dying(left: int) -> Any:
        def write_or_die(*arguments: Any, **more: Any) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                raise KeyboardInterrupt
            write(*arguments, **more)

        return write_or_die

    for moment in range(9):
        monkeypatch.setattr(files, "write", dying(moment))
        try:
            forget.remove_named(site.state, CHAT_1)
        except KeyboardInterrupt:
            count += 1
    monkeypatch.setattr(files, "write", write)
    forget.remove_named(site.state, CHAT_1)
    everything = "".join(path.read_text() for path in site.state.glob("nights/**/*.*"))
    assert count >= 3 and "chat-1" not in everything and "chat-2" in everything
    assert (next(site.state.glob("nights/*")) / "dataset" / "page.html").exists()


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x85", "\x0b", "\x1c"])
def test_text_with_any_line_separator_is_shown_and_can_be_forgotten(
    separator: str, site: Site
) -> None:
    folder = site.state / "nights" / "20260102T000000Z" / "dataset"
    row = replace(ROWS[0], answer=f"One line{separator}and another.")
    built = Dataset((row, ROWS[1]), (), ())
    ready = Prepared((row, ROWS[1]), (), (), {}, 0)
    dataset_files.write(folder, ready, built, card.card(ready, built, {}, 2, 2), "night")
    assert "and another." in (folder / "page.html").read_text()
    assert forget.remove_named(site.state, CHAT_1)[str(folder.relative_to(site.state))] == 1
    assert "and another." not in "".join(path.read_text() for path in folder.iterdir())


def test_forget_may_be_repeated_when_nothing_is_left(site: Site) -> None:
    """The chat is a stub: a deleted account with ratings of which nothing was learned."""
    left = [3, 0]
    chat = site.administrator()
    chat.delete_ratings_of_deleted = lambda account: left.pop(0)  # type: ignore[method-assign]
    assert [forgetting.forget(site, "user", "gone")["ratings_deleted"] for _ in range(2)] == [3, 0]


def paraphrased(*rows: Example) -> dict[str, Any]:
    """A row as a night writes it, of the same question by these."""
    way = f"Asked otherwise in {' and '.join(row.origin.chat for row in rows)}?"
    items = [{"way": way, "answered": True}]
    return {"question": "0" * 64, "items": items, "origins": split.origins(rows)}


def test_other_ways_to_ask_go_with_the_chat_or_person_who_asked(site: Site) -> None:
    path = site.state / names.PARAPHRASES
    rows = [paraphrased(*some) for some in (ROWS[:1], ROWS[1:], ROWS[2:])]
    for row in rows:
        files.append_line(path, row, mode=0o600)
    done = forgetting.forget(site, "chat", "chat-1")
    assert done["datasets"][names.PARAPHRASES] == 1 and files.read_lines(path) == rows[1:]
    before = path.stat()
    assert names.PARAPHRASES not in forgetting.forget(site, "chat", "chat-1")["datasets"]
    assert path.stat().st_ino == before.st_ino and before.st_mode & 0o777 == 0o600
    forgetting.forget(site, "user", "user-1")
    assert files.read_lines(path) == rows[2:], "two people asked the same, one is forgotten"
    assert "chat-3" in path.read_text() and "user-2" not in path.read_text()


def test_a_restore_does_not_bring_back_forgotten_examples(site: Site, tmp_path: Path) -> None:
    for row in ROWS[:2]:
        files.append_line(site.state / names.PARAPHRASES, paraphrased(row), mode=0o600)
    backup = tmp_path.parent / f"{tmp_path.name}-backup"
    shutil.copytree(site.state, backup / "state")
    forgetting.forget(site, "chat", "chat-1")
    checksums = {str(path.relative_to(backup)): files.sha256(path) for path in files.listed(backup)}
    restore.put_back_state(site.state, backup, {"links": {}, "sha256": checksums})
    restore.forget_again(site)
    shutil.rmtree(backup)
    everything = "".join(path.read_text() for path in site.state.glob("nights/**/*.*"))
    assert "in chat-1" not in everything and "in chat-2" in everything
    assert files.read_lines(site.state / names.PARAPHRASES) == [paraphrased(ROWS[1])]
    assert forget.forgotten(site.state)(
        {"user_id": "user-1", "meta": {"chat_id": "chat-1"}, "updated_at": 5}
    )


@pytest.mark.parametrize(("what", "known"), [("chat", "rated"), ("user", "dora")])
def test_an_unknown_chat_or_person_is_an_error_each_time(
    what: str, known: str, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The chat is a stub: a rating of chat "rated", and Dora's account."""
    rows = {"items": [{"meta": {"chat_id": "rated"}}, {"meta": None}], "total": 2}
    chat = site.administrator()
    chat.call = lambda *_: rows  # type: ignore[method-assign]
    chat.people = lambda: [{"id": "dora"}]  # type: ignore[method-assign]
    for _ in range(2):
        with pytest.raises(PreconditionFailed, match=f"no such {what} in the ratings, notes") as no:
            forgetting.forget(site, what, "../../etc")
        assert no.value.saw == "'../../etc'" and "make dataset" in no.value.do
    assert forgetting.forget(site, what, known)["rows_removed"] == 0


def test_an_unknown_one_is_an_error_while_the_chat_does_not_answer(site: Site) -> None:
    """It may have ratings that no data set has yet. The chat is a stub."""

    def down() -> Any:
        raise GlueError("Open WebUI did not answer", "refused", "make status")

    closed = cast(Site, SimpleNamespace(**vars(site) | {"administrator": down}))
    for _ in range(2):
        with pytest.raises(GlueError, match="ratings cannot be searched") as error:
            forgetting.forget(closed, "chat", "c9")
        assert "make day" in error.value.do
    is_forgotten = forget.forgotten(site.state)
    assert is_forgotten({"user_id": "u", "meta": {"chat_id": "c9"}, "updated_at": 5})


def test_a_manifest_contains_no_names(site: Site) -> None:
    text = (site.store.folder / site.store.names()[0] / "manifest.json").read_text()
    assert "user-1" not in text and "chat-1" not in text and len(json.loads(text)["origins"]) == 5


def test_a_rating_after_forget_is_new_consent(site: Site) -> None:
    def rating(at: float) -> dict[str, Any]:
        return {"user_id": "user-1", "meta": {"chat_id": "c9"}, "updated_at": at}

    assert not forget.forgotten(site.state)(rating(5))
    forgetting.forget(site, "user", "user-1")
    assert forget.forgotten(site.state)(rating(time.time() - 60))
    assert not forget.forgotten(site.state)(rating(time.time() + 60))


def test_the_shipped_general_examples_are_valid_and_never_overwrite(
    site: Site,
) -> None:
    setup.ensure_general_examples(site)
    rows = build.read_replay(site.state / "replay.jsonl")
    assert len(rows) >= 60 and len({split.fingerprint(row) for row in rows}) == len(rows)
    (site.state / "replay.jsonl").write_text("")
    setup.ensure_general_examples(site)
    assert build.read_replay(site.state / "replay.jsonl") == ()


def test_an_invalid_general_example_is_named_by_file_and_line(tmp_path: Path) -> None:
    (tmp_path / "replay.jsonl").write_text('\n{"completion": [{"content": "a"}]}\n')
    with pytest.raises(PreconditionFailed, match=r"invalid row in replay\.jsonl, line 2") as error:
        build.read_replay(tmp_path / "replay.jsonl")
    assert "KeyError" in error.value.saw and '"completion": [...]}, or remove it' in error.value.do
