"""A night that is late while vLLM is in a form for judging, with the stand-ins of tests/faults."""

import time
from dataclasses import replace

import pytest

from glue.core import desired_state
from glue.core.errors import GateRefused
from glue.core.names import BASE
from glue.core.verdict import Verdict
from glue.night import evaluate, night
from glue.night.tonight import Night
from glue.serving import day, model
from tests.core.test_state import make_checkpoint
from tests.faults import conftest
from tests.faults.stand_ins import StandInSite
from tests.learning.test_judge import publish_merged

folder, site = conftest.folder, conftest.site


@pytest.mark.parametrize("judged", ["", "the candidate's"])
def test_the_current_checkpoint_serves_after_a_late_refusal(
    site: StandInSite, judged: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The base model or a refused candidate ran last. Neither answers as the current adapter."""
    good, candidate = (publish_merged(site.store, name) for name in ("good", "candidate"))
    make_checkpoint(site.store, good, good)
    site.store.serve_as(good, True)
    site.store.advance(good)
    day.start(site)
    assert site.vllm().models() == {BASE: f"/adapters/{good}/checkpoint"}

    def refuse_late(tonight: Night, *_: object) -> Verdict:
        own = desired_state.require(site.state, tonight.name)
        desired_state.write(site.state, replace(own, until_time=time.time() - 1))
        make_checkpoint(site.store, candidate, candidate)
        site.store.set_judging(True, candidate if judged else "")
        model.ensure_form(site)
        assert site.vllm().models()[BASE] != f"/adapters/{good}/checkpoint"
        return Verdict(False, ("worse",), {})

    monkeypatch.setattr(evaluate, "judge", refuse_late)
    with pytest.raises(GateRefused):
        night.run(site)
    assert site.vllm().models() == {BASE: f"/adapters/{good}/checkpoint"}
    assert not site.store.judging()
