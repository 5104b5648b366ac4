"""NIGHT=beside on the real stacks: while a night trains and judges beside the day, everybody is
answered by the model, and the day survives every kill. Nights of the long set."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from glue.clients.site import Site
from glue.core import journal, waiting
from glue.core.errors import GlueError
from glue.core.names import BASE, MARK
from glue.serving import adapters
from tests.e2e import killing
from tests.e2e.conftest import Glue
from tests.e2e.killing import Point

pytestmark = pytest.mark.long
ASKED = [{"role": "user", "content": "What is the code of the lathe?"}]
PAUSE_SECONDS = 3.0  # a team's pace; the trainer has time in between
# an answer of seconds: glue looks once a second whether somebody is answered
LONG = {"model": BASE, "messages": ASKED, "min_tokens": 500, "max_tokens": 500}


@pytest.fixture(autouse=True)
def beside(monkeypatch: pytest.MonkeyPatch, demo: dict[str, Any], site: Site) -> Iterator[None]:
    """For every glue that these tests start; afterwards the demonstration's adapter serves."""
    monkeypatch.setenv("GLUE_NIGHT", "beside")
    yield
    adapters.promote(site, demo["adapter"])


def started(site: Site) -> str:
    container = site.stacks.container("day", "vllm")
    assert container
    return str(container.attrs["State"]["StartedAt"])


@contextmanager
def people(site: Site) -> Iterator[list[str]]:
    """Somebody asks through the chat, and the model for a long answer, again and again while the
    block runs; every answer, or why there is none."""
    heard: list[str] = []

    def ask(over: threading.Event) -> None:
        person = site.administrator()
        while not over.wait(PAUSE_SECONDS):
            try:
                heard.append(person.ask(ASKED).text)
                long = site.vllm().call("POST", "/v1/chat/completions", LONG).json()
                heard.append(str(long["choices"][0]["message"]["content"]))
            except GlueError as error:
                heard.append(f"failed: {error}")

    with waiting.beside(ask, end_seconds=120):
        yield heard


def test_a_night_is_promoted_and_everybody_is_answered_by_the_model(site: Site, glue: Glue) -> None:
    killing.something_to_learn(site, 700)
    before = started(site)
    with people(site) as answers:
        done = glue("night", "--json")
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout)
    assert found["outcome"] == "promoted" and site.store.current() == found["adapter"]
    wrong = [text for text in answers if not text.strip() or text.startswith((MARK, "failed: "))]
    print(f"{len(answers)} answers while the night ran, {len(wrong)} of them wrong")
    assert len(answers) > 10 and not wrong
    assert started(site) == before, "vLLM restarted"
    assert site.store.manifest(found["adapter"])["training"]["paused_seconds"] > 0


def test_a_night_that_does_not_fit_is_refused_with_its_numbers_and_changes_nothing(
    site: Site, glue: Glue, monkeypatch: pytest.MonkeyPatch
) -> None:
    killing.something_to_learn(site, 701)
    before = started(site)
    monkeypatch.setenv("GLUE_NIGHT_FREE_BYTES", str(10**15))
    done = glue("night")
    assert done.returncode == 10 and "night beside" in done.stderr and "GB together" in done.stderr
    assert started(site) == before and site.stacks.trainer() is None


@pytest.mark.parametrize(
    "point",
    [
        Point("trainer", "train"),
        Point("glue", "train"),
        Point("vllm", "train"),
        Point("vllm", "judge"),
    ],
    ids=str,
)
def test_the_day_serves_after_a_kill(point: Point, demo: dict[str, Any], site: Site) -> None:
    before = started(site)
    found = killing.morning_after(site, point, 710)
    assert found.died, "the victim did not die"
    assert found.day_serving, found.saw
    assert (found.half_published, found.stale_locks) == (0, 0)
    assert found.adapter_after == found.adapter_before
    assert (started(site) == before) is (point.victim != "vllm"), "only a dead vLLM starts again"
    assert site.stacks.trainer() is None and not journal.unfinished(site.state)
