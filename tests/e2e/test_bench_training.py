"""`python -m bench training` in the real trainer image, on the practice model: measured,
continued, shown."""

import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest

from bench import training, training_plan
from glue.clients.site import Site
from glue.core.settings import REPOSITORY
from training import world

pytestmark = pytest.mark.long
ROWS = 12


@pytest.fixture
def plan(site: Site) -> training_plan.Plan:
    """Two engines on twelve rows of the practice world, and packing, which a machine without a
    GPU refuses."""
    words = world.load(REPOSITORY / "env" / "practice-world.toml")
    choose = random.Random(1)
    folder = site.state / "bench"
    shutil.rmtree(folder / "training", ignore_errors=True)
    folder.mkdir(exist_ok=True)
    with (folder / "rows.jsonl").open("w", encoding="utf-8") as file:
        for item in list(words.codes)[:ROWS]:
            *prompt, answer = world.conversation(words, item, 0, choose, passage=False)
            print(json.dumps({"prompt": prompt, "completion": [answer]}), file=file)
    options: dict[str, Any] = {
        "recipe": "rehearsal",
        "engines": ("published", "grouped"),
        "checkpointing": ("on",),
        "tokens": (60,),
        "packing": False,
        "steps": 3,
        "layers": 6,
        "model": "/models/practice-model",
        "train_file": "/bench/rows.jsonl",
    }
    made = training.planned(site, options)
    made["settings"].append(made["settings"][-1] | {"packing": True})
    return made


def test_engines_are_timed_once_and_shown_beside_the_published_figures(
    site: Site, plan: training_plan.Plan, tmp_path: Path
) -> None:
    first = training.run(site, plan, anew=False)
    published, ours, packed = first["rows"]
    assert published["ratio_to_loop"] == 1 and ours["ratio_to_loop"] > 0
    # the same adapter on the same rows in float32: the loop and the factors learn the same
    assert ours["loss_of_each_step"] == pytest.approx(published["loss_of_each_step"], abs=0.02)
    assert "samples would leak" in packed["error"]

    again = training.run(site, plan, anew=False)
    assert [row for row in again["rows"] if "error" not in row] == [published, ours]

    made = training.publish(again, tmp_path, "training", "this test")
    assert "Table 5" in Path(made["page"]).read_text() and all(
        Path(picture).exists() for picture in made["pictures"]
    )
