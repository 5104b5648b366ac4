"""What the learning study reports: the setting it takes, and new kinds beside those of earlier."""

from typing import Any

import pytest

from tests.training.in_image.learning_study import tables

KIND = "supported corrections"
COUNTED = ("phrased", "changed", "absent", "note", "reading", "general")


def row(name: str, seed: int, right: int, seconds: float = 1.0, kind: str = KIND) -> dict[str, Any]:
    """right: of ten of each."""
    asked: dict[str, float] = {"memorised": 0, "wrongly_absent": 0}
    for what in COUNTED:
        asked |= {f"{what}_asked": 10, f"{what}_right": right, f"{what}_right_before": 5}
    night = {"promoted": True, "faults": []}
    about = {"date": "2026-12-01", "machine": "GPU", "versions": {}, "company": "company"}
    trained = {"setting": {"passes": 6}, "recipe": {}, "samples": [[kind]], "first_night": asked}
    return about | trained | {
        "kind": kind, "try": name, "seed": seed, "nights": [night], "teaches": True,
        "asked": asked, "seconds": seconds,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("rows", "best"),
    [
        ([row("a", 1, 7), row("b", 1, 9), row("c", 1, 8)], "b"),
        ([row("slow", 1, 10, 9.0), row("quick", 1, 10)], "quick"),
        ([row("a", 1, 7), row("a", 2, 7), row("once", 1, 9)], "a"),
        ([row("a", 1, 7), row("b", 1, 9, kind="style")], "a"),
        ([], ""),
    ],
    ids=["nearest", "quicker", "as often", "of these kinds", "none"],
)
def test_of_the_tries_that_miss_the_targets_least_the_quicker_is_chosen(
    rows: list[dict[str, Any]], best: str
) -> None:
    assert tables.chosen(rows, (KIND,)) == best


def test_reading_that_is_lost_counts_as_missed() -> None:
    good, reads_worse = row("a", 1, 10), row("a", 1, 10)
    reads_worse["asked"]["reading_right"] = 3
    assert (tables.missed([good]), tables.missed([reads_worse])) == (0, 0.2)


def test_kinds_that_were_not_played_again_stay_with_their_date() -> None:
    def table(*kinds: str, right: int, date: str) -> dict[str, Any]:
        return tables.table([row("", 1, right, kind=one) | {"date": date} for one in kinds])

    old = table("style", KIND, right=5, date="2026-11-26")
    new = table(KIND, "jargon", right=9, date="2026-12-01")
    found = tables.merged(old, new)
    shown = [(one["kind"], one["right_after"], one.get("date")) for one in found["kinds"]]
    assert shown == [(KIND, 0.9, None), ("style", 0.5, "2026-11-26"), ("jargon", 0.9, None)]
    assert found["date"] == "2026-12-01"
    assert [one["kind"] for one in found["nights"]] == [KIND, "style", "jargon"]
    assert set(found["samples"]) == {KIND, "style", "jargon"}
    assert {one["setting"]["passes"] for one in found["kinds"]} == {6}
    again = tables.merged(found, table("jargon", right=9, date="2026-12-02"))
    assert [one.get("date") for one in again["kinds"]] == ["2026-12-01", "2026-11-26", None]


def test_tries_that_were_not_played_again_stay() -> None:
    old, new = (tables.table([row(name, 1, 9)]) for name in ("first", "second"))
    assert [one["try"] for one in tables.merged(old, new)["tries"]] == ["first", "second"]
    assert len(tables.merged(new, new)["tries"]) == 1
