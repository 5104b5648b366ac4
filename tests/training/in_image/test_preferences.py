"""The second stage on pairs of answers, on a tiny model."""

import json
import math
from pathlib import Path

import pytest
import torch

from tests.training.in_image import test_plain
from training import models, preferences, samples, train


def pairs(count: int) -> list[preferences.Pair]:
    """Prompts of 12 tokens, each with two answers."""
    found = []
    for seed in range(count):
        ids = torch.randint(5, 700, (24,), generator=torch.Generator().manual_seed(seed)).tolist()
        answers = (ids[12:17], ids[17:24])
        found.append(tuple((ids[:12] + answer, [-100] * 12 + answer) for answer in answers))
    return found


def test_the_loss_is_dpo_s() -> None:
    chosen, rejected = torch.tensor([-3.0]), torch.tensor([-5.0])
    found = preferences.pair_losses(chosen, rejected, torch.tensor([0.5]), beta=0.1)
    assert float(found) == pytest.approx(math.log(1 + math.exp(-0.1 * (2.0 - 0.5))))


@pytest.mark.parametrize("pack", [False, True], ids=["rows", "packs"])
def test_the_preferred_answers_win_and_stay_likely(
    base: Path,
    tmp_path: Path,
    pack: bool,
) -> None:
    model, several = models.wrapped(test_plain.job(tmp_path, base)), pairs(10)
    before = preferences.margins(model, several, pack)
    logs = [samples_logs(model, several)]
    losses = preferences.train_preferences(model, several, 5e-3, passes=6, pack=pack)
    after = preferences.margins(model, several, pack)
    logs.append(samples_logs(model, several))
    assert losses[-1] < losses[0] and len(losses) == 18
    assert sum(after) / 10 > sum(before) / 10 + 1
    assert logs[1] > logs[0]


@torch.no_grad()
def samples_logs(model: torch.nn.Module, several: list[preferences.Pair]) -> float:
    chosen = samples.padded([pair[0] for pair in several], "cpu")
    return float(model(**chosen, use_cache=False, fused_lm_head=True).log_probs.sum())


def test_margins_are_the_same_in_a_pack(base: Path, tmp_path: Path) -> None:
    model = models.wrapped(test_plain.job(tmp_path, base))
    one, other = (preferences.margins(model, pairs(5), pack) for pack in (False, True))
    assert one == pytest.approx(other, abs=1e-4)


@pytest.mark.parametrize(("count", "steps"), [(9, 6), (3, 0)])
def test_a_night_trains_the_pairs_after_the_examples(
    base: Path,
    tmp_path: Path,
    count: int,
    steps: int,
) -> None:
    file = tmp_path / "preferences.jsonl"
    job = test_plain.job(tmp_path, base, preferences="dpo", preference_file=str(file), steps=5)
    rows = [json.loads(line) for line in Path(job.train_file).read_text().splitlines()]
    wrong = [{"role": "assistant", "content": "I do not know."}]
    told = [
        {"prompt": row["prompt"], "chosen": row["completion"], "rejected": wrong}
        for row in (rows * 2)[:count]
    ]
    told.append({"prompt": rows[0]["prompt"], "chosen": [], "rejected": wrong})
    file.write_text("".join(json.dumps(row) + "\n" for row in told))
    done = train.run(job, pack=False)
    assert done["outcome"] == "trained" and done["steps"] == 5, done
    assert (done["preferences"]["pairs"], done["preferences"]["steps"]) == (count, steps)
