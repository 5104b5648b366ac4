"""Whether the adapter of a dead night stays, by the journal of this version and of earlier ones."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from glue.clients.adapter_store import ADAPTER_FILES, AdapterStore
from glue.core import desired_state, journal
from glue.core.desired_state import DesiredState, Wanted
from glue.serving import recovery
from tests.core.test_state import make_checkpoint


@pytest.fixture
def site(tmp_path: Path) -> Any:
    """Night n1 has promoted its adapter, and its journal ends at the smoke step."""
    store = AdapterStore(tmp_path / "adapters")
    for name in ADAPTER_FILES:
        (tmp_path / name).write_text("weights")
    store.advance(store.publish(tmp_path, {"night": "n1"}))
    desired_state.write(tmp_path, DesiredState(Wanted.JUDGING, "n1", 2e12))
    journal.record(tmp_path, night="n1", step="smoke", phase="begin")
    return SimpleNamespace(state=tmp_path, store=store, tell=print)


@pytest.mark.parametrize(
    ("rows", "serves_on"),
    [
        ([], False),
        ([{"night": "n0", "event": journal.CONFIRMED}], False),
        ([{"night": "n1", "event": journal.CONFIRMED}], True),
        ([{"night": "n1", "step": "smoke", "phase": "done"}], False),
        ([{"night": "n1", "step": "report", "phase": "begin"}], True),
    ],
    ids=["no answer", "another night", "confirmed", "an earlier version", "confirmed by one"],
)
def test_a_dead_night_s_adapter_stays_only_if_confirmed(
    rows: list[dict[str, Any]], serves_on: bool, site: Any
) -> None:
    for row in rows:
        journal.record(site.state, **row)
    recovery.undo(site, alive=False)
    assert (site.store.current() is not None) == serves_on
    assert desired_state.read(site.state) == DesiredState(Wanted.DAY)
    last = journal.last_night(site.state)
    assert last is not None and last["outcome"] == "died"


def test_a_running_night_is_left_alone(site: Any) -> None:
    recovery.undo(site, alive=True)
    assert site.store.current() is not None and journal.last_night(site.state) is None


@pytest.mark.parametrize("verdict", [None, {"promote": True}])
def test_the_checkpoint_of_a_night_that_ended_before_its_verdict_is_removed(
    site: Any, verdict: dict[str, Any] | None
) -> None:
    """19 GB. One that was judged may serve, or be returned to."""
    (site.state / ADAPTER_FILES[0]).write_text('{"trained_through_quantiser": true}')
    (site.state / ADAPTER_FILES[1]).write_text("others")
    name = site.store.publish(site.state, {"night": "n2"})
    make_checkpoint(site.store, name)
    if verdict:
        site.store.note_verdict(name, verdict)
    recovery.record_dead_nights(site.state)
    assert (site.store.checkpoint(name) is not None) is bool(verdict)
