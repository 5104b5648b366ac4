"""The desired state, and the next step of the watch."""

from pathlib import Path

import pytest

from glue.clients import host
from glue.core import desired_state, services
from glue.core.desired_state import DesiredState, Preempted, Wanted
from glue.core.services import Service, Services
from glue.night.train import trainer_fault
from glue.serving import watch
from glue.serving.watch import Observed, Step

UP = {name: Service(name, "running", "healthy") for name in services.DAY_SERVICES}
NOW = 1_000_000.0
NIGHT = DesiredState(Wanted.NIGHT, "n1", NOW + 60)
JUDGING = DesiredState(Wanted.JUDGING, "n1", NOW + 60)
DAY = DesiredState(Wanted.DAY)


def vllm(state: str, health: str = "", restarts: int = 0) -> Services:
    return UP | {"vllm": Service("vllm", state, health, restarts=restarts)}


TRAINER = Service("trainer", "running")


@pytest.mark.parametrize(
    ("desired", "observed", "later_seconds", "step"),
    [
        (None, Observed({}), 0, Step.NOTHING),
        (DesiredState(Wanted.DOWN), Observed({}, TRAINER), 0, Step.NOTHING),
        (NIGHT, Observed(vllm("exited"), TRAINER, night_alive=True), 0, Step.NOTHING),
        (NIGHT, Observed(vllm("exited"), TRAINER, night_alive=True), 61, Step.DAY),
        (NIGHT, Observed(vllm("exited"), TRAINER, night_alive=False), 0, Step.DAY),
        (NIGHT, Observed(vllm("exited")), 0, Step.DAY),
        (JUDGING, Observed(vllm("running", "starting"), night_alive=True), 0, Step.NOTHING),
        (JUDGING, Observed(vllm("running", "starting"), night_alive=True), 61, Step.DAY),
        (JUDGING, Observed(UP, night_alive=True), 61, Step.NOTHING),
        (JUDGING, Observed(UP, night_alive=False), 0, Step.DAY),
        (DAY, Observed(UP), 0, Step.NOTHING),
        (DAY, Observed(UP, night_alive=True), 0, Step.NOTHING),
        (DAY, Observed(UP, TRAINER), 0, Step.DAY),
        (DAY, Observed(UP, TRAINER, night_alive=True), 0, Step.NOTHING),
        (DAY, Observed(vllm("running", "starting")), 0, Step.NOTHING),
        (DAY, Observed(vllm("running", "starting", restarts=2)), 0, Step.NOTHING),
        (DAY, Observed(vllm("running", "starting", restarts=3)), 0, Step.RESTART),
        (
            DAY,
            Observed(vllm("restarting", "starting", restarts=3), attempts=(NOW,)),
            299,
            Step.NOTHING,
        ),
        (
            DAY,
            Observed(vllm("running", "starting", restarts=3), attempts=(NOW,) * 4),
            99,
            Step.GIVE_UP,
        ),
        (DAY, Observed(vllm("running", "healthy", restarts=9)), 0, Step.NOTHING),
        (DAY, Observed(vllm("running", "unhealthy")), 0, Step.RESTART),
        (DAY, Observed(vllm("exited")), 0, Step.DAY),
        (DAY, Observed({}), 0, Step.DAY),
        (DAY, Observed(vllm("exited"), attempts=(NOW,)), 299, Step.NOTHING),
        (DAY, Observed(vllm("exited"), attempts=(NOW,)), 301, Step.DAY),
        (DAY, Observed(vllm("exited"), attempts=(NOW, NOW + 301)), 899, Step.NOTHING),
        (DAY, Observed(vllm("exited"), attempts=(NOW,) * 4), 99, Step.GIVE_UP),
        (DAY, Observed(vllm("exited"), attempts=(NOW,) * 4), 6 * 3600, Step.DAY),
        (
            DAY,
            Observed(vllm("exited"), attempts=(NOW + 9,) * 4),
            0,
            Step.DAY,
        ),  # the clock was set back
    ],
)
def test_the_next_step(
    desired: DesiredState | None, observed: Observed, later_seconds: float, step: Step
) -> None:
    assert watch.next_step(desired, observed, NOW + later_seconds)[0] is step


def test_the_desired_state_is_stored_and_a_night_that_lost_it_gets_an_error(tmp_path: Path) -> None:
    assert desired_state.read(tmp_path) is None
    desired_state.write(tmp_path, NIGHT)
    assert desired_state.read(tmp_path) == desired_state.require(tmp_path, "n1") == NIGHT
    desired_state.write(tmp_path, DAY)
    with pytest.raises(Preempted, match="was preempted") as error:
        desired_state.require(tmp_path, "n1")
    assert "day" in error.value.saw


def test_an_unreadable_desired_state_counts_as_none(tmp_path: Path) -> None:
    (tmp_path / "turn.json").write_text('{"wanted": "ni')
    assert desired_state.read(tmp_path) is None


@pytest.mark.parametrize(
    ("available", "stall", "silent", "words"),
    [
        (13e9, 0, 10, ""),
        (11.9e9, 0, 10, "11.9 GB of memory left, less than the machine's reserve of 12.0 GB"),
        (22e9, 20, 10, ""),
        (22e9, 35.5, 10, "all processes waited for memory during 36 % of the last 10 s"),
        (40e9, 35.5, 10, ""),
        (13e9, 0, 1201, "no progress for 1201 s"),
    ],
)
def test_a_trainer_is_stopped_for_memory_or_silence(
    available: float, stall: float, silent: float, words: str
) -> None:
    assert trainer_fault(int(available), stall, 12_000_000_000, silent, 1200) == words


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
        (DesiredState(Wanted.JUDGING, "n1", 2e12), False),
        (DesiredState(Wanted.JUDGING, "n1", 1.0), True),
    ],
)
def test_a_night_is_late_when_the_day_goes_first(
    found: DesiredState | None, late: bool, tmp_path: Path
) -> None:
    if found is not None:
        desired_state.write(tmp_path, found)
    assert desired_state.night_is_late(tmp_path) is late
