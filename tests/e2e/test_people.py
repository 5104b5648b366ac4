"""Members and the administrator, on the real Open WebUI."""

import secrets
import time
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from glue.clients import open_webui, webui_accounts
from glue.clients.open_webui import SERVICE_EMAIL, WebUI
from glue.clients.site import Site
from glue.core.names import ASSISTANT, BASE
from glue.machine import doctor
from learning.dataset import as_seen, ratings
from learning.dataset.prompt import PromptForm
from learning.dataset.ratings import Known
from learning.model import rendered
from tests.e2e.conftest import Glue
from tests.learning import on_host

OWN = "Answer only in German and always begin with Ahoi."
QUESTION = "Which code does the lathe have?"
CONTROLS = ("controls", "system_prompt", "params", "valves")


@pytest.fixture
def other_password(site: Site) -> Iterator[None]:
    """The administrator changes the password in the page, and back."""
    settings = site.settings
    old, new = settings["WEBUI_ADMIN_PASSWORD"], secrets.token_urlsafe(24)
    site.administrator()
    change_password(settings, old, new)
    (site.state / webui_accounts.TOKEN).unlink(missing_ok=True)
    yield
    change_password(settings, new, old)


def change_password(settings: Any, old: str, new: str) -> None:
    person = open_webui.sign_in(settings.chat_url, settings["WEBUI_ADMIN_EMAIL"], old)
    form = {"password": old, "new_password": new}
    person.call("POST", "/api/v1/auths/update/password", json=form)


def test_no_verb_needs_the_administrator_s_password(
    site: Site, glue: Glue, other_password: None
) -> None:
    for verb in (["ask", "hello"], ["day"], ["dataset", "build"]):
        done = glue(*verb)
        assert done.returncode == 0, done.stderr[-2000:]
    assert account_check(site) == "ok"


def test_a_deleted_account_is_missed_and_the_day_serves_without_it(
    site: Site, glue: Glue, other_password: None
) -> None:
    person = site.administrator()
    rows = person.call("GET", "/api/v1/users/all")["users"]
    (own,) = (row["id"] for row in rows if row["email"] == SERVICE_EMAIL)
    form = {"role": "user", "name": "?", "email": SERVICE_EMAIL, "profile_image_url": ""}
    person.call("POST", f"/api/v1/users/{own}/update", json=form)
    done = glue("day")
    assert done.returncode == 0 and "make admin-password" in done.stderr + done.stdout
    assert account_check(site) == "warn"
    assert webui_accounts.NO_ACCOUNT in glue("status").stdout


def account_check(site: Site) -> str:
    (found,) = doctor.examine(doctor.observe(site, ("account",)), ("account",))
    return found.grade.value


def test_the_account_is_made_anew_while_the_first_password_works(site: Site) -> None:
    """What the test before left behind, or a chat that was restored or begun anew."""
    (site.state / webui_accounts.TOKEN).write_text("of another chat")
    assert site.administrator().user["role"] == "admin"


def test_a_member_sees_no_sampling_parameters_and_writes_no_system_prompt(member: WebUI) -> None:
    allowed = member.account()["permissions"]["chat"]
    assert {name: allowed[name] for name in CONTROLS} == dict.fromkeys(CONTROLS, False)
    path = "/api/v1/users/user/settings/update"
    assert "system" not in member.call("POST", path, json={"ui": {"system": OWN}})["ui"]


def test_a_prompt_that_the_rating_does_not_hold_is_not_learned(site: Site, member: WebUI) -> None:
    """Asked with a system prompt of her own and without; the rating looks the same."""
    form = PromptForm(site.settings["SYSTEM_PROMPT"], site.settings["RAG_TEMPLATE"])
    served = on_host.served(site)
    known = Known(count=lambda p: len(served.tokens(BASE, list(map(rendered, p)), generate=True)))
    question = {"role": "user", "content": QUESTION}
    for system, reason in (([], {}), ([OWN], {as_seen.OTHER_PROMPT: 1})):
        answer = member.ask([*({"role": "system", "content": one} for one in system), question])
        rate(member, answer)
        row = max(on_host.talk(site).ratings(), key=lambda row: row["created_at"])
        collected = ratings.collect([row], form, known)
        assert collected.rejected == reason
        member.call("DELETE", f"/api/v1/evaluations/feedback/{row['id']}")


def rate(member: WebUI, answer: Any) -> None:
    """As the page does: the chat, then the rating with a snapshot of it."""
    asked, said = str(uuid.uuid4()), str(uuid.uuid4())
    messages = {
        asked: {"id": asked, "parentId": None, "role": "user", "content": QUESTION},
        said: {
            "id": said,
            "parentId": asked,
            "role": "assistant",
            "model": ASSISTANT,
            "content": answer.text or "An answer.",
            "sources": answer.sources,
            "usage": answer.usage,
            "timestamp": int(time.time()),
        },
    }
    chat = {"title": "t", "history": {"currentId": said, "messages": messages}}
    saved = member.call("POST", "/api/v1/chats/new", json={"chat": chat})
    rating = {
        "type": "rating",
        "data": {"rating": 1, "model_id": ASSISTANT},
        "meta": {"chat_id": saved["id"], "message_id": said},
        "snapshot": {"chat": member.call("GET", f"/api/v1/chats/{saved['id']}")},
    }
    member.call("POST", "/api/v1/evaluations/feedback", json=rating)
