"""What the bench must not change: a night, a bad adapter, what serves, a desired state that the
day took back. Docker and vLLM are stubs."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import yaml

from bench import (
    chats,
    cli,
    containers,
    environment,
    promotion,
    rag,
    swap,
    training,
    training_plan,
    vllm_alone,
)
from glue.clients import host, open_webui
from glue.clients.adapter_store import AdapterName, AdapterStore
from glue.clients.docker import Stacks
from glue.core import desired_state, files, journal, lock
from glue.core import services as observed
from glue.core.desired_state import DesiredState, Wanted
from glue.core.errors import DayNotServing, GlueError, Locked, PreconditionFailed
from glue.core.services import Service
from glue.core.settings import REPOSITORY
from glue.night import train as nights_training
from glue.operations import clean
from glue.serving import adapters, day, model, recovery, watch
from glue.serving.watch import Observed, Step

RAG = {
    "model": "vllm",
    "only": None,
    "users": "1",
    "rounds": 1,
    "documents": None,
    "questions": None,
    "books": 1,
    "overrides": (),
    "quick": True,
    "browser": True,
    "name": None,
}
GOOD = {"promote": True}


@pytest.fixture
def site(tmp_path: Path) -> Any:
    (tmp_path / "adapters").mkdir()
    return SimpleNamespace(state=tmp_path, store=AdapterStore(tmp_path / "adapters"), tell=print)


# ---------------------------------------------------------------------- a night goes first


@pytest.mark.parametrize(
    "verb",
    [
        cli.swap_verb,
        lambda site: cli.direct_verb(site, "1", 1, 1),
        lambda site: cli.all_verb(site, 1),
        lambda site: cli.rag_verb(site, **RAG),
    ],
)
def test_no_night_starts_during_a_bench(
    site: Any, verb: Callable[[Any], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    held = []

    def measure(*_: object) -> dict[str, Any]:
        held.append(lock.held(site.state, lock.TRAINING))
        return {}

    places = (
        (swap, "run"),
        (vllm_alone, "run"),
        (rag, "run"),
        (cli, "measure_all"),
        (cli, "report_verb"),
        (environment, "save"),
    )
    for module, name in places:
        monkeypatch.setattr(module, name, measure)
    verb(site)
    assert held[0] and not lock.held(site.state, lock.TRAINING)


def test_a_bench_is_refused_while_a_night_runs(site: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(swap, "run", lambda *_: pytest.fail("the day was touched"))
    with (
        lock.hold(site.state, lock.TRAINING, "a night"),
        pytest.raises(Locked, match="another command is running") as error,
    ):
        cli.swap_verb(site)
    assert "a night" in error.value.saw


def test_a_dead_night_is_undone_before_a_bench_holds_its_lock(site: Any) -> None:
    released(site.store, "1", night="n1")
    site.store.advance("1")
    desired_state.write(site.state, DesiredState(Wanted.NIGHT, "n1", 1.0))
    journal.note(site.state, night="n1", step="smoke", phase="begin")
    with cli.no_night(site):
        assert desired_state.read(site.state) == DesiredState(Wanted.DAY)
        assert site.store.current() is None


# ---------------------------------------------------------------------- all of it


def test_a_failed_part_is_named_and_the_others_run(
    site: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The measuring functions are stubs."""

    def vllm_dies(*_: object) -> None:
        raise GlueError("vLLM did not answer the bench", "out of memory", "make logs")

    site.settings = SimpleNamespace(rehearsal=True)
    monkeypatch.setattr(day, "start", lambda *_: None)
    monkeypatch.setattr(vllm_alone, "run", vllm_dies)
    monkeypatch.setattr(rag, "run", lambda site, plan, command, keep: keep({"plan": plan.name}))
    monkeypatch.setattr(swap, "run", lambda site, command, keep: keep({"rows": []}))
    monkeypatch.setattr(training, "in_between", lambda site, command, keep: keep({"rows": []}))
    monkeypatch.setattr(cli, "report_verb", lambda *_: {"page": "report.html"})
    environment.save(site, "direct", {"rows": ["of another day"]})
    with pytest.raises(GlueError, match="parts of the bench failed") as error:
        cli.all_verb(site, 1)
    assert error.value.saw == "direct: out of memory" and "report.html" in error.value.do
    kept = {path.stem for path in (site.state / "bench").glob("*.json")}
    assert kept == {"rag-vllm", "swap", "training", "rag-paced"}


@pytest.mark.parametrize(("free_bytes", "rests"), [(10, False), (9, True)])
def test_the_model_is_stopped_for_the_training_bench_only_if_memory_is_short(
    site: Any, monkeypatch: pytest.MonkeyPatch, free_bytes: int, rests: bool
) -> None:
    """The functions that measure, stop and start are stubs."""
    happened: list[str] = []

    def measure(*_: object, anew: bool) -> dict[str, Any]:
        happened.append("trained")
        return {"rows": []}

    site.recipe, site.settings = lambda _: None, Numbers(RECIPE="team", NIGHT_FREE_BYTES="10")
    monkeypatch.setattr(training_plan, "few", lambda *_: {})
    monkeypatch.setattr(host, "available_bytes", lambda: free_bytes)
    monkeypatch.setattr(swap, "to_night", lambda *_: happened.append("rests"))
    monkeypatch.setattr(training, "measure", measure)
    monkeypatch.setattr(day, "start", lambda *_: happened.append("day"))
    training.in_between(site, "make bench", lambda found: happened.append(found["command"]))
    assert happened == ["rests"] * rests + ["trained", "make bench", "day"]


class Numbers(dict[str, str]):
    def night_bytes(self, key: str, base: str) -> int:
        return int(self[key])


def test_earlier_levels_are_kept_when_a_level_fails(
    site: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[dict[str, Any]] = []

    @contextmanager
    def running(*_: object) -> Iterator[Any]:
        yield site

    def row(site: Any, plan: rag.Plan, users: int, *_: object) -> dict[str, Any]:
        if users == 2:
            raise GlueError("stock does not answer", "500", "make bench again")
        return {"users": users}

    monkeypatch.setattr(chats, "running", running)
    monkeypatch.setattr(chats, "served", lambda _: None)
    for module, name in ((rag, "row"), (rag, "about"), (environment, "load")):
        monkeypatch.setattr(module, name, row if name == "row" else lambda *_: {})
    with pytest.raises(GlueError, match="does not answer"):
        rag.run(site, rag.Plan(model="vllm", names=(), users=(1, 2), books=0), "c", kept.append)
    assert kept[-1]["rows"] == [{"users": 1}] and kept[-1]["whole"] is False


# ---------------------------------------------------------------------- hot promotion


def released(
    store: AdapterStore, name: str, verdict: dict[str, Any] | None = None, **manifest: Any
) -> str:
    (store.folder / name).mkdir()
    files.write_json(store.folder / name / "manifest.json", {"name": name, **manifest})
    if verdict:
        store.note_verdict(name, verdict)
    return name


@pytest.fixture
def served(site: Any, monkeypatch: pytest.MonkeyPatch) -> list[AdapterName]:
    """What was made to serve, in order. The files are real; vLLM and the chat are stubs."""
    done: list[AdapterName] = []

    def promote(site: Any, release: AdapterName, form: str | None = None) -> AdapterName:
        site.store.advance(release)
        done.append(release)
        return release

    def rollback(site: Any) -> AdapterName:
        history = site.store.before()
        site.store.retreat(history)
        done.append(history[-1])
        return cast(AdapterName, history[-1])

    monkeypatch.setattr(adapters, "promote", promote)
    monkeypatch.setattr(adapters, "rollback", rollback)
    return done


def test_the_previous_adapter_is_promoted_and_rolled_back(
    site: Any, served: list[AdapterName]
) -> None:
    for name in ("1", "2", "3", "4"):
        site.store.advance(
            released(
                site.store, name, GOOD, recipe={"serve": "merged" if name == "2" else "adapter"}
            )
        )
    adapters.rollback(site)  # a person did not like 4
    released(site.store, "5", GOOD)  # nobody ever worked with it
    served.clear()
    assert [row["phase"] for row in promotion.measure(site)] == ["promote, hot", "roll back, hot"]
    assert served == ["1", "3"] and site.store.served() == [None, "1", "2", "3"]


def test_without_a_previous_adapter_the_base_model_is_promoted_or_nothing(
    site: Any, served: list[AdapterName]
) -> None:
    released(site.store, "1", GOOD)
    assert promotion.measure(site) == [] and served == []
    site.store.advance(released(site.store, "2", GOOD))
    promotion.measure(site)
    assert served == [None, "2"] and site.store.current() == "2"


def test_promotion_is_not_timed_while_a_checkpoint_serves(
    site: Any, served: list[AdapterName]
) -> None:
    site.store.advance(released(site.store, "1", GOOD))
    released(site.store, "2", GOOD)
    (site.store.folder / "1" / "checkpoint").mkdir()
    (site.store.folder / "1" / "checkpoint" / "config.json").touch()
    site.store.serve_as("1", merged=True)
    assert promotion.measure(site) == [] and served == []


@pytest.mark.parametrize("moment", ["before the link", "after the link"])
def test_an_interrupted_bench_restores_what_served(
    site: Any, served: list[AdapterName], moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("2", "1"):
        site.store.advance(released(site.store, name, GOOD))
    whole = adapters.promote

    def broken_off(site: Any, release: AdapterName, form: str | None = None) -> AdapterName:
        if release == "2":
            if moment == "after the link":
                whole(site, release, form)
            raise KeyboardInterrupt
        return whole(site, release, form)

    monkeypatch.setattr(adapters, "promote", broken_off)
    with pytest.raises(KeyboardInterrupt):
        promotion.measure(site)
    assert site.store.served() == [None, "2", "1"]
    assert served[-1] == "1", "vLLM is told, also where the link never moved"


# ---------------------------------------------------------------------- the swap, and the day after
# it


class Stage:
    """A stub of Docker, the door and vLLM: records the calls in order and fails on demand. The
    desired state is a real file."""

    def __init__(self, site: Any, patch: pytest.MonkeyPatch, breaks: str = "") -> None:
        self.site, self.breaks, self.done = site, breaks, list[str]()
        site.settings = SimpleNamespace(rehearsal=True, number=lambda key: 600)
        site.stacks = SimpleNamespace(
            stop=lambda *_: self.note("stop"),
        )
        site.vllm = lambda: SimpleNamespace(running_requests=lambda: 3, answers=lambda: True)
        since = {"FinishedAt": 1, "StartedAt": 5}
        patch.setattr(containers, "state_time", lambda *asked: time.time() - since[asked[-1]])
        patch.setattr(day, "start", self.start)
        patch.setattr(model, "write_notice", lambda site, reason, at: self.note(f"notice {reason}"))
        patch.setattr(model, "wait_for_door", lambda *_: self.note("door"))
        patch.setattr(nights_training, "DRAIN_SECONDS", 0)
        patch.setattr(host, "drop_page_cache", lambda: True)
        patch.setattr(host, "observe", lambda: SimpleNamespace(may_drop_cache=True))
        patch.setattr(swap, "disk_floor", lambda _: {"seconds": 1.0})
        patch.setattr(swap, "ADDRESS_LOOK_SECONDS", 0.001)
        patch.setattr(promotion, "measure", lambda _: [])
        patch.setattr(environment, "describe", lambda _: {})

    def note(self, what: str) -> None:
        found = desired_state.read(self.site.state)
        self.done.append(f"{what} while {found.wanted if found else 'nothing'} is desired")
        if what == self.breaks:
            self.breaks = ""
            raise KeyboardInterrupt

    def start(self, site: Any, caller: day.Caller = day.Caller.PERSON, night: str = "") -> None:
        self.note(f"day of a {caller}")
        desired_state.write(site.state, DesiredState(Wanted.DAY))
        time.sleep(0.05)  # stands for a start of the model, beside which it is looked at


def test_both_starts_are_measured_with_the_floor_of_the_same_stop(
    site: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage, kept = Stage(site, monkeypatch), list[dict[str, Any]]()
    found = swap.run(site, "c", kept.append)
    assert [
        row["phase"] for row in found["rows"] if row["phase"].startswith(("day to", "night to"))
    ] == [
        "day to night",
        "night to day, warm",
        "day to night, again",
        "night to day, cold",
    ]
    to_night = next(row for row in found["rows"] if row["phase"] == "day to night")
    assert to_night["added_seconds"] == pytest.approx(
        to_night["seconds"] - to_night["floor_seconds"], abs=0.002
    )
    assert [row["whole"] for row in kept] == [False] * 5 + [True]
    assert stage.done[1:4] == [
        "notice night while night is desired",
        "door while night is desired",
        "stop while night is desired",
    ]


@pytest.mark.parametrize("moment", ["notice night", "door", "stop"])
def test_an_interrupted_swap_brings_the_day_back(
    site: Any, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = Stage(site, monkeypatch, breaks=moment)
    with pytest.raises(KeyboardInterrupt):
        swap.run(site, "c", lambda _: None)
    assert stage.done[-1] == "day of a night while night is desired"
    assert desired_state.read(site.state) == DesiredState(Wanted.DAY)


def test_the_error_of_a_failed_day_includes_the_bench_s_error(
    site: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    Stage(site, monkeypatch)

    def fails(*_: object, **__: object) -> None:
        raise GlueError("vLLM dies", "out of memory", "make logs")

    monkeypatch.setattr(day, "start", fails)
    with (
        pytest.raises(DayNotServing, match="did not start") as error,
        swap.the_day_after(site),
    ):
        raise KeyboardInterrupt("signal 15")
    assert "out of memory" in error.value.saw and "signal 15" in error.value.saw


def test_the_watch_restarts_the_model_after_a_killed_swap(
    site: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    Stage(site, monkeypatch)
    swap.to_night(site, "")
    found, now = desired_state.read(site.state), time.time()
    down = {name: Service(name, "running", "healthy") for name in observed.DAY_SERVICES} | {
        "vllm": Service("vllm", "exited")
    }
    assert watch.next_step(found, Observed(down, night_alive=True), now)[0] is Step.NOTHING, (
        "the bench lives"
    )
    assert watch.next_step(found, Observed(down), now)[0] is Step.DAY, "it was killed"
    well = {name: Service(name, "running", "healthy") for name in observed.DAY_SERVICES}
    assert watch.next_step(found, Observed(well), now)[0] is Step.DAY, (
        "killed before the stop: the desk answers, by the notice"
    )
    recovery.undo(site, alive=False)
    assert desired_state.read(site.state) == DesiredState(Wanted.DAY)


def test_a_swap_leaves_stopped_what_a_person_stopped(
    site: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = Stage(site, monkeypatch)
    desired_state.write(site.state, DesiredState(Wanted.DOWN))
    with pytest.raises(desired_state.Preempted):
        swap.to_night(site, "")
    assert stage.done == [] and desired_state.read(site.state) == DesiredState(Wanted.DOWN)


@pytest.mark.parametrize(
    ("may_drop", "rehearsal", "caches", "words"),
    [
        (True, True, ("warm", "cold"), ""),
        (True, False, ("cold",), "no warm start"),
        (False, False, ("warm",), "only root"),
    ],
)
def test_a_start_is_named_by_its_page_cache(
    may_drop: bool,
    rehearsal: bool,
    caches: tuple[str, ...],
    words: str,
    site: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(host, "observe", lambda: SimpleNamespace(may_drop_cache=may_drop))
    site.settings = SimpleNamespace(rehearsal=rehearsal)
    assert swap.starts(site)[0] == caches and words in swap.starts(site)[1]


def test_the_first_healthy_answer_is_seen_despite_docker_s_errors(
    site: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(swap, "ADDRESS_LOOK_SECONDS", 0.001)
    looks, asked, seen = (
        iter([OSError("docker"), GlueError("no", "address", "yet")]),
        [0],
        threading.Event(),
    )

    def answers() -> bool:
        asked[0] += 1
        if asked[0] == 3:
            seen.set()
        return asked[0] == 3

    def vllm() -> Any:
        error = next(looks, None)
        if error:
            raise error
        site.vllm = lambda: pytest.fail("it has its address already")
        return SimpleNamespace(answers=answers)

    site.vllm = vllm
    with swap.watching(site) as healthy:
        assert seen.wait(10)
    assert len(healthy) == 1


def test_a_missing_healthy_answer_is_an_error(site: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    Stage(site, monkeypatch)
    site.vllm = lambda: SimpleNamespace(answers=lambda: False)
    with pytest.raises(GlueError, match="not seen"):
        swap.to_day(site, "warm", {"seconds": 1.0})


# ---------------------------------------------------------------------- which model is asked


class Person:
    """A stub of a signed-in person of Open WebUI: records how the model was set up."""

    def __init__(self) -> None:
        self.url, self.user, self.models = "http://h:1", {"token": "t"}, list[str]()

    def call(self, *_: object, **__: object) -> dict[str, Any]:
        return {"id": "k", "items": [], "total": 0}

    def ensure_assistant(self, _: object, served: str, *__: object) -> None:
        self.models.append(served)

    def ensure_model(self, form: dict[str, Any]) -> None:
        self.models.append(form["id"])

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_, **__: None


@pytest.mark.parametrize("release", [None, "1"])
def test_on_vllm_both_chats_use_the_team_s_model(
    site: Any, release: AdapterName, monkeypatch: pytest.MonkeyPatch
) -> None:
    if release:
        site.store.advance(released(site.store, release))
    site.settings = {"WEBUI_ADMIN_PASSWORD": "p", "WEBUI_ADMIN_EMAIL": "e"}
    site.stacks = SimpleNamespace(
        services=lambda _: {name: Service(name, "running") for name in ("open-webui", "stock")}
    )
    name = "team-adapter" if release else "team-base"
    assert chats.serving(site) == {"served_as": name, "release": release or "the base model"}
    for chat in (chats.OURS, chats.STOCK):
        person = Person()
        monkeypatch.setattr(open_webui, "sign_in", lambda *_, person=person: person)
        opened = chats.open_chat(site, chat, 1, chats.served_name(site))
        assert person.models == [name]
        assert chat == chats.OURS or opened.fields["model"] == name


# ---------------------------------------------------------------------- a bench of training


@contextmanager
def bench_of(
    site: Any, trainer: Service | None, meanwhile: Callable[[], None], patch: pytest.MonkeyPatch
) -> Iterator[None]:
    """A stub of the container: it starts, something happens, and then it has the given state."""
    found = iter((None, trainer))
    site.stacks = SimpleNamespace(
        trainer=lambda: next(found),
        last_log_lines=lambda *_: "its last words",
        remove_trainer=lambda: None,
    )
    patch.setattr(training, "start", lambda *_: None)
    patch.setattr(training, "follow", lambda *_: meanwhile())
    yield


@pytest.mark.parametrize("left", [None, Service("trainer", "exited", exit_code=143)])
def test_a_bench_that_the_day_ended_is_preempted(
    site: Any, left: Service | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def day() -> None:
        desired_state.write(site.state, DesiredState(Wanted.DAY))

    with bench_of(site, left, day, monkeypatch), pytest.raises(desired_state.Preempted) as error:
        training.run(site, {}, False)
    assert error.value.saw == "the day went first" and desired_state.read(
        site.state
    ) == DesiredState(Wanted.DAY)


def test_a_bench_leaves_stopped_what_a_person_stopped(
    site: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    desired_state.write(site.state, DesiredState(Wanted.DOWN))

    def measured() -> None:
        files.write_json(site.state / "bench" / "training" / "RESULT.json", {"rows": []})

    with bench_of(site, Service("trainer", "exited"), measured, monkeypatch):
        assert training.run(site, {}, False) == {"rows": []}
    assert desired_state.read(site.state) == DesiredState(Wanted.DOWN)


def test_without_room_the_suggested_command_is_one_that_the_watch_respects(
    site: Any,
) -> None:
    site.settings = SimpleNamespace(night_bytes=lambda *_: 10**18)
    with pytest.raises(PreconditionFailed) as error:
        training.require_room(site)
    assert error.value.do == "make stop, then the bench again, then make day"


# ---------------------------------------------------------------------- what a report says, and
# what is left behind


@pytest.mark.parametrize(
    ("reference", "version"),
    [
        ("ghcr.io/open-webui/open-webui:v0.12.4", "0.12.4"),
        ("registry:5000/open-webui:v0.12.5@sha256:00ff", "0.12.5"),
        ("open-webui@sha256:00ff", "open-webui@sha256:00ff"),
    ],
)
def test_the_version_is_the_tag_of_the_image(reference: str, version: str) -> None:
    assert environment.version(reference) == version


def test_a_report_names_the_versions_of_glue_and_open_webui(
    site: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environment, "__version__", "5.6.7")
    keys = {key: f"example/{key.lower()}:v7.8.9" for key in environment.IMAGES}
    site.settings = type(
        "Values", (dict,), {"profile": "spark", "image": lambda self, key: self[key]}
    )(keys)
    site.stacks = SimpleNamespace(
        engine=lambda: SimpleNamespace(version="1"), has_image=lambda _: False
    )
    found = environment.describe(site)["versions"]
    assert (found["glue"], found["Open WebUI"]) == ("5.6.7", "7.8.9")


def test_the_bench_s_containers_are_restricted_like_the_day_s() -> None:
    class Loader(yaml.SafeLoader):
        """Ignores Compose's own YAML tags."""

    for tag in ("!reset", "!override"):
        Loader.add_constructor(tag, lambda loader, node: None)
    services = yaml.load((REPOSITORY / "compose.bench.yaml").read_text(), Loader)["services"]
    for name in services.keys() - {"open-webui"}:
        assert (services[name]["cap_drop"], services[name]["security_opt"]) == (
            ["ALL"],
            ["no-new-privileges:true"],
        )


def test_clean_removes_the_bench_s_containers_and_volumes_only() -> None:
    """A stub of docker-py: the engine has this machine's containers and volumes."""
    gone: list[str] = []
    names = [
        "p-models",
        "p-bench-ours-paced",
        "p-bench-stock-vllm",
        "p-bench-models",
        "other-bench-ours-paced",
    ]

    def removable(name: str) -> Any:
        return SimpleNamespace(name=name, remove=lambda force=False: gone.append(name))

    def found(all: bool, filters: dict[str, list[str]], ignore_removed: bool) -> list[Any]:
        return [removable(filters["label"][0].partition("=")[2])]

    stacks = cast(Any, Stacks.__new__(Stacks))
    stacks.settings = {"PROJECT": "p"}
    stacks.docker = SimpleNamespace(
        containers=SimpleNamespace(list=found),
        volumes=SimpleNamespace(list=lambda: [removable(name) for name in names]),
    )
    assert clean.remove_volumes(stacks) == names[:3]
    assert gone == ["p-day", "p-night", "p-bench", *names[:3]]
