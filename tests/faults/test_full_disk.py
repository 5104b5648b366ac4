"""A really full disk: the state folder is on a small disk, and the trainer fills it."""

import subprocess
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from glue.core import desired_state, journal
from glue.core.desired_state import DesiredState, Wanted
from glue.core.errors import GlueError
from glue.core.settings import Settings
from glue.night import night
from glue.serving import day
from tests.faults.stand_ins import StandInSite
from tests.faults.test_kill import begin, require_a_good_day


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    state = tmp_path / "state"
    state.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(state)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode != 0:
        pytest.skip("only root may mount a small disk")
    yield tmp_path
    subprocess.run(["umount", "--lazy", str(state)], check=True)


@pytest.mark.parametrize("reserved", [2**17, 16], ids=["room reserved", "hardly any room reserved"])
def test_a_trainer_that_fills_the_disk_ends_the_night_and_the_day_serves(
    reserved: int, site: StandInSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = replace(site.settings.model, adapter_bytes_per_rank=reserved // 16)
    monkeypatch.setattr(Settings, "model", small)
    good = begin(site)
    with site.ledger.change() as world:
        world["trainer"] = "fills the disk"
    with pytest.raises((GlueError, OSError)):
        night.run(site)
    day.start(site)
    require_a_good_day(site)
    assert site.store.current() == good
    if reserved > 16:
        last = journal.last_night(site.state)
        assert last is not None and last["outcome"] == "failed"


def test_the_desired_state_is_correct_on_a_full_disk(site: StandInSite) -> None:
    """Otherwise the watch, which reads it first, would not look after a day that started on a
    full disk."""
    desired_state.write(site.state, DesiredState(Wanted.NIGHT, "20260101T190000Z", 1.0))
    with suppress(OSError), (site.state / "filling").open("wb", buffering=0) as file:
        while file.write(bytes(4096)):
            pass
    for wanted in (Wanted.DAY, Wanted.DOWN, Wanted.DAY):
        desired_state.write(site.state, DesiredState(wanted))
        assert desired_state.read(site.state) == DesiredState(wanted)
