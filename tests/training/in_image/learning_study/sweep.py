"""What a night is made of, tried on the company that nothing is reported of (company.toml): each
of these in the place of env/recipes/team.toml's own. The first sweep began from BEFORE; the second,
which is what `sweep` plays unless told otherwise, from what the first chose (NOW and MADE)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from tests.training.in_image.learning_study.small_model import COSINE, LINEAR, Setting

Recipe = Mapping[str, Any]
# few and many rows of one company, both as people correct
ON = ("supported corrections", "each fact once")
ONCE = ("style",)  # with the first try only: whether it still learns what no fact judges


BEFORE = Setting(2e-4, 4, 16, LINEAR)


@dataclass(frozen=True)
class Try:
    recipe: Recipe = field(default_factory=dict)
    setting: Setting = BEFORE


SOME, MORE = {"unrelated_rows": 320}, {"unrelated_rows": 640}
TRIES = {
    "as it is": Try(),
    "14 variants": Try({"variants_each": 14}),
    "reading 320": Try(SOME),
    "reading 640": Try(MORE),
    "reading 320, 4e-4": Try(SOME, replace(BEFORE, learning_rate=4e-4)),
    "reading 640, 4e-4": Try(MORE, replace(BEFORE, learning_rate=4e-4)),
    "reading 640, 8e-4": Try(MORE, replace(BEFORE, learning_rate=8e-4)),
    "reading 640, 4e-4, rank 32, cosine": Try(
        MORE, replace(BEFORE, learning_rate=4e-4, rank=32, schedule=COSINE)
    ),
    "reading 640, 4e-4, 14 variants": Try(
        MORE | {"variants_each": 14}, replace(BEFORE, learning_rate=4e-4)
    ),
    "reading 1280, 4e-4, 2 passes": Try(
        {"unrelated_rows": 1280}, replace(BEFORE, learning_rate=4e-4, passes=2)
    ),
    "reading 320, 4e-4, 8 passes": Try(SOME, replace(BEFORE, learning_rate=4e-4, passes=8)),
    "reading 320, 4e-4, 6 variants": Try(
        SOME | {"variants_each": 6}, replace(BEFORE, learning_rate=4e-4)
    ),
    "reading 320, 4e-4, 8 rows a step": Try(
        SOME, replace(BEFORE, learning_rate=4e-4, rows_a_step=8)
    ),
    "reading 320, 4e-4, distracted 0.8": Try(
        SOME | {"distracted_share": 0.8}, replace(BEFORE, learning_rate=4e-4)
    ),
    "reading 320, 4e-4, absent 0.1, notes 0.25": Try(
        SOME | {"absent_share": 0.1, "note_share": 0.25}, replace(BEFORE, learning_rate=4e-4)
    ),
    "reading 320, 4e-4, absent 0.2, notes 0.3": Try(
        SOME | {"absent_share": 0.2, "note_share": 0.3}, replace(BEFORE, learning_rate=4e-4)
    ),
}

NOW = Setting(8e-4, 4, 32, COSINE)
MADE = {"unrelated_rows": 640, "variants_each": 14, "absent_share": 0.1, "note_share": 0.2}
TOGETHER = MADE | {"unrelated_rows": 960, "absent_share": 0.07, "note_share": 0.25}
SECOND = {
    "now": Try(MADE, NOW),
    "6 passes": Try(MADE, replace(NOW, passes=6)),
    "8 passes": Try(MADE, replace(NOW, passes=8)),
    "6 passes, reading 960, absent 0.07, notes 0.25": Try(TOGETHER, replace(NOW, passes=6)),
    "8 passes, reading 960, absent 0.07, notes 0.25": Try(TOGETHER, replace(NOW, passes=8)),
    "rank 64": Try(MADE, replace(NOW, rank=64)),
    "now, reading 960": Try(MADE | {"unrelated_rows": 960}, NOW),
    "now, absent 0.07": Try(MADE | {"absent_share": 0.07}, NOW),
    "now, notes 0.25": Try(MADE | {"note_share": 0.25}, NOW),
    "now, 18 variants": Try(MADE | {"variants_each": 18}, NOW),
}
TRIES |= SECOND
