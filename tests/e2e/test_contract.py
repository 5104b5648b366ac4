"""Undocumented behaviour of Open WebUI on which this project depends. A new version must pass these
tests before it is used.

The real Open WebUI is asked; a recorder between it and the door shows its requests to the model.
"""

import json
import shutil
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from glue.clients.open_webui import WebUI
from glue.clients.site import Site
from glue.core import waiting
from glue.core.errors import GlueError
from glue.core.names import ASSISTANT
from glue.core.settings import REPOSITORY
from glue.core.waiting import Seen
from learning.dataset import ratings
from learning.dataset.prompt import PromptForm
from rehearsal import team
from tests.learning import on_host

Body = dict[str, Any]
OVERLAY = REPOSITORY / "tests" / "e2e" / "recorder" / "compose.yaml"
QUESTION = "In which hall is the lathe?"


@dataclass(frozen=True)
class Recorder:
    file: Path

    def clear(self) -> None:
        self.file.unlink(missing_ok=True)

    def bodies(self) -> list[Body]:
        """Open WebUI's requests to the model since the last clear, in order."""
        lines = self.file.read_text(encoding="utf-8").splitlines() if self.file.exists() else []
        return [json.loads(line)["body"] for line in lines]


def compose(site: Site, *arguments: str) -> None:
    """docker compose on the day, with the recorder added to it."""
    command = site.stacks.compose_command("day", *arguments)
    at = command.index("--progress")
    command[at:at] = ["--file", str(OVERLAY)]
    subprocess.run(command, env=site.stacks.compose_environment(), check=True, timeout=300)


@contextmanager
def configured(administrator: WebUI, path: str, **changes: Any) -> Iterator[None]:
    """Changes settings of the running Open WebUI, as its admin page does, and restores them
    afterwards."""
    before = administrator.call("GET", f"{path}/config")
    administrator.call("POST", f"{path}/config/update", json=before | changes)
    try:
        yield
    finally:
        administrator.call("POST", f"{path}/config/update", json=before)
        administrator.call("GET", "/api/models?refresh=true")


@pytest.fixture(scope="module")
def recorder(site: Site) -> Iterator[Recorder]:
    """Open WebUI reaches the door through the recorder and makes titles as on a Spark."""
    folder = site.state / "recorded"
    folder.mkdir(exist_ok=True)
    administrator = site.administrator()
    try:
        compose(
            site,
            "up",
            "--detach",
            "--no-build",
            "--no-deps",
            "--wait",
            "--wait-timeout",
            "240",
            "recorder",
        )
        with (
            configured(administrator, "/openai", OPENAI_API_BASE_URLS=["http://recorder:8000/v1"]),
            configured(administrator, "/api/v1/tasks", ENABLE_TITLE_GENERATION=True),
        ):
            administrator.call("GET", "/api/models?refresh=true")
            yield Recorder(folder / "requests.jsonl")
    finally:
        compose(site, "rm", "--stop", "--force", "recorder")
        shutil.rmtree(folder)


@pytest.fixture
def form(site: Site) -> PromptForm:
    """The prompt form of nights."""
    return PromptForm(site.settings["SYSTEM_PROMPT"], site.settings["RAG_TEMPLATE"])


def question(text: str) -> Body:
    return {"role": "user", "content": text}


def is_title(body: Body) -> bool:
    return not body.get("stream")


# ---------------------------------------------------------------------- one question


def test_a_member_s_question_is_one_plain_call_with_passages_where_nights_put_them(
    recorder: Recorder, member: WebUI, form: PromptForm
) -> None:
    recorder.clear()
    answer = member.ask([question(QUESTION)])
    (body,) = (
        recorder.bodies()
    )  # a second one would be Open WebUI asking the model for a search query
    assert any("lathe" in passage for passage in answer.passages)
    assert body["messages"] == [
        {"role": "system", "content": form.render(answer.sources)},
        question(QUESTION),
    ]
    assert "tools" not in body and "tool_choice" not in body
    assert body["chat_template_kwargs"] == {"enable_thinking": False}
    assert body["stream"] is True and body["stream_options"] == {"include_usage": True}
    assert answer.text and answer.usage and answer.usage["completion_tokens"] > 0


@pytest.mark.parametrize("follow_up", ["And who checks it?", "And on which day?"])
def test_a_follow_up_finds_the_right_document_in_one_call(
    follow_up: str, recorder: Recorder, member: WebUI
) -> None:
    recorder.clear()
    earlier = [question(QUESTION), {"role": "assistant", "content": "Hall 9."}]
    answer = member.ask([*earlier, question(follow_up)])
    (body,) = recorder.bodies()
    assert any("lathe" in passage for passage in answer.passages)
    assert body["messages"][1:] == [*earlier, question(follow_up)]
    assert "tools" not in body


def test_without_the_rule_the_recorder_sees_the_hidden_call(
    recorder: Recorder, member: WebUI, site: Site
) -> None:
    """Proves that the recorder can see the call that the first test expects to be missing."""
    administrator = site.administrator()
    toggle = "/api/v1/functions/id/retrieval_query/toggle"
    administrator.call("POST", toggle)
    try:
        recorder.clear()
        member.ask([question(QUESTION)])
        assert len(recorder.bodies()) == 2
    finally:
        administrator.call("POST", toggle)


# ---------------------------------------------------------------------- in the browser


@dataclass
class Chat:
    """One conversation as on Open WebUI's own page: the server writes the answers into it."""

    person: WebUI
    id: str = ""
    last: str | None = None

    def ask(self, text: str) -> str:
        """The ID of the answer, once the server has finished it."""
        asked, answered = str(uuid.uuid4()), str(uuid.uuid4())
        user_message = question(text) | {
            "id": asked,
            "parentId": self.last,
            "childrenIds": [],
            "timestamp": int(time.time()),
        }
        first = {} if self.id else {"title_generation": True, "tags_generation": True}
        body = {
            "model": ASSISTANT,
            "stream": True,
            "messages": [question(text)],
            "user_message": user_message | {"models": [ASSISTANT]},
            "parent_id": self.last,
            "id": answered,
            "session_id": str(uuid.uuid4()),
            "background_tasks": first | {"follow_up_generation": True},
        } | ({"chat_id": self.id} if self.id else {})
        self.id = self.person.call("POST", "/api/chat/completions", json=body)["chat_id"]
        waiting.until("the answer", lambda: self.look(answered), 120)
        self.last = answered
        return answered

    def look(self, answered: str) -> Seen[None]:
        message = self.messages().get(answered, {})
        return Seen(bool(message.get("done")), f"the chat holds {message}")

    def content(self) -> Body:
        found: Body = self.person.call("GET", f"/api/v1/chats/{self.id}")
        return found

    def messages(self) -> dict[str, Body]:
        found: dict[str, Body] = self.content()["chat"]["history"]["messages"]
        return found

    def correct(self, answered: str, right: str) -> str:
        """Sends what the page sends for edit, save as copy, thumbs up. Returns the rating's ID."""
        chat = self.content()["chat"]
        messages = chat["history"]["messages"]
        copy = str(uuid.uuid4())
        messages[copy] = messages[answered] | {
            "id": copy,
            "content": right,
            "annotation": {"rating": 1},
        }
        messages[messages[answered]["parentId"]]["childrenIds"].append(copy)
        chat["history"]["currentId"] = copy
        self.person.call("POST", f"/api/v1/chats/{self.id}", json={"chat": chat})
        return team.rate_up(self.person, self.id, copy)


def test_in_the_browser_the_model_is_asked_for_answers_and_one_title_only(
    recorder: Recorder, member: WebUI
) -> None:
    """The page asks for a title, tags and follow-up questions; each could be another call to the
    model."""
    chat = Chat(member)
    recorder.clear()
    chat.ask(QUESTION)
    waiting.until(
        "a title",
        lambda: Seen(any(map(is_title, recorder.bodies())), f"{len(recorder.bodies())} calls"),
        60,
    )
    chat.ask("And who checks it?")
    bodies = recorder.bodies()
    assert [is_title(body) for body in bodies].count(True) == 1 and len(bodies) == 3
    (title,) = filter(is_title, bodies)
    assert title["max_tokens"] <= 160 and title["chat_template_kwargs"] == {
        "enable_thinking": False
    }
    assert not any("tools" in body for body in bodies)


def test_the_prompt_of_a_corrected_chat_is_the_one_that_the_model_got(
    recorder: Recorder, member: WebUI, site: Site, form: PromptForm
) -> None:
    chat = Chat(member)
    chat.ask(QUESTION)
    recorder.clear()
    second = chat.ask("And who checks it?")
    (body,) = filter(lambda sent: not is_title(sent), recorder.bodies())
    rating = chat.correct(second, "Marek, since today.")
    (row,) = (found for found in on_host.talk(site).ratings() if found["id"] == rating)
    assert (row["data"]["rating"], row["data"]["comment"]) == (1, "corrected")
    collected = ratings.collect([row], form)
    assert len(collected.examples) == 1, collected.rejected
    example = collected.examples[0]
    assert [
        {"role": message.role, "content": message.content} for message in example.prompt
    ] == body["messages"]
    assert (example.answer, example.conversation) == ("Marek, since today.", chat.id)


# ---------------------------------------------------------------------- who may read what


def test_only_rated_chats_can_be_read_and_a_rating_can_be_withdrawn(
    recorder: Recorder, member: WebUI, site: Site
) -> None:
    chat = Chat(member)
    rating = chat.correct(chat.ask(QUESTION), "Hall 9.")
    administrator = site.administrator()
    for path in ("/api/v1/chats/all/db", "/api/v1/utils/db/download", f"/api/v1/chats/{chat.id}"):
        with pytest.raises(GlueError, match="refused") as refused:
            administrator.call("GET", path)
        assert refused.value.saw.startswith("401"), path
    assert rating in {row["id"] for row in on_host.talk(site).ratings()}
    member.call("DELETE", f"/api/v1/evaluations/feedback/{rating}")
    assert rating not in {row["id"] for row in on_host.talk(site).ratings()}


def test_a_member_can_use_the_assistant_and_not_change_it(member: WebUI, site: Site) -> None:
    form = site.administrator().registered_models()[ASSISTANT]
    with pytest.raises(GlueError, match="refused"):
        member.call("POST", "/api/v1/models/model/update", json=form)
    for path in (
        "/api/v1/models/export",
        "/api/v1/evaluations/feedbacks/all/export",
        "/api/v1/chats/all/db",
    ):
        with pytest.raises(GlueError, match="refused"):
            member.call("GET", path)
