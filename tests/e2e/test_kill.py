"""Three kills on the real stack (long set). `make kill-study` has all, tests/faults has
stand-ins."""

import time
from typing import Any

import pytest

from glue.clients.site import Site
from glue.core import journal, waiting
from glue.core.waiting import Seen
from tests.e2e import killing
from tests.e2e.killing import Point

DEAF = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True);"
    " time.sleep(600)"
)


def test_a_trainer_that_ignores_sigterm_is_killed(demo: dict[str, Any], site: Site) -> None:
    site.stacks.compose(
        "night", "run", "--detach", "--entrypoint", "python3", "trainer", "-c", DEAF
    )
    waiting.until(
        "the deaf trainer",
        lambda: Seen("deaf" in site.stacks.last_log_lines("night", "trainer"), "it starts"),
        60,
    )
    started = time.monotonic()
    site.stacks.remove_trainer(2)
    assert time.monotonic() - started > 1.5, "it had no time to end by itself"
    assert site.stacks.trainer() is None


@pytest.mark.long
@pytest.mark.parametrize(
    "point",
    [
        Point("glue", "train", "during"),
        Point("vllm", "judge", "during"),
        Point("glue", "promote", "after"),
    ],
    ids=str,
)
def test_the_day_serves_after_a_kill(point: Point, demo: dict[str, Any], site: Site) -> None:
    seed = 500 + ["train", "judge", "promote"].index(point.step)
    found = killing.morning_after(site, point, seed)
    assert found.died, "the victim did not die"
    assert found.day_serving, found.saw
    assert (found.half_published, found.stale_locks) == (0, 0)
    assert found.adapter_after == found.adapter_before == demo["adapter"]
    assert found.day_seconds < site.settings.number("DAY_DEADLINE_SECONDS")
    assert site.stacks.trainer() is None and not journal.unfinished(site.state)
