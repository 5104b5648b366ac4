"""Members and the administrator, on the real Open WebUI."""

import os
import secrets
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

from glue.clients import open_webui, webui_accounts
from glue.clients.open_webui import SERVICE_EMAIL, WebUI
from glue.clients.site import Site
from glue.clients.webui_connection import Answer, Refused
from glue.core.errors import GlueError
from glue.core.names import ASSISTANT, BASE
from glue.core.settings import REPOSITORY
from glue.machine import doctor
from learning.dataset import as_seen, ratings
from learning.dataset.prompt import PromptForm
from learning.dataset.ratings import Known
from learning.examples import Message
from learning.model import rendered
from rehearsal import team
from tests.e2e.conftest import Glue
from tests.learning import on_host

OWN = "Answer only in German and always begin with Ahoi."
QUESTION = "Which code does the lathe have?"
ASKED = {"role": "user", "content": QUESTION}
LONGER = {"role": "user", "content": f"{QUESTION} And which code does the drill have?"}
EARLIER = {"role": "user", "content": "Which code does the drill have?"}
REPLY = {"role": "assistant", "content": "The code of the drill is"}
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
    with suppress(GlueError):  # a test may have reset it
        change_password(settings, new, old)


def change_password(settings: Any, old: str, new: str) -> None:
    person = open_webui.sign_in(settings.chat_url, settings["WEBUI_ADMIN_EMAIL"], old)
    form = {"password": old, "new_password": new}
    person.call("POST", "/api/v1/auths/update/password", json=form)


def test_no_verb_needs_the_administrator_s_password(
    site: Site, glue: Glue, other_password: None
) -> None:
    for verb in (["ask", QUESTION], ["day"], ["dataset", "build"]):
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
    assert webui_accounts.NO_ACCOUNT in glue("status", "--json").stdout


def test_a_forgotten_password_is_reset_by_make(site: Site, other_password: None) -> None:
    command = ["make", "--silent", "--assume-old=.venv/ready", f"PYTHON={sys.executable}"]
    environment = os.environ | {"GLUE_PROFILE": "rehearsal"}
    subprocess.run(
        [*command, "admin-password"], cwd=REPOSITORY, env=environment, check=True, timeout=120
    )
    email, password = (site.settings[f"WEBUI_ADMIN_{key}"] for key in ("EMAIL", "PASSWORD"))
    assert open_webui.sign_in(site.settings.chat_url, email, password).user["role"] == "admin"


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


def folder(person: WebUI) -> dict[str, Any]:
    form = {"name": uuid.uuid4().hex, "data": {"system_prompt": OWN}}
    return {"folder_id": person.call("POST", "/api/v1/folders/", json=form)["id"]}


def memory(person: WebUI) -> dict[str, Any]:
    person.call("POST", "/api/v1/memories/add", json={"content": "I work at the lathe."})
    return {"features": {"memory": True}}


def test_a_member_has_no_memories(member: WebUI) -> None:
    with pytest.raises(Refused, match="memories/add"):
        memory(member)


@pytest.mark.parametrize("before", [[], [{"role": "system", "content": OWN}]])
def test_no_system_prompt_of_a_member_s_own_reaches_the_model(
    before: list[dict[str, str]], site: Site, member: WebUI
) -> None:
    """A folder's, and one that a program sends: Open WebUI hides only the fields for them."""
    asked = {"messages": [*before, ASKED]} | ({} if before else folder(member))
    assert left_out(site, member, member.ask(**asked)) == {}


@pytest.mark.parametrize(
    ("before", "more"),
    [
        pytest.param([{"role": "system", "content": OWN}], lambda _: {}, id="a system prompt"),
        pytest.param([], lambda _: {"regeneration_prompt": "More concise."}, id="more concise"),
        pytest.param([], folder, id="a folder's prompt"),
        pytest.param([], memory, id="memories"),
        # https://github.com/open-webui/open-webui/issues/26039: deleted before the rating
        pytest.param([EARLIER, REPLY], lambda _: {}, id="messages that were deleted"),
        # https://github.com/open-webui/open-webui/issues/4736: edited after the answer, and saved
        pytest.param([], lambda _: {"messages": [LONGER]}, id="an edited question"),
        # https://github.com/open-webui/open-webui/issues/21564
        pytest.param([], lambda _: {"messages": [ASKED, REPLY]}, id="a continued answer"),
    ],
)
def test_an_answer_to_a_prompt_that_the_rating_does_not_hold_is_not_learned(
    before: list[dict[str, str]], more: Any, site: Site
) -> None:
    """Of an administrator, who may do all that MEMBER_CONTROLS=true allows to members. The ratings
    look the same as one of a plain question, which is learned."""
    person = site.administrator()
    asked = {"messages": [*before, ASKED]} | more(person)
    other = person.ask(**asked)
    person.call("DELETE", "/api/v1/memories/delete/user")
    assert left_out(site, person, other) == {as_seen.OTHER_PROMPT: 1}
    assert left_out(site, person, person.ask([ASKED])) == {}


def left_out(site: Site, person: WebUI, answer: Answer) -> dict[str, int]:
    """Why a rating of the answer is not learned. The rating is withdrawn."""
    form = PromptForm(site.settings["SYSTEM_PROMPT"], site.settings["RAG_TEMPLATE"])
    served = on_host.served(site)

    def count(prompt: tuple[Message, ...]) -> int:
        return len(served.tokens(BASE, list(map(rendered, prompt)), generate=True))

    rating = rate(person, answer)
    (row,) = (row for row in on_host.talk(site).ratings() if row["id"] == rating)
    person.call("DELETE", f"/api/v1/evaluations/feedback/{rating}")
    return ratings.collect([row], form, Known(count=count)).rejected


def rate(member: WebUI, answer: Answer) -> str:
    """As the page does: the chat, then the rating with a snapshot of it. Returns its id."""
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
    return team.rate_up(member, saved["id"], said)
