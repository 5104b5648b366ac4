"""The harness: its statistics compared with numpy, its client and the paced model over real
HTTP, its documents."""

import itertools
import json
import math
import os
import re
import socket
import statistics
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pypdf import PdfReader

from bench import client, documents, latency_parts, paced_model, questions, retrieval, vllm_alone
from bench import statistics as bench_statistics
from bench.client import Endpoint, Sample, ask
from glue.clients.vllm import Vllm
from glue.core import waiting
from glue.core.errors import Misconfigured
from glue.core.names import BASE
from glue.core.settings import REPOSITORY
from glue.core.waiting import Seen

KEY = "k" * 16
values = st.lists(st.floats(0, 1e4, allow_nan=False), min_size=1, max_size=60)


# ---------------------------------------------------------------------- statistics


@settings(deadline=None)
@given(values, st.integers(0, 100))
def test_percentiles_equal_numpy_s(found: list[float], percent: int) -> None:
    assert bench_statistics.percentile(found, percent) == pytest.approx(
        float(numpy.percentile(found, percent)), rel=1e-9, abs=1e-9
    )


@settings(deadline=None)
@given(values)
def test_an_interval_contains_its_median_and_is_repeatable(found: list[float]) -> None:
    one, other = bench_statistics.summary(found), bench_statistics.summary(found)
    assert one == other and one is not None
    assert one.count == len(found)
    assert (one.median_interval is None) == (one.mean_interval is None) == (len(found) < 6), (
        "of a handful none is honest"
    )
    if one.median_interval:
        low, high = one.median_interval
        assert min(found) <= low <= one.median <= high <= max(found)


@pytest.mark.parametrize("count", [6, 24])
@pytest.mark.parametrize(
    ("what", "truth"), [("mean", 1.0), ("median", 1.0), ("skewed median", math.log(2))]
)
def test_a_95_percent_interval_covers_in_95_percent_of_cases(
    what: str, truth: float, count: int
) -> None:
    """Of 2000 random samples, the interval must contain the true value in 95 %, and not because
    it is too wide."""
    draw = numpy.random.default_rng(3)
    find = bench_statistics.mean_interval if what == "mean" else bench_statistics.median_interval
    held = 0
    for _ in range(2000):
        drawn = draw.exponential(1, count) if "skewed" in what else draw.normal(1, 0.5, count)
        low, high = find([float(value) for value in drawn]) or (truth, truth)
        held += low <= truth <= high
    assert 0.94 <= held / 2000 <= 0.985


@pytest.mark.parametrize(
    ("freedom", "published"), [(5, 2.571), (11, 2.201), (23, 2.069), (199, 1.972)]
)
def test_student_s_quantiles_match_the_tables(freedom: int, published: float) -> None:
    assert bench_statistics.student(freedom) == pytest.approx(published, rel=0.002)


def test_no_values_give_no_summary() -> None:
    assert bench_statistics.summary([]) is None


# ---------------------------------------------------------------------- the paced model


def free_port() -> int:
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        return int(trial.getsockname()[1])


@pytest.fixture(scope="module")
def server() -> Iterator[Vllm]:
    """The paced model in its own process, as in its container."""
    port = free_port()
    environment = os.environ | {"MODEL_API_KEY": KEY, "PORT": str(port)}
    with subprocess.Popen(
        [sys.executable, str(REPOSITORY / "bench" / "paced_model.py")], env=environment
    ) as process:
        found = Vllm(f"127.0.0.1:{port}", KEY)
        waiting.until("the paced model", lambda: Seen(found.answers(), "starting"), 20, 0.1)
        yield found
        process.terminate()


def endpoint(server: Vllm, **fields: Any) -> Endpoint:
    host, _, port = server.address.partition(":")
    return Endpoint(host, int(port), "/v1/chat/completions", KEY, {"model": BASE, **fields})


def set_pace(server: Vllm, rewrites: dict[str, str] | None = None, **pace: Any) -> None:
    server.call("POST", "/bench/pace", {"pace": pace, "rewrites": rewrites or {}})
    server.call("POST", "/bench/clear", {})


def question(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def test_the_harness_adds_under_five_milliseconds_at_eight_users(server: Vllm) -> None:
    """Against a server where nothing takes time, only the harness and the server's own work are
    measured."""
    set_pace(server, prefill_tokens_per_second=0, answer_tokens=1)
    samples = client.level(
        lambda _, number: ask(endpoint(server), question(f"{number}?")), users=8, rounds=25
    )
    assert not [sample.error for sample in samples if sample.error]
    assert len(samples) == 200
    # of the best half: what the machine does beside the test is not the harness
    calm = sorted(sample.first_token_seconds for sample in samples)[:100]
    assert statistics.median(calm) < 0.005


def test_a_single_question_takes_prefill_and_decode_time(server: Vllm) -> None:
    set_pace(
        server,
        prefill_tokens_per_second=1000,
        decode_tokens_per_second={"1": 100},
        answer_tokens=51,
    )
    sample = ask(endpoint(server), question("x" * 1200))
    assert not sample.error
    assert (sample.prompt_tokens, sample.completion_tokens) == (301, 51)
    assert sample.first_token_seconds == pytest.approx(0.301, abs=0.08)
    assert sample.tokens_per_second == pytest.approx(100, rel=0.05)
    assert sample.first_event_seconds <= sample.first_token_seconds < sample.last_token_seconds


def test_two_questions_prefill_in_turn_and_share_decode(server: Vllm) -> None:
    set_pace(
        server,
        prefill_tokens_per_second=1000,
        decode_tokens_per_second={"1": 100, "2": 50},
        answer_tokens=40,
    )
    samples = client.level(lambda *_: ask(endpoint(server), question("x" * 800)), users=2, rounds=1)
    first, second = sorted(sample.first_token_seconds for sample in samples)
    assert first == pytest.approx(0.2, abs=0.08) and second == pytest.approx(0.4, abs=0.12)
    assert max(sample.tokens_per_second for sample in samples) < 90


def test_decode_speeds_are_the_published_ones_and_interpolated_between() -> None:
    pace = paced_model.Pace()
    assert [pace.decode(users) for users in (1, 2, 4, 8)] == [56.3, 51.3, 38.8, 28.5]
    assert all(
        pace.decode(one) > pace.decode(other) for one, other in itertools.pairwise(range(1, 20))
    )
    assert pace.decode(16) * 16 == pytest.approx(8 * 28.5)


HISTORY = "USER: In which hall?\nASSISTANT: 9\nUSER: Since when?"
TASK = (
    'Make a search query. Answer as {"queries":'
    f' ["..."]}}\n<chat_history>\n{HISTORY}\n</chat_history>'
)


def test_hidden_calls_are_counted_take_time_and_return_the_given_rewrite(server: Vllm) -> None:
    set_pace(
        server,
        {"In which hall?\nSince when?": "hall since"},
        prefill_tokens_per_second=100000,
        decode_tokens_per_second={"1": 1000},
        task_tokens=200,
        plain_task_tokens=20,
    )
    body = {"model": BASE, "messages": question(TASK)}
    began = time.monotonic()
    whole = server.call("POST", "/v1/chat/completions", body).json()
    assert time.monotonic() - began > 0.19
    assert json.loads(whole["choices"][0]["message"]["content"]) == {"queries": ["hall since"]}
    assert whole["usage"]["completion_tokens"] == 200
    plain = server.call(
        "POST", "/v1/chat/completions", body | {"chat_template_kwargs": {"enable_thinking": False}}
    ).json()
    assert plain["usage"]["completion_tokens"] == 20
    cut = server.call("POST", "/v1/chat/completions", body | {"max_tokens": 64}).json()
    assert (
        cut["choices"][0]["message"]["content"] == ""
    )  # thinking used up the room, as with a real model
    calls = server.call("GET", "/bench/calls").json()
    assert [call["kind"] for call in calls] == ["queries"] * 3


def test_the_parts_of_the_time_add_up(server: Vllm) -> None:
    set_pace(
        server,
        prefill_tokens_per_second=2000,
        decode_tokens_per_second={"1": 200},
        answer_tokens=20,
    )
    samples = [ask(endpoint(server), question("x" * 800))]
    found = latency_parts.of_calls(server.call("GET", "/bench/calls").json(), samples)
    seconds = found["parts"]
    before = sum(value for part, value in seconds.items() if part != "decode")
    assert before == pytest.approx(samples[0].first_token_seconds, abs=0.01)
    assert found["calls_per_question"] == {"chat": 1}
    assert seconds["prefill"] == pytest.approx(0.1, abs=0.05)


def test_a_failed_question_is_left_out_of_every_mean() -> None:
    call = {"kind": "chat", "queue_seconds": 0.0, "prefill_seconds": 0.5, "decode_seconds": 1.0}
    samples = [
        Sample(first_token_seconds=1, last_token_seconds=3, completion_tokens=9),
        Sample(error="cut"),
    ]
    assert latency_parts.of_calls([call], samples)["parts"] == {
        "hidden calls": 0,
        "queue": 0,
        "prefill": 0.5,
        "retrieval and Open WebUI": 0.5,
        "decode": 2,
    }
    found = latency_parts.of_counters(
        {"calls": 1, "queue": 0.1, "prefill": 0.4, "decode": 2}, samples
    )
    assert (found["parts"]["prefill"], found["parts"]["decode"]) == (0.4, 2)


METRICS = """# HELP vllm:request_queue_time_seconds x
vllm:request_queue_time_seconds_sum{model_name="team-base"} 1.5
vllm:request_queue_time_seconds_sum{model_name="team-adapter"} 0.5
vllm:request_decode_time_seconds_sum{model_name="team-base"} 9
vllm:request_success_total{finished_reason="stop"} 0.0
"""


def test_missing_vllm_counters_are_named_and_not_read_as_zero() -> None:
    found = latency_parts.sums(METRICS)
    assert found == {"calls": 0.0, "queue": 2.0, "decode": 9.0}
    shown = latency_parts.of_counters(found, [Sample(first_token_seconds=1, last_token_seconds=3)])
    assert shown["parts"] == {} and shown["not_reported"] == ["request_prefill_time_seconds_sum"]


def test_the_paced_model_requires_its_key(server: Vllm) -> None:
    sample = ask(replace(endpoint(server), key="wrong"), question("?"))
    assert sample.error.startswith("401")


# ---------------------------------------------------------------------- the client, where a server
# does wrong


class Broken(BaseHTTPRequestHandler):
    """A stub of faults that a real server produces rarely. The path names the fault."""

    WORDS = ({"choices": [{"delta": {"content": words}}]} for words in ("one two", "three four"))
    SOURCES: ClassVar[dict[str, Any]] = {
        "sources": [{"document": ["p"], "metadata": [{"name": "a.pdf"}]}]
    }
    USAGE: ClassVar[dict[str, Any]] = {
        "prompt_tokens": 9,
        "completion_tokens": 50,
        "prompt_tokens_details": {"cached_tokens": 4},
    }
    ROLE: ClassVar[dict[str, Any]] = {"choices": [{"delta": {"role": "assistant", "content": ""}}]}
    FINISH: ClassVar[dict[str, Any]] = {"choices": [{"delta": {}, "finish_reason": "length"}]}
    EVENTS: ClassVar[dict[str, list[Any]]] = {
        "/cut": [{"choices": [{"delta": {"content": "a"}}]}],
        "/error": [{"error": {"message": "the engine died"}}, "[DONE]"],
        "/mute": [{"sources": []}, "[DONE]"],
        "/silent": [
            ROLE,
            {"choices": [{"delta": {"content": "a"}}]},
            FINISH,
            {"choices": [], "usage": USAGE},
            "[DONE]",
        ],
        "/no-usage": [{"choices": [{"delta": {"content": word}}]} for word in "ab"] + ["[DONE]"],
        "/many": [SOURCES, *WORDS, {"choices": [], "usage": USAGE}, "[DONE]"],
    }

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.end_headers()
        for event in self.EVENTS[self.path]:
            data = event if isinstance(event, str) else json.dumps(event)
            self.wfile.write(f"data: {data}\n\n".encode())
            self.wfile.flush()

    def log_message(self, format: str, *arguments: Any) -> None:
        pass


@pytest.fixture(scope="module")
def broken() -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Broken) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


@pytest.mark.parametrize(
    ("path", "words"),
    [("/cut", "ended early"), ("/error", "the engine died"), ("/mute", "no token")],
)
def test_an_incomplete_answer_is_an_error(path: str, words: str, broken: int) -> None:
    assert words in ask(Endpoint("127.0.0.1", broken, path, KEY), question("?")).error


def test_a_refused_connection_is_a_sample_with_an_error() -> None:
    assert "Refused" in ask(Endpoint("127.0.0.1", free_port(), "/", KEY), question("?")).error


def test_tokens_are_counted_by_usage_and_sources_are_kept(broken: int) -> None:
    sample = ask(Endpoint("127.0.0.1", broken, "/many", KEY), question("?"))
    assert not sample.error
    assert (sample.completion_tokens, sample.cached_tokens) == (50, 4)
    assert (sample.passages, sample.sources) == (("p",), ("a.pdf",))


def test_speed_excludes_the_first_token() -> None:
    assert (
        Sample(first_token_seconds=1, last_token_seconds=3, completion_tokens=101).tokens_per_second
        == 50
    )
    assert Sample().tokens_per_second == 0


def test_speed_is_0_without_usage(broken: int) -> None:
    sample = ask(Endpoint("127.0.0.1", broken, "/no-usage", KEY), question("?"))
    assert not sample.error and sample.last_token_seconds > sample.first_token_seconds
    assert sample.tokens_per_second == 0


def test_chunks_without_text_count_as_in_vllm_s_own_bench(broken: int) -> None:
    sample = ask(Endpoint("127.0.0.1", broken, "/silent", KEY), question("?"))
    assert (
        sample.first_choice_seconds
        < sample.first_token_seconds
        == sample.last_token_seconds
        < sample.last_choice_seconds
    )
    found = vllm_alone.as_vllm_counts([sample])
    assert found["first_token_seconds"] == sample.first_choice_seconds
    assert found["seconds_per_token"] == pytest.approx(
        (sample.last_choice_seconds - sample.first_choice_seconds) / 49
    )
    assert vllm_alone.seconds_per_token(replace(sample, completion_tokens=1)) == 0


def test_all_users_ask_at_once_and_the_next_round_waits_for_all() -> None:
    asked: list[tuple[int, float]] = []

    def one(user: int, number: int) -> Sample:
        asked.append((number, time.monotonic()))
        time.sleep(0.05 * (user + 1))  # how long the answer takes
        return Sample()

    assert len(client.level(one, users=3, rounds=2)) == 6
    first, second = (
        [at for number, at in asked if number < 3],
        [at for number, at in asked if number >= 3],
    )
    assert max(first) - min(first) < 0.04 and min(second) - max(first) >= 0.14


# ---------------------------------------------------------------------- the documents


@pytest.fixture(scope="module")
def books() -> documents.Library:
    return documents.load(REPOSITORY / "env" / "bench-library.toml")


def test_thirty_documents_have_each_value_once(books: documents.Library) -> None:
    values_found = [fact.value for fact in books.facts]
    assert len({fact.document for fact in books.facts}) == 30
    assert not [
        (one, other)
        for one in values_found
        for other in values_found
        if one is not other and one in other
    ]
    assert books == documents.load(REPOSITORY / "env" / "bench-library.toml")


def test_question_labels_match_the_documents(books: documents.Library, tmp_path: Path) -> None:
    fact = books.facts[0]
    documents.write_document(books, books.of(fact.subject), tmp_path / fact.document, seed=0)
    text = " ".join(
        " ".join(page.extract_text() for page in PdfReader(tmp_path / fact.document).pages).split()
    )
    assert all(found.said("fact") in text for found in books.of(fact.subject))
    cases = documents.labelled(books)
    assert {
        case.kind: sum(other.kind == case.kind for other in cases) for case in cases
    } == dict.fromkeys(("first turn", "it", "another subject", "another matter"), 30)
    for case in cases:
        assert any(
            found.value == case.value and found.document == case.document for found in books.facts
        )
    assert len({case.document for case in documents.rotation(books)}) == 12


ARXIV = REPOSITORY / "env" / "bench-arxiv.toml"


def test_thirty_papers_and_twelve_questions_about_them() -> None:
    papers = tomllib.loads(ARXIV.read_text(encoding="utf-8"))["papers"]
    assert len(set(papers)) == 30 and all(
        re.fullmatch(r"\d{4}\.\d{4,5}", paper) for paper in papers
    )
    asked = questions.read(ARXIV)
    assert len({case.document for case in asked}) == 12
    assert all(case.document.removesuffix(".pdf") in papers and not case.value for case in asked)


def test_questions_need_their_documents(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="--documents needs --questions"):
        questions.about(tmp_path, None)
    with pytest.raises(Misconfigured, match="are missing") as error:
        questions.about(tmp_path, ARXIV)
    assert "1706.03762.pdf" in error.value.saw
    for case in questions.read(ARXIV):
        (tmp_path / case.document).touch()
    assert questions.about(tmp_path, ARXIV).rotation == questions.read(ARXIV)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "Missing key in {}: questions. Expected [[questions]] tables with question"),
        ("questions = []", "Invalid value for questions in {}: []. Expected [[questions]]"),
        ("questions = 3", "Invalid value for questions in {}: 3. Expected [[questions]]"),
        ('[[questions]]\nquestion = "a"', "Invalid value for questions in {}: [{{'question"),
        (
            '[[questions]]\nquestion = "a"\ndocument = "b"\nanswer = "c"',
            "Invalid value for questions in {}: [{{'question",
        ),
        ("question = 1", "Unknown key in {}: question. Did you mean questions?"),
        ("[", "a file is not TOML\n  saw:  {}"),
    ],
)
def test_an_invalid_questions_file_is_refused(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "q.toml").write_text(text)
    with pytest.raises(Misconfigured) as error:
        questions.read(tmp_path / "q.toml")
    assert message.format(tmp_path / "q.toml") in str(error.value)


def test_a_question_without_a_labelled_passage_is_matched_by_document() -> None:
    labelled = documents.Case("first turn", "q", "q", "IP-1", "a.pdf")
    assert labelled.found(["under IP-1"], []) and not labelled.found(["nothing"], ["a.pdf"])
    only_document = replace(labelled, value="")
    assert only_document.found(["nothing"], ["a.pdf"]) and not only_document.found(
        ["nothing"], ["b.pdf"]
    )
    assert not only_document.passage_found(["anything"])
    assert retrieval.share([]) is None


def test_the_committed_run_agrees_with_vllm_s_own_bench() -> None:
    """docs/measurements/direct-h200.json: within 5 %, at the first token and after it; the
    ratios match its numbers."""
    found = json.loads(
        (REPOSITORY / "docs" / "measurements" / "direct-h200.json").read_text(encoding="utf-8")
    )
    assert {(row["prompts"], row["users"]) for row in found["rows"]} == set(
        itertools.product(("short", "long"), (1, 4, 8))
    )
    for row in found["rows"]:
        again = vllm_alone.row(
            row["users"], row["here_twice"][0], row["vllm"], row["here_twice"][1]
        )["ratio"]
        for key, ratio in row["ratio"].items():
            assert ratio == pytest.approx(again[key], abs=0.002) and abs(ratio - 1) <= 0.05, (
                row["prompts"],
                row["users"],
                key,
            )
