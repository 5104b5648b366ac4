"""The job that builds a data set from ratings of a real Open WebUI. The chat and vLLM are stubs."""

import json
import re
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

import pytest

from glue.core import files as lines
from glue.core import recipes
from glue.core.errors import Misconfigured
from glue.core.names import GLOSSARY, GOLDEN, PARAPHRASES
from glue.core.settings import REPOSITORY
from learning.dataset import build, files, forget, split, taught, voices
from learning.job import Job

RATINGS = Path(__file__).parent / "data" / "open-webui-0.12.4-ratings.json"
RECIPE = replace(
    recipes.load(REPOSITORY / "env" / "recipes", "rehearsal"),
    replay_file="",
    fewest_new_examples=1,
    fewest_units=1,
)


PERSON = json.loads(RATINGS.read_text())[0]["user_id"]


class Model:
    """Counts as the model did that answered in data/: 34 tokens for every prompt."""

    def models(self) -> dict[str, str]:
        return {}

    def tokens(self, name: str, messages: list[dict[str, str]], generate: bool) -> list[int]:
        return [0] * 34


class Chat:
    def people(self) -> list[dict[str, Any]]:
        rated = {row["user_id"] for row in self.ratings()} - {PERSON}
        named = [(PERSON, "Bea & Co"), ("other", "Unrated"), *((one, "Per") for one in rated)]
        return [{"id": one, "name": name} for one, name in named]

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
        "earlier_prompts": [],
        "rag_top_k": 3,
        "phone_region": "DE",
        "folder": "nights/n/dataset",
        "name": "n",
        "for_night": True,
        "chat": "https://spark.example.org",
        **more,
    }
    return Job(json.loads(json.dumps(order)), state, cast(Any, Model()), cast(Any, Chat()), print)


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


def test_the_page_shows_new_rows_first_names_people_and_links_to_their_chats(
    tmp_path: Path,
) -> None:
    first = build.gather(job(tmp_path)).dataset.train[0]
    build.build(job(tmp_path, known=[split.fingerprint(first)]))
    folder = tmp_path / "nights" / "n" / "dataset"
    page = (folder / "page.html").read_text()
    rows = page.split("<article>")[1:]
    marked = ["<b>new</b>" in row for row in rows]
    assert marked == sorted(marked, reverse=True) and marked.count(False) == 1
    for row in rows:
        seen = row.partition("<details>")[0]
        assert "Bea &amp; Co" in seen and PERSON not in seen
        assert '<a href="https://spark.example.org/c/' in seen
        assert f"make forget USER_ID={PERSON}" in row
    assert "Unrated" not in (folder / "page.json").read_text(), "only people whose rows it shows"
    files.remove(folder, lambda origin: origin.get("user") == PERSON)
    assert "Bea" not in "".join(path.read_text() for path in folder.iterdir())


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


class TwoMinds(Chat):
    """Another person says that the saw's code is B12."""

    def ratings(self) -> Any:
        rows = json.loads(RATINGS.read_text())
        (saw,) = (row for row in rows if "is B11" in json.dumps(row))
        other = re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}-)", r"00000000\1", json.dumps(saw))
        other = other.replace("B11", "B12").replace("What is the code", "And what is the code")
        return iter([*rows, json.loads(other)])


def test_a_question_that_two_people_answer_differently_trains_neither_and_is_shown(
    tmp_path: Path,
) -> None:
    found = build.build(replace(job(tmp_path), chat=cast(Any, TwoMinds())))
    folder = tmp_path / "nights" / "n" / "dataset"
    page = (folder / "page.html").read_text()
    assert found["card"]["rejected"][voices.UNSETTLED] == found["card"]["needs_a_decision"] == 2
    assert f"left out: {voices.UNSETTLED}" in page and "B12" in page and "B11" in page
    assert "the saw" not in (folder / "train.jsonl").read_text()
    files.remove(folder, lambda origin: str(origin.get("user")).startswith("00000000"))
    assert "B12" not in "".join(path.read_text() for path in folder.iterdir())


class Documents(Chat):
    """The same ratings, with a passage that holds the saw's code and an older one of the mill's."""

    def ratings(self) -> Any:
        text = "The code of the saw is B11 since the works were moved. The code of the mill is A22."
        source = {
            "source": {"name": "sheet"},
            "document": [text],
            "metadata": [{"source": "sheet"}],
        }
        rows = json.loads(RATINGS.read_text())
        for row in rows:
            for message in row["snapshot"]["chat"]["chat"]["history"]["messages"].values():
                if message["role"] == "assistant":
                    message["sources"] = [source]
        return iter(rows)


def test_a_recipe_that_sorts_trains_variants_of_what_passages_hold_and_names_the_rest(
    tmp_path: Path,
) -> None:
    recipe = asdict(RECIPE) | {"sort_by_support": True, "unrelated_rows": 5}
    found = build.build(replace(job(tmp_path, recipe=recipe), chat=cast(Any, Documents())))
    folder = tmp_path / "nights" / "n" / "dataset"
    on_disk = files.read(folder)
    assert found["card"]["parts"]["train"] == len(on_disk.train) == recipe["variants_each"]
    assert {row.origin.kind for row in on_disk.replay} == {"general"} and len(on_disk.replay) == 5
    assert [row.answer for row in on_disk.held_out] == ["The code of the saw is B11."]
    assert len(found["fingerprints"]) == 1 == found["new"], "variants are one example"
    assert found["card"]["rejected"][taught.OTHERWISE] >= 1
    page = (folder / "page.html").read_text()
    assert "left out: its passages say otherwise: sheet" in page
    assert {one.kind for one in files.read_asked(folder)} >= {"phrased", "changed", "note"}
    again = build.build(
        replace(
            job(tmp_path, recipe=recipe, known=found["fingerprints"]),
            chat=cast(Any, Documents()),
        )
    )
    assert again["new"] == 0


WAYS = ("The saw has which code?", "By which code is the saw known to us?", "Is B11 the saw?")
BESIDE = ("Which code has the mill got?", "Please, which code is it that the saw has?")


class Writer(Model):
    """A stub: counts, and writes a script, as the practice model cannot."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def running_requests(self) -> int:
        return 0

    def complete(self, name: str, messages: list[dict[str, str]], most_tokens: int) -> str:
        self.asked.append(messages[0]["content"])
        if "<answer>" in self.asked[-1]:
            return json.dumps({"answered": [1, 2, 3, 5, 6]})
        return json.dumps({"ways": [*WAYS, *BESIDE, "Do tell me of the saw."]})


def test_other_ways_to_ask_are_written_by_night_once_trained_or_held_out_and_forgotten(
    tmp_path: Path,
) -> None:
    recipe = asdict(RECIPE) | {"sort_by_support": True, "unrelated_rows": 5, "paraphrases": 6}
    model, folder = Writer(), tmp_path / "nights" / "n" / "dataset"

    def built(**more: Any) -> Any:
        asked = job(tmp_path, recipe=recipe, **more)
        return build.build(replace(asked, chat=cast(Any, Documents()), model=cast(Any, model)))[
            "card"
        ]

    by_day = built(for_night=False, folder="dataset")
    assert not model.asked and by_day["rejected"]["another way to ask: not written yet"] == 1
    card = built()
    assert len(model.asked) == 2 and card["paraphrases"] == 3
    left_out = {why: n for why, n in card["rejected"].items() if "another way" in why}
    assert left_out == {
        "another way to ask: it tells the answer": 1,
        "another way to ask: the corrected answer does not answer it": 1,
        "another way to ask: it is no question": 1,
    }
    trained = {row.question for row in files.read(folder).train}
    held = {one.example.question for one in files.read_asked(folder)}
    good = {*WAYS[:2], BESIDE[1]}
    assert trained & good and held & good and not trained & held & good
    assert not (trained | held) & {WAYS[2], BESIDE[0]}
    rows = (folder / "train.jsonl").read_text(), (folder / "asked.jsonl").read_text()
    assert built() == card and len(model.asked) == 2, "no night asks again"
    assert rows == ((folder / "train.jsonl").read_text(), (folder / "asked.jsonl").read_text())
    assert "<b>3</b>other ways to ask" in (folder / "page.html").read_text()
    (kept,) = lines.read_lines(tmp_path / PARAPHRASES)
    forget.remove_named(tmp_path, set(kept["origins"]))
    everything = "".join(path.read_text() for path in tmp_path.glob("*/**/*.*"))
    assert not any(way in everything for way in WAYS)
