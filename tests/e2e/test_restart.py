"""One restart of vLLM: the running answer, questions while it is down, and what serves
afterwards."""

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest
import requests

from glue.clients.site import Site
from glue.clients.webui_connection import Answer
from glue.core.names import ADAPTER, BASE, MARK
from glue.serving import day

Demo = dict[str, Any]
QUESTION = [{"role": "user", "content": "What is the code of the lathe?"}]
# answers that are still being written when the stop comes, also on a slow machine: what a context
# of 1,024 tokens holds, for several people at once
TOKENS, ASKING = 800, 4


@dataclass(frozen=True)
class Restart:
    """written: the events of the answer that ran when vLLM was stopped. log: vLLM's last lines.

    meanwhile, after: the chat's answers while vLLM is down, and when it is back.
    """

    written: list[list[bytes]]
    log: str
    meanwhile: Answer
    after: Answer


@pytest.fixture(scope="module")
def restart(demo: Demo, site: Site) -> Iterator[Restart]:
    person = site.administrator()
    try:
        written = stopped_while_it_writes(site)
        log = site.stacks.last_log_lines(
            "day", "vllm", 400
        )  # its last words on leaked references are many
        meanwhile = person.ask(QUESTION)
        site.stacks.compose("day", "rm", "--force", "vllm")  # the next one is a new container
        day.start(site)
        yield Restart(written, log, meanwhile, person.ask(QUESTION))
    finally:
        day.start(site)


def stopped_while_it_writes(site: Site) -> list[list[bytes]]:
    """The events of the answers to several people; vLLM is stopped after the first event.

    By Docker's API, which is what docker compose stop calls: on a loaded machine Compose takes
    longer to start than the answers to end.
    """
    container = site.stacks.container("day", "vllm")
    assert container is not None
    stopping = threading.Thread(target=container.stop)
    first = threading.Barrier(ASKING, stopping.start)
    with ThreadPoolExecutor(ASKING) as people:
        written = list(people.map(lambda _: events(site, first), range(ASKING)))
    stopping.join()
    return written


def events(site: Site, first: threading.Barrier) -> list[bytes]:
    """Waits with its second event until the other people have their first."""
    body = {
        "model": BASE,
        "messages": QUESTION,
        "stream": True,
        "min_tokens": TOKENS,
        "max_tokens": TOKENS,
    }
    headers = {"Authorization": f"Bearer {site.settings['MODEL_API_KEY']}"}
    address = f"http://{site.stacks.address('door')}/v1/chat/completions"
    with requests.post(address, json=body, headers=headers, stream=True, timeout=240) as answer:
        lines = (line for line in answer.iter_lines() if line)
        seen = next(lines)
        first.wait(timeout=240)
        return [seen, *lines]


def test_a_running_answer_is_finished_when_vllm_is_stopped(restart: Restart) -> None:
    assert "draining in-flight requests" in restart.log
    for written in restart.written:
        assert written[-1] == b"data: [DONE]"
        assert json.loads(written[-2][5:])["choices"][0]["finish_reason"] == "length"


def test_the_desk_answers_while_vllm_is_down_and_the_model_when_it_is_back(
    restart: Restart,
) -> None:
    assert restart.meanwhile.text.startswith(MARK) and restart.meanwhile.sources
    assert restart.after.text.strip() and not restart.after.text.startswith(MARK)


def test_the_same_adapter_serves_after_vllm_was_recreated(
    restart: Restart, demo: Demo, site: Site
) -> None:
    example = demo["examples"][0]
    assert site.vllm().models()[ADAPTER] == f"/adapters/{demo['adapter']}"
    assert (
        example["wanted"]
        in site.administrator().ask([{"role": "user", "content": example["question"]}]).text
    )
