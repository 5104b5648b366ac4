"""The gate on the real trainer and the real vLLM, and promotion during running requests.

The short set has the demonstration's own good night, a poisoned and a broken one. The long set has
the other kinds.
"""

import json
import math
import re
import threading
from collections import Counter
from statistics import fmean
from types import SimpleNamespace
from typing import Any, cast

import pytest

from glue.clients.open_webui import WebUI
from glue.clients.site import Site
from glue.core import files
from glue.core.errors import GlueError
from glue.core.names import BASE, CANDIDATE, MARK
from glue.night import evaluate as night_evaluate
from glue.serving import adapters, model
from learning.dataset import split
from learning.evaluation import evaluate
from tests.e2e.conftest import Glue
from tests.gate_study import BREAKS, KINDS, Play, play_all
from tests.learning import on_host

Demo = dict[str, Any]
PLAYS = [Play(kind, 100) for kind in KINDS if kind != "broken"] + [
    Play("broken", 100 + number) for number in range(len(BREAKS))
]
SHORT = [Play("poisoned", 100), Play("broken", 101)]
LONG = [play for play in PLAYS if play not in SHORT]
CLIENTS, ROUNDS = 3, 3
LEAST_RATIO = 1.3  # 30 % better


# ---------------------------------------------------------------------- one night of each kind


def judged(site: Site, demo: Demo, plays: list[Play]) -> dict[Play, dict[str, Any]]:
    """The gate's verdict on each night, with the base model as the current one."""
    found: list[dict[str, Any]] = []
    adapters.promote(site, None)
    try:
        play_all(site, plays, found.append)
    finally:
        adapters.promote(site, demo["adapter"])
    return dict(zip(plays, found, strict=True))


@pytest.fixture(scope="module")
def nights(site: Site, demo: Demo) -> dict[Play, dict[str, Any]]:
    return judged(site, demo, SHORT)


@pytest.fixture(scope="module")
def other_nights(site: Site, demo: Demo) -> dict[Play, dict[str, Any]]:
    return judged(site, demo, LONG)


def require_right(night: dict[str, Any], play: Play) -> None:
    print(json.dumps(night))
    assert night["promoted"] == (play.kind == "good")
    assert night["right"], night["reasons"]


@pytest.mark.parametrize("play", SHORT, ids=lambda play: play.name)
def test_poisoned_and_broken_nights_are_refused_for_the_right_reason(
    play: Play, nights: dict[Play, Any]
) -> None:
    require_right(nights[play], play)


@pytest.mark.long
@pytest.mark.parametrize("play", LONG, ids=lambda play: play.name)
def test_other_kinds_of_night_get_the_right_verdict_and_reason(
    play: Play, other_nights: dict[Play, Any]
) -> None:
    require_right(other_nights[play], play)


@pytest.mark.long
def test_a_good_night_makes_held_out_answers_30_percent_likelier(
    other_nights: dict[Play, Any],
) -> None:
    (good,) = (night for play, night in other_nights.items() if play.kind == "good")
    assert good["figures"]["likelihood_ratio"] >= LEAST_RATIO


def test_the_demonstration_s_night_does_so_on_the_served_model(demo: Demo, site: Site) -> None:
    """Checks its verdict, and measures again: the geometric mean of a token's probability
    compared with the base model's."""
    manifest = site.store.manifest(demo["adapter"])
    assert (
        manifest["verdict"]["promote"]
        and manifest["verdict"]["figures"]["likelihood_ratio"] >= LEAST_RATIO
    )
    folder = site.state / "nights" / manifest["night"] / "dataset"
    rows = [split.from_row(row) for row in files.read_lines(folder / "held_out.jsonl")]
    served = on_host.served(site)
    served.serve("looked-at", f"{model.ADAPTERS_IN_CONTAINER}/{demo['adapter']}")
    gains = [served.likelihood("looked-at", row) - served.likelihood(BASE, row) for row in rows]
    served.forget("looked-at")
    print("likelihood ratio on the served model:", math.exp(fmean(gains)))
    assert math.exp(fmean(gains)) >= LEAST_RATIO


def test_golden_questions_are_asked_through_the_chat_and_only_by_glue(
    demo: Demo, site: Site, member: WebUI
) -> None:
    example = demo["examples"][0]
    golden = site.state / "golden.toml"
    golden.write_text(
        f'[[golden]]\nquestion = "{example["question"]}"\nmust_contain = ["{example["wanted"]}"]\n'
    )
    served = site.vllm()
    served.serve(CANDIDATE, f"{model.ADAPTERS_IN_CONTAINER}/{demo['adapter']}")
    night = cast(Any, SimpleNamespace(site=site))
    try:
        with night_evaluate.asked_through_chat(
            night, {name: name for name in night_evaluate.sides(night).values()}
        ) as asked_as:
            (answer,) = evaluate.ask_golden(on_host.job(site, {"asked_as": asked_as}))
            for hidden in (*asked_as.values(), CANDIDATE):
                with pytest.raises(GlueError):
                    member.ask([{"role": "user", "content": "Hello?"}], model=hidden)
        assert not answer.wrong["candidate"], answer
        left = set(asked_as.values()) & site.administrator().registered_models().keys()
        assert not left, "the judging models are still there"
    finally:
        served.forget(CANDIDATE)
        golden.unlink()


# ---------------------------------------------------------------------- promote and roll back under
# people's hands


class Clients:
    """People who ask one question after another through the chat and read each answer to its
    end."""

    def __init__(self, site: Site, question: str) -> None:
        self.site, self.question = site, question
        self.asked: Counter[str] = Counter(answered=0, failed=0)
        self.reasons: list[str] = []
        self.over = threading.Event()
        self.threads = [threading.Thread(target=self.ask, daemon=True) for _ in range(CLIENTS)]

    def ask(self) -> None:
        person = self.site.administrator()
        while not self.over.is_set():
            try:
                answer = person.ask([{"role": "user", "content": self.question}])
                good = bool(answer.text.strip() and answer.sources) and not answer.text.startswith(
                    MARK
                )
            except GlueError as error:
                good = False
                self.reasons.append(error.saw)
            self.asked["answered" if good else "failed"] += 1

    def __enter__(self) -> "Clients":
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        for thread in self.threads:
            thread.join(timeout=120)


def started(site: Site) -> dict[str, str]:
    """The start time of each container of the day."""
    containers = {name: site.stacks.container("day", name) for name in site.stacks.services("day")}
    return {
        name: container.attrs["State"]["StartedAt"]
        for name, container in containers.items()
        if container
    }


def test_promote_and_rollback_restart_nothing_and_fail_no_request(
    demo: Demo, site: Site, glue: Glue
) -> None:
    """`make bench` measures how long they take."""
    before = started(site)
    with Clients(site, demo["examples"][0]["question"]) as clients:
        assert glue("promote", "base", "--json").returncode == 0
        assert json.loads(glue("rollback", "--json").stdout) == {"adapter": demo["adapter"]}
        for _ in range(ROUNDS):
            adapters.promote(site, None)
            adapters.rollback(site)
    print(f"requests of {CLIENTS} clients meanwhile: {dict(clients.asked)}")
    assert site.store.current() == demo["adapter"] and started(site) == before
    assert clients.asked["failed"] == 0, clients.reasons
    assert clients.asked["answered"] >= ROUNDS


# ---------------------------------------------------------------------- releases, and the morning


def test_a_manifest_is_complete_and_two_can_be_compared(demo: Demo, glue: Glue) -> None:
    shown = json.loads(glue("show", demo["adapter"], "--json").stdout)
    wanted = {
        "sha256",
        "base_model",
        "base_revision",
        "recipe",
        "dataset",
        "versions",
        "verdict",
        "training",
        "counts",
        "examples",
    }
    assert wanted <= shown.keys()
    assert json.loads(glue("diff", demo["adapter"], demo["adapter"], "--json").stdout) == {}
    assert glue("show", "20000101T000000Z-00000000").returncode == 10


def test_prune_keeps_what_serves(demo: Demo, site: Site, glue: Glue) -> None:
    before = site.store.names()
    done = json.loads(glue("prune", "--keep", "1", "--dry-run", "--json").stdout)
    assert demo["adapter"] not in done["removable"] and site.store.names() == before


def test_a_night_is_reported_on_a_page_in_the_terminal_and_in_a_banner(
    demo: Demo, site: Site, glue: Glue
) -> None:
    night = site.store.manifest(demo["adapter"])["night"]
    folder = site.state / "nights" / night
    page = (folder / "report.html").read_text()
    assert "<svg" in page and demo["adapter"] in page and "make rollback" in page
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", page), (
        "the page asks for something from elsewhere"
    )
    assert page.count('<td class="was">') >= 5
    assert re.search(r"<h1[^>]*>\d+ of \d+ questions answered right \(\d+ before\)</h1>", page)
    summary = (folder / "summary.txt").read_text()
    assert summary.startswith("The assistant learned last night.") and "energy" in summary

    def banners() -> list[str]:
        return [
            row["content"] for row in site.administrator().call("GET", "/api/v1/configs/banners")
        ]

    adapters.promote(site, demo["adapter"])
    assert any("learned from the team's ratings" in text for text in banners())
    adapters.promote(site, None)
    assert not any("learned from the team's ratings" in text for text in banners()), (
        "it tells of what does not serve"
    )
    adapters.rollback(site)
    assert any("learned from the team's ratings" in text for text in banners())
    assert "morning" in json.loads(glue("status", "--json").stdout)
