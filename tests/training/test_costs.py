"""The floor of a step, compared with counts by hand."""

import pytest

from training.bench import floor
from training.memory_plan import Shape

ONE_EXPERT_LAYER = Shape(
    kinds=("moe",),
    total_parameters=10_000 + 8 * 2 * 100 * 50 + 3_000,
    trainable_parameters=3_000,
    hidden=100,
    rank=1,
    mamba_inner=0,
    mamba_projected=0,
    expert_inner=50,
    shared_inner=10,
    expert_count=8,
    experts_per_token=2,
    query_width=0,
    vocabulary=50,
)


def test_a_token_costs_the_weights_that_it_uses() -> None:
    """5,000 of the first 10,000 are the embedding; 2 of 8 experts are used: 20,000 of 80,000,
    and the same share of the adapter."""
    adapter_of_experts = 8 * 2 * 1 * (100 + 50)
    trained = 3_000 - adapter_of_experts * 3 / 4
    assert floor.operations(ONE_EXPERT_LAYER, 7) == 7 * (4 * (5_000 + 20_000) + 6 * trained)


def test_many_tokens_read_every_expert_once_forward_and_once_back() -> None:
    kept = 2 * 10_000 * ONE_EXPERT_LAYER.kept_bytes("moe")
    moved = floor.moved_bytes(ONE_EXPERT_LAYER, 10_000) - kept - 40 * 3_000
    assert moved == pytest.approx(2 * 2 * (5_000 + 80_000), rel=1e-6)


def test_the_floor_is_the_longer_of_the_two() -> None:
    slow_memory = floor.floor(
        ONE_EXPERT_LAYER, 100, copy_bytes_per_second=1.0, operations_per_second=1e30
    )
    assert slow_memory.seconds == slow_memory.moving > slow_memory.computing
