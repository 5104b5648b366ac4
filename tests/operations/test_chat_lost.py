"""A lost chat is not an empty chat. The volume is a folder, and Docker is a list of names."""

import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from glue.clients import chat_volume
from glue.clients.docker import VOLUMES, Stacks
from glue.clients.site import Site
from glue.core import journal
from glue.core.errors import DayNotServing, PreconditionFailed
from glue.core.services import Service
from glue.core.settings import SECRETS
from glue.operations import backup, restore, setup
from glue.serving import day, model, status
from tests.operations.kept_site import NoStacks, make_site, volume_is, with_settings, write_chat


@pytest.fixture
def volume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The chat's volume with accounts in it."""
    data = tmp_path / "volume"
    data.mkdir()
    write_chat(data / "webui.db")
    volume_is(data, monkeypatch)
    return data


@pytest.fixture
def site(tmp_path: Path, volume: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """A site that has served its chat and made a backup."""
    found = replace(make_site(tmp_path, monkeypatch), stacks=cast(Stacks, NoStacks()))
    journal.record(found.state, event="day", phase="done")
    backup.backup(found)
    return found


def without_volume(site: Site) -> Site:
    return replace(site, stacks=cast(Stacks, NoStacks(volumes=())))


def empty(database: Path) -> None:
    database.unlink()


def without_content(database: Path) -> None:
    database.write_bytes(b"")


def without_people(database: Path) -> None:
    with sqlite3.connect(database) as opened:
        opened.execute('DELETE FROM "user"')


def test_an_existing_chat_is_not_lost(site: Site) -> None:
    assert chat_volume.lost(site.settings, site.stacks) == ""
    chat_volume.require_not_lost(site.settings, site.stacks)


@pytest.mark.parametrize("how", [empty, without_content, without_people])
def test_an_empty_volume_is_a_lost_chat_and_no_backup_is_made(
    how: object, site: Site, volume: Path
) -> None:
    how(volume / "webui.db")  # type: ignore[operator]
    made = backup.there(site)
    for verb in (lambda: day.take_over(site), lambda: backup.backup(site)):
        with pytest.raises(DayNotServing, match="the chat is gone") as error:
            verb()
        assert (
            f"make restore FROM={made[-1]}" in error.value.do
            and "2 people, 3 conversations" in error.value.do
        )
        assert "make day NEW=1" in error.value.do
    assert backup.there(site) == made


def test_checking_a_missing_volume_does_not_create_it(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chat_volume, "is_empty", lambda settings: 1 / 0)  # docker run would make it
    assert "holds no chat" in chat_volume.lost(
        without_volume(site).settings, without_volume(site).stacks
    )


def test_a_damaged_database_and_one_that_cannot_be_read_count_as_a_chat(
    site: Site, volume: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (volume / "webui.db").write_bytes(b"SQLite format 3\0" + bytes(5000))
    assert chat_volume.lost(site.settings, site.stacks) == ""
    monkeypatch.setattr(
        chat_volume, "command", lambda settings, verb: ["false"]
    )  # as Docker on a full disk
    assert chat_volume.lost(site.settings, site.stacks) == ""


def test_an_empty_volume_before_the_first_day_is_normal(site: Site, volume: Path) -> None:
    (site.state / "journal.jsonl").unlink()
    empty(volume / "webui.db")
    assert chat_volume.lost(site.settings, site.stacks) == ""


def test_new_1_replaces_a_lost_chat_and_leaves_an_existing_one(site: Site, volume: Path) -> None:
    chat_volume.begin_anew(site.settings, site.stacks)
    assert (volume / "webui.db").exists() and not journal.chat_is_new(site.state)
    gone = without_volume(site)
    empty(volume / "webui.db")
    chat_volume.begin_anew(gone.settings, gone.stacks)
    assert gone.stacks.missing_volumes("webui-data") == ()
    assert chat_volume.lost(gone.settings, gone.stacks) == "" and journal.chat_is_new(site.state)
    journal.record(site.state, event="day", phase="done")
    assert chat_volume.lost(gone.settings, gone.stacks), "once it was served it can be lost again"


def test_a_day_creates_only_the_cache_volume(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = without_volume(site)
    monkeypatch.setattr(model, "wait_for_memory", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        day.start_services(gone)
    assert gone.stacks.missing_volumes(*VOLUMES) == ("models", "webui-data", "trainer-cache")


def test_a_restore_creates_only_the_chat_volume(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone, made = without_volume(site), backup.there(site)[-1]
    monkeypatch.setattr(chat_volume, "fill", lambda *_: None)
    restore.restore(gone, made, replace=True)
    assert gone.stacks.missing_volumes(*VOLUMES) == ("models", "serving-cache", "trainer-cache")


def test_a_running_chat_is_not_inspected(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        NoStacks, "services", lambda *_: {"open-webui": Service("open-webui", "running")}
    )
    monkeypatch.setattr(chat_volume, "is_empty", lambda settings: 1 / 0)
    assert chat_volume.lost(without_volume(site).settings, without_volume(site).stacks) == ""


def test_status_names_a_lost_chat(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(NoStacks, "trainer", lambda self: None, raising=False)
    monkeypatch.setattr(status, "overdue", lambda *_: ["another"])
    assert status.status(site)["overdue"] == ["another"]
    told = status.status(without_volume(site))["overdue"]
    assert "holds no chat" in told[0] and told[1:] == ["another"]


def test_status_reports_undelivered_messages_of_configured_channels_only(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(NoStacks, "trainer", lambda self: None, raising=False)
    journal.record(
        site.state, event="message", way="NOTIFY_WEBHOOK", result="failed", reason="HTTP 404"
    )
    assert status.status(site)["overdue"] == []
    told = status.status(with_settings(site, NOTIFY_WEBHOOK="https://chat.example.org/hook"))[
        "overdue"
    ]
    assert told == ["NOTIFY_WEBHOOK: the last message did not arrive: HTTP 404"]


# ---------------------------------------------------------------------- the other way round: the
# state folder is lost


def with_secrets(site: Site, *names: str) -> Site:
    values = {key: value for key, value in site.settings.values.items() if key not in SECRETS}
    return replace(
        site,
        settings=replace(
            site.settings, values=values | dict.fromkeys(names, "a secret of the test")
        ),
    )


def test_setup_writes_no_new_secrets_for_an_existing_chat(site: Site, volume: Path) -> None:
    with pytest.raises(PreconditionFailed, match="secrets of this chat are missing") as error:
        setup.require_its_secrets(with_secrets(site))
    assert "STATE_DIR" in error.value.do and "make restore REPLACE=1" in error.value.do
    setup.require_its_secrets(with_secrets(site, "WEBUI_ADMIN_PASSWORD"))
    setup.require_its_secrets(with_secrets(without_volume(site)))
    empty(volume / "webui.db")
    setup.require_its_secrets(with_secrets(site))
