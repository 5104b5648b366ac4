"""The memory model compared with peaks measured on a GPU, and its decisions."""

import json
from dataclasses import replace
from typing import Any

import pytest

from glue.core import settings
from glue.core.settings import REPOSITORY
from training import memory_plan
from training.memory_plan import Shape

MEASUREMENTS = REPOSITORY / "docs" / "measurements"
MEASURED = json.loads((MEASUREMENTS / "training-h200.json").read_text())
ALL = [json.loads(path.read_text()) for path in sorted(MEASUREMENTS.glob("training-*h200.json"))]
PACKED = json.loads((MEASUREMENTS / "training-nvfp4-h200.json").read_text())
ROWS = [
    row
    for measured in ALL
    for row in measured["rows"]
    if row.get("engine", "").startswith("grouped") and "error" not in row
]
PATTERN = "MEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEMEM*EMEMEMEME"
KINDS = {"M": "linear_attention", "E": "moe", "*": "full_attention"}


def shape(trainable: int, packed: bool = False) -> Shape:
    """Nemotron-3-Nano-30B-A3B with an adapter of rank 16."""
    return Shape(
        kinds=tuple(KINDS[letter] for letter in PATTERN),
        total_parameters=31_577_937_344 + trainable,
        trainable_parameters=trainable,
        hidden=2688,
        rank=16,
        mamba_inner=4096,
        mamba_projected=10304,
        expert_inner=1856,
        shared_inner=3712,
        expert_count=128,
        experts_per_token=6,
        query_width=4096,
        packed_parameters=PACKED["load"]["packed_parameters"] if packed else 0,
    )


TEAM = shape(439_440_384)


def name(row: dict[str, Any]) -> str:
    keys = ("recipe", "base", "tokens_per_step", "checkpointing", "through_quantiser")
    return "-".join(str(row[key]) for key in keys if key in row)


@pytest.mark.parametrize("row", ROWS, ids=name)
def test_the_peak_is_predicted_within_eight_percent_of_the_measured_one(
    row: dict[str, Any],
) -> None:
    predicted = memory_plan.peak_bytes(
        shape(row["trainable_parameters"], row.get("base") == "packed"),
        row["tokens_per_step"],
        row["checkpointed_layers"],
    )
    assert abs(predicted / row["peak_bytes"] - 1) < 0.08


def test_packed_weights_take_the_bytes_that_were_measured_after_loading() -> None:
    wanted = PACKED["load"]["allocated_bytes"]
    assert shape(0, packed=True).weight_bytes == pytest.approx(wanted, rel=1e-3)
    assert PACKED["load"]["peak_bytes"] < 1.01 * wanted  # no dense model on the way


def test_gradients_on_packed_weights_were_those_on_dense_ones() -> None:
    found = PACKED["gradients"]["packed_against_dense"]
    assert found["equal_bit_for_bit"] == found["tensors"] == 278
    assert found["largest_difference"] == 0.0 and PACKED["experts_equal_bit_for_bit"]


def test_as_few_layers_as_possible_are_checkpointed() -> None:
    budget = 100_000_000_000
    assert memory_plan.checkpointed_layers(TEAM, 8192, budget) == 0
    layers = memory_plan.checkpointed_layers(TEAM, 16_384, budget)
    assert 0 < layers < 52
    assert (
        memory_plan.peak_bytes(TEAM, 16_384, layers)
        <= budget
        < memory_plan.peak_bytes(TEAM, 16_384, layers - 1)
    )


@pytest.mark.parametrize(("base", "layers"), [("served", 0), ("bf16", 19)])
def test_a_spark_s_setting_fits_the_default_recipe_on_either_weights(
    base: str, layers: int
) -> None:
    budget = settings.load("spark").night_bytes("TRAINING_MEMORY_BYTES", base)
    wanted = shape(439_440_384, packed=base == "served")
    assert memory_plan.checkpointed_layers(wanted, 8192, budget) == layers


def test_too_small_a_budget_is_refused_with_a_remedy() -> None:
    with pytest.raises(memory_plan.TooSmall, match="lower tokens_per_step"):
        memory_plan.checkpointed_layers(TEAM, 8192, 60_000_000_000)


def test_untrained_experts_are_planned_with_transformers_memory() -> None:
    lean = replace(shape(11_359_232), experts_adapted=False)
    more = lean.kept_bytes("moe") - replace(lean, experts_adapted=True).kept_bytes("moe")
    assert more == 6 * 2 * (2688 + 1856)
    assert memory_plan.peak_bytes(lean, 8192, 0) < 100_000_000_000


def test_a_plain_model_s_peak_counts_attention_and_mlp() -> None:
    """Llama 3.1 8B's shape: what a layer keeps a token is about 34 kB for each 1,000 of width."""
    plain = Shape(
        kinds=("plain",) * 32,
        total_parameters=8_030_261_248,
        trainable_parameters=41_943_040,
        hidden=4096,
        rank=16,
        query_width=4096,
        plain_inner=14336,
    )
    assert plain.kept_bytes("plain") == 28 * 4096 + 2 * (6 * 4096 + 4 * 14336) + 14 * 16
    assert memory_plan.checkpointed_layers(plain, 8192, 80_000_000_000) > 0
    assert memory_plan.peak_bytes(plain, 8192, 32) < 30_000_000_000
