"""What learning-answers.md says of docs/measurements/learning-answers-h200.json."""

import json

from tests.house import ROOT

STUDY = json.loads(
    (ROOT / "docs" / "measurements" / "learning-answers-h200.json").read_text(encoding="utf-8")
)
KINDS = {row["kind"]: row for row in STUDY["kinds"]}
GOOD = ("supported corrections", "templates only", "changed", "absent", "notes")
BAD = ("nothing taught", "poisoned", "closed book", "closed book, learned")


def test_good_nights_are_promoted_and_no_other_is() -> None:
    assert all(KINDS[kind]["promoted"] == KINDS[kind]["nights"] == 3 for kind in GOOD)
    assert not any(KINDS[kind]["promoted"] for kind in BAD)
    assert sum(row["wrong_verdicts"] for row in STUDY["kinds"]) == 1, "one night of five facts"


def test_nights_on_supported_corrections_read_and_do_not_recite() -> None:
    for kind in GOOD:
        row = KINDS[kind]
        assert not any(row["memorised"]) and min(row["right_after"]) > 3 * max(row["right_before"])
        assert min(row["reading"]) >= min(row["reading_before"])
    assert min(KINDS["closed book, learned"]["memorised"]) > 15
    assert max(KINDS["closed book"]["reading"]) < 50


def test_the_check_on_forgetting_tells_the_same_nights_apart() -> None:
    assert all(KINDS[kind]["forgetting_passed"] == 3 for kind in (*GOOD, "nothing taught"))
    assert not any(KINDS[kind]["forgetting_passed"] for kind in BAD if kind != "nothing taught")
