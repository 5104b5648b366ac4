"""Whose turn it is, and what comes next."""

from pathlib import Path

import pytest

from glue.clients import host
from glue.core import desired_state, services
from glue.core.desired_state import Preempted, Turn, Wanted
from glue.core.services import Service, Services
from glue.night import train
from glue.serving import watch
from glue.serving.watch import Step, World

UP = {name: Service(name, "running", "healthy") for name in services.DAY_SERVICES}
NOW = 1_000_000.0
NIGHT = Turn(Wanted.NIGHT, "n1", NOW + 60)
JUDGING = Turn(Wanted.JUDGING, "n1", NOW + 60)
DAY = Turn(Wanted.DAY)


def vllm(state: str, health: str = "", restarts: int = 0) -> Services:
    return UP | {"vllm": Service("vllm", state, health, restarts=restarts)}


TRAINER = Service("trainer", "running")


@pytest.mark.parametrize(
    ("wanted", "world", "later_seconds", "step"),
    [
        (None, World({}), 0, Step.NOTHING),
        (Turn(Wanted.DOWN), World({}, TRAINER), 0, Step.NOTHING),
        (NIGHT, World(vllm("exited"), TRAINER, night_alive=True), 0, Step.NOTHING),
        (NIGHT, World(vllm("exited"), TRAINER, night_alive=True), 61, Step.DAY),
        (NIGHT, World(vllm("exited"), TRAINER, night_alive=False), 0, Step.DAY),
        (NIGHT, World(vllm("exited")), 0, Step.DAY),
        (JUDGING, World(vllm("running", "starting"), night_alive=True), 0, Step.NOTHING),
        (JUDGING, World(vllm("running", "starting"), night_alive=True), 61, Step.DAY),
        (JUDGING, World(UP, night_alive=True), 61, Step.NOTHING),
        (JUDGING, World(UP, night_alive=False), 0, Step.DAY),
        (DAY, World(UP), 0, Step.NOTHING),
        (DAY, World(UP, night_alive=True), 0, Step.NOTHING),
        (DAY, World(UP, TRAINER), 0, Step.DAY),
        (DAY, World(UP, TRAINER, night_alive=True), 0, Step.NOTHING),
        (DAY, World(vllm("running", "starting")), 0, Step.NOTHING),
        (DAY, World(vllm("running", "starting", restarts=2)), 0, Step.NOTHING),
        (DAY, World(vllm("running", "starting", restarts=3)), 0, Step.RESTART),
        (
            DAY,
            World(vllm("restarting", "starting", restarts=3), attempts=(NOW,)),
            299,
            Step.NOTHING,
        ),
        (
            DAY,
            World(vllm("running", "starting", restarts=3), attempts=(NOW,) * 4),
            99,
            Step.GIVE_UP,
        ),
        (DAY, World(vllm("running", "healthy", restarts=9)), 0, Step.NOTHING),
        (DAY, World(vllm("running", "unhealthy")), 0, Step.RESTART),
        (DAY, World(vllm("exited")), 0, Step.DAY),
        (DAY, World({}), 0, Step.DAY),
        (DAY, World(vllm("exited"), attempts=(NOW,)), 299, Step.NOTHING),
        (DAY, World(vllm("exited"), attempts=(NOW,)), 301, Step.DAY),
        (DAY, World(vllm("exited"), attempts=(NOW, NOW + 301)), 899, Step.NOTHING),
        (DAY, World(vllm("exited"), attempts=(NOW,) * 4), 99, Step.GIVE_UP),
        (DAY, World(vllm("exited"), attempts=(NOW,) * 4), 6 * 3600, Step.DAY),
        (
            DAY,
            World(vllm("exited"), attempts=(NOW + 9,) * 4),
            0,
            Step.DAY,
        ),  # the clock was set back
    ],
)
def test_the_next_step(wanted: Turn | None, world: World, later_seconds: float, step: Step) -> None:
    assert watch.next_step(wanted, world, NOW + later_seconds)[0] is step


def test_the_desired_state_is_stored_and_a_night_that_lost_it_gets_an_error(tmp_path: Path) -> None:
    assert desired_state.read(tmp_path) is None
    desired_state.take(tmp_path, NIGHT)
    assert desired_state.read(tmp_path) == desired_state.require(tmp_path, "n1") == NIGHT
    desired_state.take(tmp_path, DAY)
    with pytest.raises(Preempted, match="lost its turn") as error:
        desired_state.require(tmp_path, "n1")
    assert "day" in error.value.saw


def test_an_unreadable_desired_state_counts_as_none(tmp_path: Path) -> None:
    (tmp_path / "turn.json").write_text('{"wanted": "ni')
    assert desired_state.read(tmp_path) is None


@pytest.mark.parametrize(
    ("available", "stall", "silent", "words"),
    [
        (13e9, 0, 10, ""),
        (11.9e9, 0, 10, "11.9 GB of memory left to the machine, 12.0 GB are its own"),
        (22e9, 20, 10, ""),
        (22e9, 35.5, 10, "for 36 % of the last 10 s the whole machine waited for memory"),
        (40e9, 35.5, 10, ""),
        (13e9, 0, 1201, "silent for 1201 s"),
    ],
)
def test_a_trainer_is_stopped_for_memory_or_silence(
    available: float, stall: float, silent: float, words: str
) -> None:
    assert train.trainer_fault(int(available), stall, 12_000_000_000, silent, 1200) == words


@pytest.mark.parametrize(
    ("text", "percent"),
    [
        (
            (
                "some avg10=81.20 avg60=3.00 avg300=1.00 total=9\nfull avg10=35.50 avg60=1.20"
                " avg300=0.30 total=7\n"
            ),
            35.5,
        ),
        ("some avg10=81.20 avg60=3.00 avg300=1.00 total=9\n", 0.0),
        (None, 0.0),
    ],
    ids=["stalled", "no full line", "no such file"],
)
def test_memory_pressure_is_read_from_the_kernel_s_file(
    text: str | None, percent: float, tmp_path: Path
) -> None:
    pressure = tmp_path / "memory"
    if text is not None:
        pressure.write_text(text)
    assert host.memory_stall_percent(pressure) == percent


def test_memory_pressure_of_this_machine_is_read() -> None:
    assert 0 <= host.memory_stall_percent() <= 100


@pytest.mark.parametrize(
    ("found", "late"),
    [
        (None, False),
        (DAY, False),
        (Turn(Wanted.JUDGING, "n1", 2e12), False),
        (Turn(Wanted.JUDGING, "n1", 1.0), True),
    ],
)
def test_a_night_is_late_when_the_day_goes_first(
    found: Turn | None, late: bool, tmp_path: Path
) -> None:
    if found is not None:
        desired_state.take(tmp_path, found)
    assert desired_state.late(tmp_path) is late
