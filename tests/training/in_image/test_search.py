"""The night's search: what it tries, what it compares by, and a whole one on a tiny model."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.training.in_image import test_night, test_plain
from training import search, train
from training.night_job import Search
from training.night_rows import Told
from training.search import Setting, Trial

OWN = Setting(1e-4, 4, 8)


def trial(setting: Setting, *losses: float, lost: float = 0.0) -> Trial:
    return Trial(setting, 1.0, losses, lost)


def told(number: int, conversation: str, kind: str = "") -> Told:
    return {"conversation": conversation, "origin": {"kind": kind}}, ([number], [number])


def test_the_recipe_s_own_setting_is_first_and_the_others_are_always_the_same(
    tmp_path: Path,
) -> None:
    path = test_night.write_job(tmp_path, tmp_path, learning_rate=1e-4, most_passes=4)
    job = train.Job(**json.loads(path.read_text()))
    ranges = Search([1e-4, 2e-4, 5e-4], [4, 8], [], most_candidates=4)
    found = search.settings(job, ranges)
    assert found[0] == OWN and len(found) == len(set(found)) == 4
    assert found == search.settings(job, ranges)
    assert len(search.settings(job, Search([1e-4, 2e-4]))) == 2
    assert Setting(1e-4, 4, 4).of(job).alpha == job.alpha / 2


def test_whole_conversations_are_compared_and_the_same_ones_in_any_order() -> None:
    rows = [told(at, f"fact {at // 3}") for at in range(60)]
    rows += [told(at, f"general {at}", "general") for at in range(20)]
    train_rows, kept = search.split(rows)
    names = [search.conversation(one) for one in kept]
    assert not set(names) & {search.conversation(one) for one in train_rows}
    assert len(kept) == 4 * 3 + 4 and sum(search.general(one) for one in kept) == 4
    assert {search.conversation(one) for one in search.split(rows[::-1])[1]} == set(names)


def test_half_survive_each_round_and_the_recipe_s_own_is_trained_whole() -> None:
    others = [Setting(rate, 4, 8) for rate in (1.0, 2.0, 3.0, 4.0, 5.0)]
    asked: list[tuple[float, float]] = []

    def attempt(setting: Setting, share: float) -> Trial:
        asked.append((setting.learning_rate, share))
        return trial(setting, abs(setting.learning_rate - 3.2))

    search.halving(OWN, others, attempt)
    rounds = [[rate for rate, share in asked if share == part] for part in (0.125, 0.25, 0.5, 1.0)]
    assert rounds == [[1.0, 2.0, 3.0, 4.0, 5.0], [3.0, 4.0, 2.0], [3.0, 4.0], [3.0, 1e-4]]


@pytest.mark.parametrize(
    ("new", "lost", "wins"),
    [
        ((0.5, 0.6, 0.5, 0.4, 0.5), 0.0, True),
        ((0.5, 1.6, 0.5, 1.4, 0.5), 0.0, False),
        ((0.5, 0.6, 0.5, 0.4, 0.5), 0.6, False),
        ((1.0, 1.0, 1.0, 1.0, 1.0), 0.0, False),
    ],
    ids=["better everywhere", "noise", "forgets more than it gains", "the same"],
)
def test_only_a_setting_that_is_surely_better_replaces_the_recipe_s(
    new: tuple[float, ...], lost: float, wins: bool
) -> None:
    before = trial(OWN, 1.0, 1.0, 1.0, 1.0, 1.0)
    assert search.better(trial(Setting(1.0, 4, 8), *new, lost=lost), before) is wins


def searching(folder: Path, base: Path, **changes: Any) -> train.Job:
    """Twelve facts in three rows each, and a recipe whose own learning rate is far too small."""
    choose = test_night.practice_model.random.Random(2)
    job = test_plain.job(folder, base, **{"learning_rate": 1e-5, "most_passes": 4} | changes)
    rows = []
    for item in [*test_night.WORLD.codes][:30]:
        for phrasing in range(2):
            *prompt, answer = test_night.world.conversation(
                test_night.WORLD, item, phrasing, choose, passage=False
            )
            rows.append({"prompt": prompt, "completion": [answer], "conversation": item})
    Path(job.train_file).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return job


def test_a_night_finds_the_better_setting_twice_the_same(
    base: Path,
    tmp_path: Path,
) -> None:
    ranges = {"learning_rate": [1e-5, 2e-2], "rank": [4, 8], "most_candidates": 4}
    found = [
        train.run(searching(tmp_path / name, base, search=ranges), pack=False) for name in "ab"
    ]
    assert found[0]["outcome"] == "trained", found[0]
    tried = found[0]["search"]
    assert tried == found[1]["search"] and found[0]["loss_last"] == found[1]["loss_last"]
    assert tried["setting"]["learning_rate"] == 2e-2 and tried["settings"] == 4
    assert tried["setting"]["alpha"] / tried["setting"]["rank"] == 2
    configuration = json.loads((tmp_path / "a" / "adapter" / "adapter_config.json").read_text())
    assert configuration["r"] == tried["setting"]["rank"]
    phases = {row["phase"] for row in test_night.progress(tmp_path / "a")}
    assert phases == {"load", "search", "train", "convert", "done"}


def test_without_time_or_rows_to_compare_the_recipe_s_own_setting_trains(
    base: Path,
    tmp_path: Path,
) -> None:
    ranges = {"learning_rate": [1e-5, 2e-2], "share_of_minutes": 0.0}
    late = train.run(searching(tmp_path / "late", base, search=ranges), pack=False)
    assert late["outcome"] == "trained" and "there was time for 0 trials" in late["search"]["note"]
    few = train.run(test_plain.job(tmp_path / "few", base, search=ranges), pack=False)
    assert few["outcome"] == "trained" and "1 conversations" in few["search"]["note"]
