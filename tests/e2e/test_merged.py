"""A night's adapter as a checkpoint: made, served by the real vLLM instead of the base model,
and rolled back. Two restarts."""

import json
from pathlib import Path
from typing import Any

import pytest

from glue.clients.site import Site
from glue.core.names import ADAPTER, BASE
from glue.serving import day
from learning.dataset import split
from learning.examples import Example
from tests.e2e.conftest import Glue
from tests.learning import on_host

pytestmark = pytest.mark.long  # every change of form is a start of the model
Demo = dict[str, Any]
# mean nats a token, as in test_the_served_adapter_scores_like_the_trained_one; the night changed
# fifty times as much
TOLERANCE = 0.01


def started(site: Site) -> str:
    container = site.stacks.container("day", "vllm")
    assert container
    return str(container.attrs["State"]["StartedAt"])


def trained(demo: Demo, site: Site) -> list[tuple[Example, float]]:
    """Answers that the night trained on, each with its score by transformers and PEFT at the end
    of training."""
    manifest = site.store.manifest(demo["adapter"])
    rows = (
        (site.state / "nights" / manifest["night"] / "dataset" / "train.jsonl")
        .read_text()
        .splitlines()
    )
    expected = manifest["training"]["likelihood_of_first_rows"]
    return [
        (split.from_row(json.loads(row)), float(score))
        for row, score in zip(rows, expected, strict=False)
    ]


def export(glue: Glue, demo: Demo, form: str) -> dict[str, Any]:
    done = glue("export", demo["adapter"], "--form", form, "--json")
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def read_header(path: Path) -> dict[str, Any]:
    data = path.read_bytes()
    found: dict[str, Any] = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    return found


def test_an_nvfp4_checkpoint_is_made_from_the_night_s_own_rows_while_the_day_serves(
    demo: Demo, site: Site, glue: Glue
) -> None:
    """vLLM on a CPU has no kernel for it, so it is not served here; tests/training compares its
    weights."""
    before = started(site)
    made = export(glue, demo, "nvfp4")
    assert "rows of /nights/" in made["calibration"] and made["packed_weights"] > 50
    folder = Path(made["checkpoint"])
    types = {
        entry["dtype"]
        for name, entry in read_header(folder / "model.safetensors").items()
        if name != "__metadata__"
    }
    assert {"U8", "F8_E4M3"} < types
    assert (
        json.loads((folder / "config.json").read_text())["quantization_config"]["quant_algo"]
        == "NVFP4"
    )
    assert started(site) == before and not list((site.state / "nights").glob(".export*"))


def test_a_merged_checkpoint_is_complete_and_does_not_serve_by_itself(
    demo: Demo, site: Site, glue: Glue
) -> None:
    before = started(site)
    made = export(glue, demo, "merged")
    folder = Path(made["checkpoint"])
    assert sorted(made["sha256"]) == sorted(f"checkpoint/{path.name}" for path in folder.iterdir())
    assert json.loads((folder.parent / "checkpoint.json").read_text())["form"] == "merged"
    site.store.verify(demo["adapter"], checkpoint=True)
    assert export(glue, demo, "merged")["made"] == made["made"], "it was made twice"
    day.start(site)
    assert started(site) == before and site.vllm().models()[BASE] == site.settings["SERVED_MODEL"]


def test_an_export_of_a_missing_adapter_is_exit_10(demo: Demo, glue: Glue) -> None:
    done = glue("export", "20000101T000000Z-00000000")
    assert done.returncode == 10 and "no such adapter" in done.stderr


@pytest.fixture
def promoted(demo: Demo, site: Site, glue: Glue) -> str:
    """Makes the demonstration's adapter serve merged. Returns when vLLM started."""
    before = started(site)
    done = glue("promote", demo["adapter"], "--form", "merged", "--json")
    assert done.returncode == 0, done.stderr[-3000:]
    assert started(site) != before
    return started(site)


def test_a_merged_adapter_answers_as_trained_and_rolls_back_to_the_base_model(
    demo: Demo, site: Site, glue: Glue, promoted: str
) -> None:
    checkpoint = f"/adapters/{demo['adapter']}/checkpoint"
    assert site.vllm().models() == {BASE: checkpoint, ADAPTER: checkpoint}
    rows = trained(demo, site)
    scores = [on_host.served(site).likelihood(ADAPTER, example) for example, _ in rows]
    print(
        "furthest from transformers and PEFT:",
        max(abs(score - want) for score, (_, want) in zip(scores, rows, strict=True)),
    )
    assert scores == pytest.approx([want for _, want in rows], abs=TOLERANCE)
    example = demo["examples"][0]
    asked = [{"role": "user", "content": example["question"]}]
    assert example["wanted"] in site.administrator().ask(asked).text
    day.start(site)
    assert started(site) == promoted, "a day that serves merged was restarted for nothing"

    done = glue("rollback", "--json")
    assert done.returncode == 0 and json.loads(done.stdout) == {"adapter": None}, done.stderr[
        -3000:
    ]
    back = started(site)
    assert back != promoted and site.vllm().models()[BASE] == site.settings["SERVED_MODEL"]
    assert example["wanted"] not in site.administrator().ask(asked).text
    taught = rows[0][0]
    assert scores[0] - on_host.served(site).likelihood(BASE, taught) > 50 * TOLERANCE

    assert glue("promote", demo["adapter"], "--json").returncode == 0, (
        "its recipe says: beside the base model"
    )
    assert started(site) == back and example["wanted"] in site.administrator().ask(asked).text
    scores = [on_host.served(site).likelihood(ADAPTER, example) for example, _ in rows]
    assert scores == pytest.approx([want for _, want in rows], abs=TOLERANCE)
