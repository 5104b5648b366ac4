"""The night desk as a real process, asked over HTTP."""

import http.client
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

import night_desk
from glue.core import names

KEY = "a-key-for-this-test"
SOURCE = '<source id="1" name="Team documents">The saw is in hall 3.</source>'


@pytest.fixture
def address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, int]]:
    monkeypatch.setenv("MODEL_API_KEY", KEY)
    monkeypatch.setenv("MODEL_IDS", "team-base,team-adapter")
    monkeypatch.setenv("NOTICE_FILE", str(tmp_path / "notice.json"))
    server = ThreadingHTTPServer(("127.0.0.1", 0), night_desk.Desk)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield "127.0.0.1", server.server_address[1]
    server.shutdown()


def call(
    address: tuple[str, int], method: str, path: str, body: Any = None, key: str = KEY
) -> tuple[int, str]:
    connection = http.client.HTTPConnection(*address, timeout=10)
    text = body if isinstance(body, str) else json.dumps(body)
    connection.request(
        method, path, text if body is not None else None, {"Authorization": f"Bearer {key}"}
    )
    response = connection.getresponse()
    return response.status, response.read().decode()


def question(text: str, stream: bool = False) -> dict[str, Any]:
    messages = [
        {"role": "system", "content": f"You help.\n{SOURCE}"},
        {"role": "user", "content": text},
    ]
    return {"model": "team-base", "messages": messages, "stream": stream}


def test_it_lists_the_same_models_and_requires_the_key(address: tuple[str, int]) -> None:
    status, text = call(address, "GET", "/v1/models")
    assert status == 200 and [row["id"] for row in json.loads(text)["data"]] == [
        "team-base",
        "team-adapter",
    ]
    assert call(address, "GET", "/v1/models", key="wrong")[0] == 401
    assert call(address, "POST", "/v1/chat/completions", question("hello"), key="")[0] == 401
    assert call(address, "GET", "/health", key="")[0] == 200


def test_it_says_when_the_assistant_is_back_and_quotes_the_passages(
    address: tuple[str, int], tmp_path: Path
) -> None:
    (tmp_path / "notice.json").write_text('{"reason": "night", "back_at": "07:00"}')
    _, text = call(address, "POST", "/v1/chat/completions", question("Where is the saw?"))
    answer = json.loads(text)["choices"][0]["message"]["content"]
    assert (
        answer.startswith(night_desk.MARK)
        and "07:00" in answer
        and "> The saw is in hall 3. [1]" in answer
    )


def test_a_stream_has_the_same_words_and_ends_properly(address: tuple[str, int]) -> None:
    _, whole = call(address, "POST", "/v1/chat/completions", question("Where?"))
    _, stream = call(address, "POST", "/v1/chat/completions", question("Where?", stream=True))
    events = [line[6:] for line in stream.splitlines() if line.startswith("data: ")]
    assert events[-1] == "[DONE]"
    words = "".join(
        choice["delta"].get("content", "")
        for event in events[:-1]
        for choice in json.loads(event)["choices"]
    )
    assert words == json.loads(whole)["choices"][0]["message"]["content"]


def test_a_missing_or_unreadable_notice_means_a_restart(
    address: tuple[str, int], tmp_path: Path
) -> None:
    (tmp_path / "notice.json").write_text("[half a")
    _, text = call(address, "POST", "/v1/chat/completions", question("hello"))
    assert "in a few minutes" in text


def test_the_model_may_answer_unless_it_is_night(address: tuple[str, int], tmp_path: Path) -> None:
    assert call(address, "GET", "/model-may-answer")[0] == 200
    (tmp_path / "notice.json").write_text('{"reason": "night"}')
    assert call(address, "GET", "/model-may-answer")[0] == 503


def test_a_task_of_open_webui_gets_its_json(address: tuple[str, int]) -> None:
    prompt = 'Answer {"title": "..."}\n<chat_history>\nUSER: Where is the saw?\n</chat_history>'
    _, text = call(
        address,
        "POST",
        "/v1/chat/completions",
        {"model": "m", "messages": [{"role": "user", "content": prompt}]},
    )
    assert json.loads(json.loads(text)["choices"][0]["message"]["content"]) == {
        "title": "Where is the saw?"
    }


@pytest.mark.parametrize("body", ["not json", "[]", '{"messages": 3}', '{"messages": null}'])
def test_a_bad_request_gets_status_400(address: tuple[str, int], body: str) -> None:
    assert call(address, "POST", "/v1/chat/completions", body)[0] == 400


def test_it_starts_with_the_standard_library_alone() -> None:
    command = [
        sys.executable,
        "-I",
        "-S",
        "-c",
        f"import runpy; runpy.run_path({night_desk.__file__!r}, run_name='desk')",
    ]
    assert (
        subprocess.run(
            command, env={"PATH": os.environ["PATH"]}, timeout=30, check=False
        ).returncode
        == 0
    )


def test_the_desk_s_mark_is_the_one_that_datasets_leave_out() -> None:
    assert night_desk.MARK == names.MARK


def test_the_closest_notes_come_before_the_documents() -> None:
    told = [f'<source id="{at}" name="{names.NOTE}" resource-id="n">N{at}</source>' for at in "234"]
    found = night_desk.passages([{"role": "system", "content": "\n".join([SOURCE, *told])}])
    note = "Note by the team: N{}"
    assert found == [("2", note.format(2)), ("3", note.format(3)), ("1", "The saw is in hall 3.")]
