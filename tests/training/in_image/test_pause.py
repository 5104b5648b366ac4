"""NIGHT=beside: the trainer waits while the vLLM beside it answers somebody."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.training.in_image import test_night, test_plain, test_search
from training import loop, pause, train
from training.progress import Progress

Looks = Callable[..., list[Path]]


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> Looks:
    """Sets what the trainer sees at each look, False after the last, and what happens at it."""

    def set_up(*seen: bool, act: Callable[[], object] = lambda: None) -> list[Path]:
        looked: list[Path] = []

        def wanted(folder: Path) -> bool:
            looked.append(folder)
            act()
            return len(looked) <= len(seen) and seen[len(looked) - 1]

        monkeypatch.setattr(pause, "wanted", wanted)
        monkeypatch.setattr(pause, "LOOK_SECONDS", 0.001)
        return looked

    return set_up


@pytest.mark.parametrize(
    ("seconds_ago", "expected"), [(0, True), (10, True), (60, False), (-3600, False)]
)
def test_only_a_file_that_is_still_renewed_pauses(
    seconds_ago: int, expected: bool, tmp_path: Path
) -> None:
    """Another was left by a glue that died, also where the clock was set back since."""
    assert not pause.wanted(tmp_path)
    file, moment = tmp_path / pause.PAUSE, time.time() - seconds_ago
    file.touch()
    os.utime(file, (moment, moment))
    assert pause.wanted(tmp_path) is expected


def test_a_pause_is_no_part_of_a_step(looks: Looks, tmp_path: Path) -> None:
    progress = Progress(tmp_path, time.time() + 3600)
    progress.begin(steps=1)
    looked = looks(True, True, True)
    progress.give_way()
    progress.step(1, 1, 0.5)
    assert len(looked) == 4 and progress.paused_seconds > 0.003
    assert progress.step_seconds[0] < time.monotonic() - progress.began + 0.003
    phases = [row["phase"] for row in test_night.progress(tmp_path)]
    assert phases == ["train", "paused", "train"]


def test_a_long_pause_is_no_silence(
    looks: Looks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pause, "HEARTBEAT_SECONDS", 0.0)
    looks(True, True, True)
    Progress(tmp_path, time.time() + 3600).give_way()
    assert len(test_night.progress(tmp_path)) == 3


def test_a_pause_ends_at_the_deadline_and_when_the_trainer_is_stopped(
    looks: Looks, tmp_path: Path
) -> None:
    always = [True] * 1000
    assert len(looks(*always)) == 0
    late = looks(*always)
    Progress(tmp_path, time.time() - 1).give_way()
    assert len(late) == 1
    progress = Progress(tmp_path, time.time() + 3600)
    stopped = looks(*always, act=progress.stop_soon)
    progress.give_way()
    assert len(stopped) == 1


def test_a_paused_night_learns_the_same(looks: Looks, base: Path, tmp_path: Path) -> None:
    alone = train.run(test_plain.job(tmp_path / "alone", base), pack=False)
    looks(False, True, True, False, True)
    paused = train.run(test_plain.job(tmp_path / "paused", base), pack=False)
    losses = [[done[key] for key in ("loss_first", "loss_last")] for done in (alone, paused)]
    assert losses[0] == losses[1]
    assert "paused" in {row["phase"] for row in test_night.progress(tmp_path / "paused")}


@pytest.mark.parametrize("search", [None, {"learning_rate": [1e-5, 2e-2], "rank": [4, 8]}])
def test_the_trainer_looks_before_every_forward_pass(
    search: dict[str, Any] | None,
    looks: Looks,
    base: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also before those of the search, and of the scores at the end."""
    looked, real, passes = looks(), loop.answer_logs, []

    def answer_logs(*given: Any) -> Any:
        passes.append(given)
        return real(*given)

    monkeypatch.setattr(loop, "answer_logs", answer_logs)
    done = train.run(test_search.searching(tmp_path, base, search=search), pack=False)
    assert done["outcome"] == "trained", done
    assert len(looked) == len(passes) + len(done["likelihood_of_first_rows"])
    assert set(looked) == {tmp_path}
