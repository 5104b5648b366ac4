"""Seconds that caches save, compared with the first run of the same versions only."""

from pathlib import Path

from training import caches

OLD, NEW = {"torch": "2.12"}, {"torch": "2.13"}


def test_the_warm_up_is_the_extra_time_of_the_first_steps() -> None:
    assert caches.warm_up_seconds([9.0, 3.0] + [1.0] * 18) == 10.0
    assert caches.warm_up_seconds([9.0] * caches.FIRST_STEPS) == 0.0
    assert caches.warm_up_seconds([1.0] * 30) == 0.0


def test_the_first_run_saves_nothing_and_the_next_its_warm_up(tmp_path: Path) -> None:
    assert caches.seconds_saved(tmp_path, OLD, 60.0) is None
    assert caches.seconds_saved(tmp_path, OLD, 8.0) == 52.0
    assert caches.seconds_saved(tmp_path, OLD, 9.0) == 51.0


def test_other_versions_start_a_new_comparison(tmp_path: Path) -> None:
    caches.seconds_saved(tmp_path, OLD, 60.0)
    assert caches.seconds_saved(tmp_path, NEW, 50.0) is None
    assert caches.seconds_saved(tmp_path, NEW, 5.0) == 45.0
