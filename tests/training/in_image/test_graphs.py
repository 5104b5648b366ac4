"""What the recorded layers of a model compute. A CPU has no CUDA graphs: here the layers are
computed again with the same batch, which shows all but the graph itself."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training.in_image.test_packed import outputs_and_gradients, wrapped
from training import graphs, samples


@pytest.fixture(scope="module")
def packed(practice_nvfp4: Path) -> Path:
    return practice_nvfp4 / "nvfp4"


class Once:
    """A recorder that counts the replays."""

    replays = 0

    def __call__(self, act: Callable[[], Any]) -> tuple[Any, Callable[[], None]]:
        return act(), self.replay

    def replay(self) -> None:
        self.replays += 1


def test_recorded_layers_give_the_same_loss_and_gradients_bit_for_bit(packed: Path) -> None:
    model = wrapped(packed)
    wanted = outputs_and_gradients(model)
    batch = samples.packed(samples.random_samples(3, 60, 3), "cpu")
    once = Once()
    recorded = graphs.Recorded(model, batch, once)
    recorded.backbone.forward = recorded

    # in place of a replay, for the gradient that the head gives
    def differentiate() -> None:
        with torch.enable_grad():  # off inside a backward pass
            recorded.out = recorded.computed()
            recorded.gradients = recorded.differentiated()

    recorded.backward = differentiate
    found = outputs_and_gradients(model)
    assert once.replays == 1 and torch.equal(found[0], wanted[0])
    assert all(torch.equal(found[1][name], wanted[1][name]) for name in wanted[1])

    other = samples.packed(samples.random_samples(3, 48, 4), "cpu")
    model(**other, use_cache=False, fused_lm_head=True)
    assert once.replays == 1  # another size takes the plain way
    graphs.stop(recorded)
    assert "forward" not in vars(recorded.backbone)
