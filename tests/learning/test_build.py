"""The job that builds a data set from ratings of a real Open WebUI. The chat and vLLM are stubs."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

import pytest

from glue.core import recipes
from glue.core.errors import Misconfigured
from glue.core.names import GLOSSARY, GOLDEN
from glue.core.settings import REPOSITORY
from learning.dataset import build, files
from learning.job import Job

RATINGS = Path(__file__).parent / "data" / "open-webui-0.12.4-ratings.json"
RECIPE = replace(
    recipes.load(REPOSITORY / "env" / "recipes", "rehearsal"),
    replay_file="",
    fewest_new_examples=1,
    fewest_units=1,
)


class Chat:
    def ratings(self) -> Any:
        return iter(json.loads(RATINGS.read_text()))

    def call(self, method: str, path: str, json: dict[str, Any]) -> dict[str, Any]:
        assert (json["collection_names"], json["k"]) == (["k"], 3)
        return {"documents": [["a passage"]], "metadatas": [[{"source": "a.pdf"}]]}


def job(state: Path, **more: Any) -> Job:
    order = {
        "recipe": asdict(RECIPE),
        "known": [],
        "knowledge": "k",
        "system_prompt": "You are the team's assistant.",
        "rag_template": "{{CONTEXT}}",
        "rag_top_k": 3,
        "phone_region": "DE",
        "folder": "nights/n/dataset",
        "name": "n",
        "for_night": True,
        **more,
    }
    return Job(json.loads(json.dumps(order)), state, cast(Any, None), cast(Any, Chat()), print)


def test_a_built_data_set_is_on_disk_and_reported(tmp_path: Path) -> None:
    (tmp_path / GLOSSARY).write_text('[terms]\nMTBF = "MTBF is a mean time."\n')
    asked = job(tmp_path)
    found = build.build(asked)
    on_disk = files.read(tmp_path / "nights" / "n" / "dataset")
    assert on_disk == build.gather(asked).dataset, "what a judge reads is what was split"
    assert found["card"]["by_origin"]["term"] == 2 and found["too_little"] == ""
    assert len(found["fingerprints"]) == len(on_disk.learned) and found["question"]
    again = build.build(job(tmp_path, known=found["fingerprints"]))
    assert again["new"] == 0 and "0 new examples" in again["too_little"]


def test_a_night_with_too_little_writes_nothing_and_the_page_by_day_is_written(
    tmp_path: Path,
) -> None:
    recipe = asdict(RECIPE) | {"fewest_units": 1000}
    found = build.build(job(tmp_path, recipe=recipe))
    assert "the gate wants 1000" in found["too_little"] and not list(tmp_path.iterdir())
    build.build(job(tmp_path, recipe=recipe, for_night=False, folder="dataset"))
    assert (tmp_path / "dataset" / "page.html").stat().st_mode & 0o777 == 0o600


def test_golden_questions_that_cannot_be_read_end_a_night_before_it_begins(tmp_path: Path) -> None:
    (tmp_path / GOLDEN).write_text("golden = 1\n")
    with pytest.raises(Misconfigured, match=GOLDEN):
        build.build(job(tmp_path))
