import errno
import fcntl
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from glue.clients.adapter_store import AdapterStore
from glue.core import commands, desired_state, files, journal, lock
from glue.core.errors import Locked, PreconditionFailed


@pytest.fixture
def store(tmp_path: Path) -> AdapterStore:
    (tmp_path / "adapters").mkdir()
    return AdapterStore(tmp_path / "adapters")


def publish(store: AdapterStore, content: str) -> str:
    source = store.folder.parent / f"trained-{content}"
    source.mkdir()
    (source / "adapter_config.json").write_text("{}")
    (source / "adapter_model.safetensors").write_text(content)
    return store.publish(source, {"night": content})


def serve(store: AdapterStore, name: str) -> None:
    store.advance(name)


def test_a_release_is_complete_and_its_link_is_relative(store: AdapterStore) -> None:
    name = publish(store, "one")
    assert store.names() == [name]
    assert store.manifest(name)["night"] == "one"
    serve(store, name)
    assert (store.current(), str((store.folder / "current").readlink())) == (name, name)


def test_an_unfinished_release_is_not_listed(store: AdapterStore) -> None:
    (store.folder / ".unfinished-x").mkdir()
    (store.folder / "half").mkdir()
    assert store.names() == []


def test_previous_is_what_served_before_down_to_the_base_model(store: AdapterStore) -> None:
    one, two = publish(store, "one"), publish(store, "two")
    serve(store, one)
    serve(store, two)
    assert store.before()[-1] == one
    store.retreat(store.served()[:-1])
    assert store.before()[-1] is None
    store.retreat(store.served()[:-1])
    with pytest.raises(PreconditionFailed):
        store.before()[-1]


def test_a_crash_between_link_and_list_is_repaired_on_reading(store: AdapterStore) -> None:
    name = publish(store, "one")
    (store.folder / "current").symlink_to(name)
    assert store.served() == [None, name]


def test_on_a_full_disk_no_adapter_is_promoted_and_no_later_rollback_goes_forward(
    store: AdapterStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two, three = (publish(store, content) for content in ("one", "two", "three"))
    serve(store, one)
    serve(store, two)

    def no_room(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr(AdapterStore, "remember", no_room)
        with pytest.raises(OSError, match="No space"):
            store.advance(three)
        assert store.current() == two
        disk.setattr(Path, "symlink_to", no_room)
        store.retreat(store.before())
    assert store.current() == one and store.before()[-1] is None


def test_a_changed_file_is_found(store: AdapterStore) -> None:
    name = publish(store, "one")
    store.verify(name)
    (store.folder / name / "adapter_model.safetensors").write_text("other")
    with pytest.raises(PreconditionFailed, match="do not match its manifest"):
        store.verify(name)


def test_an_unknown_release_is_named(store: AdapterStore) -> None:
    with pytest.raises(PreconditionFailed) as error:
        store.manifest("gone")
    assert "gone" in error.value.saw


HOLDER = """
import sys
from pathlib import Path
from glue.core import lock
with lock.hold(Path(sys.argv[1]), lock.TRAINING, "a night"):
    print("held", flush=True); sys.stdin.read()
"""


def test_a_lock_names_its_holder_and_is_free_when_the_holder_dies(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout and holder.stdout.readline() == "held\n"
        assert lock.held(tmp_path, lock.TRAINING)
        with pytest.raises(Locked) as error, lock.hold(tmp_path, lock.TRAINING, "another"):
            pass
        assert error.value.exit_code == 11
        assert re.fullmatch(rf"a night, since 2.* \(pid {holder.pid}\)", error.value.saw)
        holder.kill()
    (tmp_path / lock.TRAINING).write_text('{"pid": 1, "purp')  # a full disk cut it
    assert lock.holder(tmp_path, lock.TRAINING) == "an unknown command"
    with lock.hold(tmp_path, lock.TRAINING, "after its death"):
        assert lock.held(tmp_path, lock.TRAINING)
    assert not lock.held(tmp_path, lock.TRAINING)


def test_files_that_two_versions_read_during_an_upgrade_keep_their_names() -> None:
    """A night or timer of the old version may hold a lock when the new one starts."""
    names = (lock.TRAINING, lock.UPGRADE, lock.SWITCH, desired_state.FILE)
    assert names == ("night.lock", "upgrade.lock", "glue.lock", "turn.json")


def test_the_journal_has_a_line_before_and_after_and_names_a_failure(tmp_path: Path) -> None:
    with journal.step(tmp_path, "n1", "train"):
        pass
    with pytest.raises(ValueError), journal.step(tmp_path, "n1", "judge"):
        raise ValueError("why")
    rows = files.read_lines(tmp_path / "journal.jsonl")
    assert [(row["step"], row["phase"]) for row in rows] == [
        ("train", "begin"),
        ("train", "done"),
        ("judge", "begin"),
        ("judge", "failed"),
    ]
    assert rows[-1]["reason"] == "ValueError: why"


def test_the_last_night_is_found_behind_a_truncated_line(tmp_path: Path) -> None:
    journal.record(tmp_path, night="n1", outcome="promoted")
    with (tmp_path / "journal.jsonl").open("a") as file:
        file.write('{"night": "n2", "outco')
    found = journal.last_night(tmp_path)
    assert found and found["night"] == "n1"


def test_a_line_truncated_inside_a_character_damages_no_other_line(tmp_path: Path) -> None:
    journal.record(tmp_path, night="n1", outcome="promoted")
    whole = (tmp_path / "journal.jsonl").read_bytes()
    line = json.dumps({"night": "n2", "reason": "█ 9 %"}, ensure_ascii=False).encode()
    for length in range(len(line)):
        (tmp_path / "journal.jsonl").write_bytes(whole + line[:length])
        journal.record(tmp_path, event="day", phase="done")
        assert [
            row.get("night", row.get("event"))
            for row in files.read_lines(tmp_path / "journal.jsonl")
        ] == ["n1", "day"], length


def test_a_file_has_its_mode_before_it_has_content(tmp_path: Path) -> None:
    files.write(tmp_path / "secret", "x", mode=0o600)
    assert (tmp_path / "secret").stat().st_mode & 0o777 == 0o600
    files.write_json(tmp_path / "value.json", {"ä": 1})
    assert json.loads((tmp_path / "value.json").read_text()) == {"ä": 1}
    files.append_line(tmp_path / "kept.jsonl", {"question": "ä"}, mode=0o600)
    assert files.read_lines(tmp_path / "kept.jsonl") == [{"question": "ä"}]
    assert (tmp_path / "kept.jsonl").stat().st_mode & 0o777 == 0o600


def test_signals_are_ignored_only_while_the_day_restarts() -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler) and signal.getsignal(
        signal.SIGINT
    )
    with commands.uninterrupted():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGINT) is before
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


# ---------------------------------------------------------------------- checkpoints


def make_checkpoint(store: AdapterStore, name: str, content: str = "weights") -> None:
    source = store.folder.parent / f"made-{content}"
    source.mkdir()
    (source / "config.json").write_text("{}")
    (source / "model.safetensors").write_text(content)
    store.publish_checkpoint(name, source, {"form": "merged"})


def test_a_checkpoint_serves_only_if_it_exists_is_promoted_and_no_evaluation_runs(
    store: AdapterStore,
) -> None:
    name = publish(store, "one")
    serve(store, name)
    store.serve_as(name, True)
    assert not store.serves_merged(), "there is no checkpoint yet"
    make_checkpoint(store, name)
    assert not store.serves_merged(), "a checkpoint by itself changes nothing"
    store.serve_as(name, True)
    assert store.serves_merged() and store.checkpoint(name)
    store.set_judging(True)
    assert not store.serves_merged() and store.is_merged(name)
    store.set_judging(False)
    store.retreat([None])
    assert not store.serves_merged()


def test_a_changed_checkpoint_is_detected_before_it_serves(
    store: AdapterStore,
) -> None:
    name = publish(store, "one")
    make_checkpoint(store, name)
    store.verify(name, checkpoint=True)
    (store.folder / name / "checkpoint" / "model.safetensors").write_text("other")
    store.verify(name)
    with pytest.raises(PreconditionFailed) as error:
        store.verify(name, checkpoint=True)
    assert "checkpoint/model.safetensors" in error.value.saw


def test_only_the_last_two_adapters_keep_their_checkpoints_and_exports_are_kept(
    store: AdapterStore,
) -> None:
    names = [publish(store, content) for content in ("one", "two", "three", "four")]
    for name in names:
        make_checkpoint(store, name, name[-8:])
        if name != names[0]:  # that one was only exported
            store.serve_as(name, True)
            serve(store, name)
    store.forget_old_checkpoints()
    assert [bool(store.checkpoint(name)) for name in names] == [True, False, True, True]
    assert [store.is_merged(name) for name in names] == [False, False, True, True]
    assert not list(store.folder.glob(".unfinished*"))


def test_a_new_checkpoint_replaces_the_old_one_and_serves_only_on_request(
    store: AdapterStore,
) -> None:
    name = publish(store, "one")
    make_checkpoint(store, name, "old")
    store.serve_as(name, True)
    make_checkpoint(store, name, "new")
    assert (store.folder / name / "checkpoint" / "model.safetensors").read_text() == "new"
    assert not store.is_merged(name)


def test_a_truncated_line_damages_no_later_line(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    files.append_line(path, {"number": 1})
    with path.open("a") as file:
        file.write('{"number": 2, "rea')
    files.append_line(path, {"number": 3})
    assert [row["number"] for row in files.read_lines(path)] == [1, 3]


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_disk_without_file_locks_is_named(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stand-in for the kernel's refusal, which no file system here gives."""
    assert lock.fault(tmp_path) == ""

    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    assert os.strerror(number) in lock.fault(tmp_path)
    with (
        pytest.raises(PreconditionFailed, match="no file locks") as error,
        lock.hold(tmp_path, lock.SWITCH, "a test"),
    ):
        pass
    assert "STATE_DIR" in error.value.do and list(tmp_path.glob(".lock-probe-*")) == []


def test_a_disk_whose_locks_have_no_effect_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fcntl, "flock", lambda *_: None)
    assert "two programs" in lock.fault(tmp_path)
