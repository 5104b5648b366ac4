import pytest

from glue.core import services as observed
from glue.core.desired_state import DesiredState, Wanted
from glue.core.services import Mode, Service
from glue.serving import watch
from glue.serving.watch import Observed, Step

UP = {name: Service(name, "running", "healthy") for name in observed.DAY_SERVICES}
TRAINER = Service("trainer", "running")


@pytest.mark.parametrize(
    ("changes", "trainer", "mode"),
    [
        ({}, None, Mode.DAY),
        ({"vllm": Service("vllm", "running", "starting")}, None, Mode.SWITCHING),
        ({"vllm": Service("vllm", "exited")}, TRAINER, Mode.NIGHT),
        ({}, TRAINER, Mode.DAY),
        ({"vllm": Service("vllm", "exited")}, Service("trainer", "exited"), Mode.SWITCHING),
        ({"open-webui": Service("open-webui", "exited")}, None, Mode.DOWN),
        ({"open-webui": Service("open-webui", "running", "starting")}, None, Mode.SWITCHING),
        ({"door": Service("door", "running", "unhealthy")}, TRAINER, Mode.DOWN),
    ],
)
def test_the_mode_follows_from_the_services(
    changes: dict[str, Service], trainer: Service | None, mode: Mode
) -> None:
    assert observed.mode(UP | changes, trainer) is mode


def test_no_service_is_mode_down() -> None:
    assert observed.mode({}, None) is Mode.DOWN


def test_services_that_do_not_serve_are_named_with_their_state() -> None:
    services = UP | {"vllm": Service("vllm", "running", "starting")}
    del services["door"]
    assert observed.not_serving(services) == {"vllm": "running starting", "door": "absent"}


def test_a_hanging_service_is_restarted_and_named_with_its_health_check_s_words() -> None:
    hung = Service("vllm", "running", "unhealthy", fault="vLLM hangs")
    starting, looping = (
        Service("door", "running", "starting"),
        Service("night-desk", "running", "starting", restarts=3),
    )
    services = UP | {"vllm": hung, "door": starting, "night-desk": looping}
    assert watch.must_restart(services) == ("vllm", "night-desk")
    assert watch.must_restart(UP | {"door": starting}) == ()
    step, why = watch.next_step(DesiredState(Wanted.DAY), Observed(UP | {"vllm": hung}), now=0)
    assert (step, why) == (Step.RESTART, "vllm running unhealthy: vLLM hangs")


@pytest.mark.parametrize(("now", "step"), [(50, Step.NOTHING), (150, Step.DAY)])
def test_a_hanging_vllm_is_left_to_the_evaluation_only_until_the_night_s_time_ends(
    now: float, step: Step
) -> None:
    hung = UP | {"vllm": Service("vllm", "running", "unhealthy")}
    assert (
        watch.next_step(
            DesiredState(Wanted.JUDGING, "night", 100), Observed(hung, night_alive=True), now
        )[0]
        is step
    )
