"""Thousands of ratings, good and bad: built in time and memory, and every row is counted."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from glue.core.settings import REPOSITORY
from tests.learning.flood import TURNS

SECONDS = 120
PEAK_BYTES = 1_000_000_000


@pytest.mark.parametrize("conversations", [150, pytest.param(1000, marks=pytest.mark.long)])
def test_a_flood_of_ratings_is_built_within_time_and_memory_and_fully_counted(
    conversations: int, tmp_path: Path
) -> None:
    command = [
        sys.executable,
        "-m",
        "tests.learning.flood",
        str(tmp_path / "inside" / "dataset"),
        str(conversations),
    ]
    done = subprocess.run(
        command, cwd=REPOSITORY, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr
    came = json.loads(done.stdout)
    card, expected = came["card"], came["expected"]
    repeated = expected.pop("near-duplicate")
    assert came["seconds"] < SECONDS and came["peak_bytes"] < PEAK_BYTES, came
    assert {reason: card["rejected"].get(reason) for reason in expected} == expected
    assert card["near_duplicates"] == repeated
    assert (
        card["ratings"]
        == conversations * TURNS
        == card["examples"] + card["near_duplicates"] + sum(card["rejected"].values())
    )
    nothing_else(tmp_path)
    of_one_side(tmp_path / "inside" / "dataset")


def nothing_else(folder: Path) -> None:
    """No name in a rating is ever a path, and no text is markup."""
    dataset = folder / "inside" / "dataset"
    assert sorted(path.name for path in dataset.iterdir()) == [
        "asked.jsonl",
        "card.json",
        "general.jsonl",
        "held_out.jsonl",
        "left_out.jsonl",
        "masked.jsonl",
        "page.html",
        "page.json",
        "preferences.jsonl",
        "train.jsonl",
    ]
    assert [path.name for path in folder.iterdir()] == ["inside"]
    page = (dataset / "page.html").read_text()
    assert "<script" not in page and "&lt;script&gt;" in page
    everything = "".join(path.read_text() for path in dataset.iterdir())
    assert "ines@office.example" not in everything and "[e-mail]" in everything


def of_one_side(dataset: Path) -> None:
    """No conversation is both trained and held out, and each example names its source."""
    sides = [
        [
            json.loads(line)["origin"]
            for line in (dataset / f"{part}.jsonl").read_text().splitlines()
        ]
        for part in ("train", "held_out")
    ]
    assert all(
        origin["chat"] and origin["user"] and origin["rating"] and origin["kind"]
        for side in sides
        for origin in side
    )
    assert not {origin["chat"] for origin in sides[0]} & {origin["chat"] for origin in sides[1]}
