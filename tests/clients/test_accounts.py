"""glue's own account. The chat is a stub that answers as Open WebUI 0.12.4 did when it was asked;
tests/e2e/test_people.py has the real one."""

import json
import sqlite3
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

import admin_password
from glue.clients import open_webui, webui_accounts
from glue.clients.open_webui import SERVICE_EMAIL
from glue.clients.webui_accounts import NoAccount, administrator
from glue.clients.webui_connection import Connection, Refused
from glue.core.errors import GlueError
from glue.core.services import Service
from glue.core.settings import Settings

ADMIN, PASSWORD = "admin@spark.local", "from-secrets.env"  # pragma: allowlist secret
CHAT = Service("open-webui", "running", "healthy")


class Chat:
    """Accounts by e-mail address: password and role. A token is the address. status: of all
    answers, if it is not 0."""

    def __init__(self) -> None:
        self.accounts = {ADMIN: {"password": PASSWORD, "role": "admin"}}
        self.sign_ins: list[str] = []
        self.status = 0

    def call(self, asked: Connection, method: str, path: str, **more: Any) -> Any:
        form = more.get("json", {})
        if self.status:
            raise self.refused(self.status)
        if path == "/api/v1/auths/signin":
            return self.sign_in(form["email"], form["password"])
        if self.account(asked).get("role") != "admin":
            raise self.refused(401)
        if path.startswith("/api/v1/users/?query="):
            return {"users": [{"id": one, "email": one} for one in self.accounts]}
        email = form["email"]
        assert path == ("/api/v1/auths/add" if email not in self.accounts else user_path(email))
        self.accounts[email] = {"password": form["password"], "role": form["role"]}
        return None

    def sign_in(self, email: str, password: str) -> dict[str, str]:
        self.sign_ins.append(email)
        found = self.accounts.get(email)
        if found is None or found["password"] != password:
            raise self.refused(400)
        return {"email": email, "role": found["role"], "token": email}

    def account(self, asked: Connection) -> dict[str, str]:
        email = str(asked.session.headers.get("Authorization")).removeprefix("Bearer ")
        return {"email": email} | self.accounts[email] if email in self.accounts else {}

    def refused(self, status: int) -> Refused:
        answer = SimpleNamespace(status_code=status, text="no", json=lambda: {"detail": "no"})
        return Refused("it", cast(Any, answer))


def user_path(email: str) -> str:
    return f"/api/v1/users/{email}/update"


@pytest.fixture
def chat(monkeypatch: pytest.MonkeyPatch) -> Chat:
    found = Chat()
    monkeypatch.setattr(Connection, "call", lambda *asked, **more: found.call(*asked, **more))
    monkeypatch.setattr(Connection, "account", lambda asked: found.account(asked))
    return found


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    values = {"WEBUI_ADMIN_EMAIL": ADMIN, "WEBUI_ADMIN_PASSWORD": PASSWORD}
    values |= {"WEBUI_SECRET_KEY": "k" * 24, "STATE_DIR": str(tmp_path)}
    return Settings("rehearsal", values | {"CHAT_ADDRESS": "127.0.0.1", "CHAT_PORT": "9"}, {})


def test_the_account_is_made_once_and_its_token_is_kept(chat: Chat, settings: Settings) -> None:
    assert administrator(settings).user["email"] == SERVICE_EMAIL
    assert (settings.state / webui_accounts.TOKEN).stat().st_mode & 0o777 == 0o600
    asked = len(chat.sign_ins)
    administrator(settings)
    assert len(chat.sign_ins) == asked


def test_the_administrator_s_password_is_not_needed_again(chat: Chat, settings: Settings) -> None:
    administrator(settings)
    chat.accounts[ADMIN]["password"] = "changed in the page"  # pragma: allowlist secret
    (settings.state / webui_accounts.TOKEN).unlink()
    del chat.sign_ins[:]
    administrator(settings)
    assert chat.sign_ins == [SERVICE_EMAIL]


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda accounts: accounts.pop(SERVICE_EMAIL), id="deleted, or another chat"),
        pytest.param(lambda accounts: accounts[SERVICE_EMAIL].update(role="user"), id="demoted"),
        pytest.param(lambda accounts: accounts[SERVICE_EMAIL].update(password="p"), id="password"),
    ],
)
def test_an_account_that_people_changed_is_made_anew(
    change: Any, chat: Chat, settings: Settings
) -> None:
    administrator(settings)
    change(chat.accounts)
    (settings.state / webui_accounts.TOKEN).write_text("of another chat")
    assert administrator(settings).user["role"] == "admin"
    assert chat.accounts[SERVICE_EMAIL]["password"] == webui_accounts.password(settings)


@pytest.mark.parametrize(
    "changed",
    [{"password": "changed"}, {"role": "user"}],  # pragma: allowlist secret
)  # pragma: allowlist secret
def test_where_neither_account_works_it_is_said_what_to_do(
    changed: dict[str, str], chat: Chat, settings: Settings
) -> None:
    chat.accounts[ADMIN] |= changed
    with pytest.raises(NoAccount) as error:
        administrator(settings)
    assert str(settings.secrets_file) in error.value.do and "make admin-password" in error.value.do
    words, do = webui_accounts.fault(CHAT, lambda: administrator(settings))
    assert webui_accounts.NO_ACCOUNT in words and do == error.value.do


@pytest.mark.parametrize("status", [429, 500])
def test_a_chat_that_is_busy_or_broken_says_nothing_about_passwords(
    status: int, chat: Chat, settings: Settings
) -> None:
    chat.status = status
    with pytest.raises(GlueError) as error:
        administrator(settings)
    assert not isinstance(error.value, NoAccount)
    assert webui_accounts.fault(CHAT, lambda: administrator(settings)) == ("", "")


def test_a_chat_that_does_not_run_is_not_asked() -> None:
    assert webui_accounts.fault(None, cast(Any, None)) == ("", "")


def test_the_password_is_one_that_open_webui_and_bcrypt_take(settings: Settings) -> None:
    found = webui_accounts.password(settings)
    assert len(found) == 68 and len(found.encode()) <= 72
    kinds = (str.isupper, str.islower, str.isdigit, lambda c: not c.isalnum())
    assert all(any(map(kind, found)) for kind in kinds)
    other = Settings("rehearsal", settings.values | {"WEBUI_SECRET_KEY": "o" * 24}, {})
    assert webui_accounts.password(other) != found


def test_glue_is_not_listed_among_the_people(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = {"users": [{"email": SERVICE_EMAIL}, {"email": "mia@x"}]}
    monkeypatch.setattr(Connection, "call", lambda *_: rows)
    assert open_webui.WebUI("").people() == [{"email": "mia@x"}]


def test_ratings_are_deleted_only_of_an_account_that_is_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A stub: the chat's answers by path."""
    asked: list[str] = []
    answers = {
        "/api/v1/users/all": {"users": [{"id": "mia", "email": "mia@x"}]},
        "/api/v1/evaluations/feedbacks/all/ids": [
            {"id": "1", "user_id": "mia"},
            {"id": "2", "user_id": "gone"},
        ],
    }

    def call(_: Connection, method: str, path: str) -> Any:
        asked.append(f"{method} {path}")
        return answers.get(path)

    monkeypatch.setattr(Connection, "call", call)
    person = open_webui.WebUI("")
    assert [person.delete_ratings_of_deleted(one) for one in ("mia", "gone")] == [0, 1]
    deleted = [line for line in asked if line.startswith("DELETE")]
    assert deleted == ["DELETE /api/v1/evaluations/feedback/2"]


def test_a_forgotten_password_is_reset_in_the_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """bcrypt is in Open WebUI's image only; a stub stands for it."""
    stub = SimpleNamespace(gensalt=lambda: b"", hashpw=lambda text, salt: b"hashed " + text)
    monkeypatch.setitem(sys.modules, "bcrypt", cast(Any, stub))
    database = str(tmp_path / "webui.db")
    with sqlite3.connect(database) as people:
        people.execute("CREATE TABLE auth (email TEXT, password TEXT)")
        people.execute('CREATE TABLE "user" (email TEXT, role TEXT)')
        people.executemany("INSERT INTO auth VALUES (?, 'old')", [(ADMIN,), (SERVICE_EMAIL,)])
        rows = [(ADMIN, "admin"), (SERVICE_EMAIL, "admin"), ("mia@x", "user")]
        people.executemany('INSERT INTO "user" VALUES (?, ?)', rows)
    assert "has the password" in admin_password.reset(database, "Admin@spark.local", "new")
    with sqlite3.connect(database) as people:
        found = dict(people.execute("SELECT email, password FROM auth"))
    assert found == {ADMIN: "hashed new", SERVICE_EMAIL: "old"}, json.dumps(found)
    with pytest.raises(LookupError, match=f"administrators are: {ADMIN}\\. Set WEBUI_ADMIN_EMAIL"):
        admin_password.reset(database, "boss@spark.local", "new")
