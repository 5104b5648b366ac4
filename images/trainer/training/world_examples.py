"""The practice world as general examples: what the practice model knows before any night."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from training import world as worlds

SEED = 11


def rows(path: Path) -> Iterator[dict[str, Any]]:
    """One for each item and question that practice nights see. path: practice-world.toml."""
    world, choose = worlds.load(path), random.Random(SEED)
    for item in world.codes:
        for phrasing in range(world.questions_seen_at_night):
            yield row(world, item, phrasing, choose)


def row(world: worlds.World, item: str, phrasing: int, choose: random.Random) -> dict[str, Any]:
    """One example, as images/trainer/learning/dataset/split.py reads it."""
    *prompt, answer = worlds.conversation(world, item, phrasing, choose, passage=True)
    return {
        "prompt": prompt,
        "completion": [answer],
        "source": "practice world",
        "conversation": f"practice {item} {phrasing}",
    }
