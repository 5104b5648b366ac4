import pytest

from glue import plan
from glue.types import Mode, Service

UP = {name: Service(name, "running", "healthy") for name in plan.DAY_SERVICES}
TRAINER = Service("trainer", "running")


@pytest.mark.parametrize(
    ("changes", "trainer", "mode"),
    [
        ({}, None, Mode.DAY),
        ({"vllm": Service("vllm", "running", "starting")}, None, Mode.MOVING),
        ({"vllm": Service("vllm", "exited")}, TRAINER, Mode.NIGHT),
        ({}, TRAINER, Mode.DAY),
        ({"vllm": Service("vllm", "exited")}, Service("trainer", "exited"), Mode.MOVING),
        ({"open-webui": Service("open-webui", "exited")}, None, Mode.DOWN),
        ({"open-webui": Service("open-webui", "running", "starting")}, None, Mode.MOVING),
        ({"door": Service("door", "running", "unhealthy")}, TRAINER, Mode.DOWN),
    ],
)
def test_mode_is_what_people_would_find(changes: dict[str, Service], trainer: Service | None, mode: Mode) -> None:
    assert plan.mode(UP | changes, trainer) is mode


def test_nothing_at_all_is_down() -> None:
    assert plan.mode({}, None) is Mode.DOWN


def test_what_does_not_serve_is_said_in_words() -> None:
    services = UP | {"vllm": Service("vllm", "running", "starting")}
    del services["door"]
    assert plan.not_serving(services) == {"vllm": "running starting", "door": "absent"}
