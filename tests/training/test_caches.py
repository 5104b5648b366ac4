"""Seconds that caches save: against the first run of the same versions, and against nothing
else."""

from pathlib import Path

from training import caches

OLD, NEW = {"torch": "2.12"}, {"torch": "2.13"}


def test_the_warm_up_is_what_the_first_steps_took_beyond_the_usual() -> None:
    assert caches.warm_up_seconds([9.0, 3.0] + [1.0] * 18) == 10.0
    assert caches.warm_up_seconds([9.0] * caches.FIRST_STEPS) == 0.0
    assert caches.warm_up_seconds([1.0] * 30) == 0.0


def test_the_first_run_saves_nothing_and_the_next_what_it_did_not_wait_for(tmp_path: Path) -> None:
    assert caches.seconds_saved(tmp_path, OLD, 60.0) is None
    assert caches.seconds_saved(tmp_path, OLD, 8.0) == 52.0
    assert caches.seconds_saved(tmp_path, OLD, 9.0) == 51.0


def test_other_versions_compile_anew_and_say_so(tmp_path: Path) -> None:
    caches.seconds_saved(tmp_path, OLD, 60.0)
    assert caches.seconds_saved(tmp_path, NEW, 50.0) is None
    assert caches.seconds_saved(tmp_path, NEW, 5.0) == 45.0
