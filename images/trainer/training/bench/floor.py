"""The floor of a training step: the bytes that any implementation must move and the operations that
it must compute.

The floor is the longer of the two at the speeds that the device reached in training.bench.
Recomputation under checkpointing does not count. Left out, and under 2 % at these lengths:
attention between tokens, and the scan.
"""

from __future__ import annotations

from dataclasses import dataclass

from training.memory_plan import WEIGHT, Shape

# 4 bytes each: read forward and backward; gradient written, read; weight and two moments read,
# written
ADAPTER_PASSES = 10


@dataclass(frozen=True)
class Floor:
    """Seconds that no implementation on this device can beat."""

    moving: float
    computing: float

    @property
    def seconds(self) -> float:
        return max(self.moving, self.computing)


def routed_parameters(shape: Shape) -> int:
    return shape.kinds.count("moe") * shape.expert_count * 2 * shape.hidden * shape.expert_inner


def adapted_routed_parameters(shape: Shape) -> int:
    stacks = 2 * shape.rank * (shape.hidden + shape.expert_inner)
    return shape.kinds.count("moe") * shape.expert_count * stacks if shape.experts_adapted else 0


def base_parameters(shape: Shape) -> int:
    """Of the frozen model without the embedding, which reads one row a token."""
    return shape.total_parameters - shape.trainable_parameters - shape.vocabulary * shape.hidden


def operations(shape: Shape, tokens: int) -> float:
    """Of one step. A frozen weight takes one product forward and one backward, 4 operations; a
    trained one takes one more: 6."""
    share = shape.experts_per_token / shape.expert_count
    frozen = base_parameters(shape) - routed_parameters(shape) * (1 - share)
    trained = shape.trainable_parameters - adapted_routed_parameters(shape) * (1 - share)
    return tokens * (4 * frozen + 6 * trained)


def moved_bytes(shape: Shape, tokens: int) -> float:
    """Of one step: each used weight, read forward and backward; the adapter; and what layers
    keep, written and read."""
    used = 1 - (1 - shape.experts_per_token / shape.expert_count) ** tokens
    weights = base_parameters(shape) - routed_parameters(shape) * (1 - used)
    kept = tokens * sum(shape.kept_bytes(kind) for kind in shape.kinds)
    return 2 * WEIGHT * weights + 4 * ADAPTER_PASSES * shape.trainable_parameters + 2 * kept


def floor(
    shape: Shape, tokens: int, copy_bytes_per_second: float, operations_per_second: float
) -> Floor:
    return Floor(
        moved_bytes(shape, tokens) / copy_bytes_per_second,
        operations(shape, tokens) / operations_per_second,
    )
