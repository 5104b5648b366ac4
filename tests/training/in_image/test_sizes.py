"""The sizes of env/models, counted without weights, and the memory plan's reading of a model."""

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, NemotronHForCausalLM

from training import architecture, count_parameters, families, memory_plan, practice_model

ENV = Path(__file__).resolve().parents[3] / "env"
MEASURED = Path(__file__).resolve().parents[3] / "docs/measurements/training-nvfp4-h200.json"
PACKED = json.loads(MEASURED.read_text())["load"]["packed_parameters"]
NANO = {
    "team": 439_440_384,
    "team-merged": 439_440_384,
    "lean": 11_359_232,
    "free": 12_460_032,
    "case-study": 441_936_896,
}
# layers 5, 12, 19, 26, 32 and 41 of recipe free have none of its targets here: they are experts
SUPER = {"team": 2_462_531_584, "lean": 29_835_264, "case-study": 2_470_395_904}


def read(folder: str, name: str) -> dict[str, Any]:
    return tomllib.loads((ENV / folder / f"{name}.toml").read_text())


@pytest.mark.parametrize(
    ("size", "trainable"), [("nano", NANO), ("lightning", NANO), ("super", SUPER)]
)
def test_each_size_is_counted_by_its_file(size: str, trainable: dict[str, int]) -> None:
    said = read("models", size)
    model = count_parameters.counted(said["configuration"])
    for recipe, count in trainable.items():
        facts = count_parameters.facts(model, read("recipes", recipe))
        assert facts["trainable_parameters"] == count and facts["unmatched"] == []
        assert facts["total_parameters"] == said["parameters"]
    slot = count_parameters.facts(model, read("recipes", "team"))["trainable_parameters"]
    assert 1.0 <= 16 * said["adapter_bytes_per_rank"] / (2 * slot) < 1.03, "BF16 on disk"


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ("nano", "84.7 of 85.0 GB, 19 of 52 layers recomputed"),
        ("packed nano", "49.6 of 50.0 GB, 0 of 52 layers recomputed"),
        ("super", "does not fit: a step of 8192 tokens takes 286.6 GB at the least"),
    ],
)
def test_a_recipe_s_step_is_planned_or_refused_with_its_bytes(size: str, expected: str) -> None:
    packed, size = size.startswith("packed"), size.split()[-1]
    asked = read("recipes", "team") | {"configuration": read("models", size)["configuration"]}
    asked |= {"budget_bytes": 50_000_000_000 if packed else 85_000_000_000}
    asked["base"] = "served" if packed else "bf16"
    found = {"total_parameters": read("models", size)["parameters"]}
    found["packed_parameters"] = PACKED
    found["trainable_parameters"] = {"nano": NANO, "super": SUPER}[size]["team"]
    assert count_parameters.memory(asked, found).startswith(expected)


def test_a_recipe_that_names_layers_which_another_size_lacks_is_found() -> None:
    model = count_parameters.counted(read("models", "super")["configuration"])
    found = count_parameters.facts(model, read("recipes", "free"))["unmatched"]
    assert found == [f"layer {number}" for number in (5, 12, 19, 26, 32, 41)]


def test_what_the_official_checkpoint_packs_is_counted_as_it_was_loaded() -> None:
    model = count_parameters.counted(read("models", "nano")["configuration"])
    assert count_parameters.packed_parameters(model) == PACKED


def test_the_bench_trains_the_layers_of_nano_s_file() -> None:
    model = architecture.meta_model()
    assert sum(one.numel() for one in model.parameters()) == read("models", "nano")["parameters"]
    assert architecture.configuration(6).layers_block_type == [
        architecture.KINDS[letter] for letter in "MEMEM*"
    ]


def test_the_practice_model_is_counted_by_what_setup_finds(tmp_path: Path) -> None:
    practice_model.configuration().save_pretrained(tmp_path)
    facts = families.facts(str(tmp_path), families.configuration(str(tmp_path)))
    model = count_parameters.counted(json.loads(json.dumps(facts))["configuration"])
    found = count_parameters.facts(model, read("recipes", "rehearsal"))
    said = read("models", "practice")
    assert (found["total_parameters"], found["unmatched"]) == (said["parameters"], [])
    assert 4 * found["trainable_parameters"] <= 16 * said["adapter_bytes_per_rank"]


def test_the_memory_plan_reads_the_widths_that_the_layers_have() -> None:
    config = practice_model.configuration()
    with torch.device("meta"):
        layers = NemotronHForCausalLM(config).model.layers
    mamba = next(layer.mixer for layer in layers if layer.block_type == "linear_attention")
    shape = memory_plan.shape(config.to_dict(), 10, 1, 16, experts_adapted=True)
    assert shape.kinds == tuple(layer.block_type for layer in layers)
    assert shape.mamba_inner == mamba.intermediate_size
    assert shape.mamba_projected == mamba.in_proj.out_features
    pattern = AutoConfig.for_model(**read("models", "super")["configuration"]).to_dict()
    written = read("models", "super")["configuration"]
    assert memory_plan.shape(pattern, 10, 1, 16, True) == memory_plan.shape(
        written, 10, 1, 16, True
    )
