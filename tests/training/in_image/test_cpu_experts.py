"""The products by which the rehearsal's vLLM adds an adapter on a CPU, beside one token after
another. vLLM is not in this image: empty modules stand in for the two that are changed."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

PLUG_IN = Path(__file__).parents[3] / "images/vllm/cpu-experts/vllm_cpu_experts.py"
SLOTS = torch.tensor([0, 1, -1, 1, 0])
CHANGED = ("vllm.lora.ops.torch_ops.lora_ops", "vllm.lora.punica_wrapper.punica_cpu")


@pytest.fixture
def products(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    for name in CHANGED:
        parts = name.split(".")
        for count in range(1, len(parts) + 1):
            module = sys.modules.get(".".join(parts[:count])) or ModuleType(parts[count - 1])
            monkeypatch.setitem(sys.modules, ".".join(parts[:count]), module)
            if count > 1:
                parent = sys.modules[".".join(parts[: count - 1])]
                monkeypatch.setattr(parent, parts[count - 1], module, raising=False)
    spec = importlib.util.spec_from_file_location("vllm_cpu_experts", PLUG_IN)
    plug_in = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(plug_in)
    plug_in._multiply_each_adapter_once()
    one, other = (sys.modules[name] for name in CHANGED)
    assert vars(one)["bgmv_shrink"] is vars(other)["bgmv_shrink"]
    return one


def drawn(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def weights(dimensions: int, out: int, inner: int) -> torch.Tensor:
    return drawn(2, out, inner) if dimensions == 3 else drawn(2, out, inner).unsqueeze(1)


def by_token(inputs: torch.Tensor, matrices: torch.Tensor) -> torch.Tensor:
    """[tokens, out], of each token's own matrix; zeros for slot -1."""
    flat = matrices.reshape(2, *matrices.shape[-2:])
    rows = [
        torch.zeros(flat.shape[1]) if slot < 0 else flat[slot] @ row
        for row, slot in zip(inputs, SLOTS.tolist(), strict=True)
    ]
    return torch.stack(rows)


@pytest.mark.parametrize("dimensions", [3, 4])
def test_a_shrink_is_each_token_s_own_scaled_product(products: ModuleType, dimensions: int) -> None:
    inputs, matrices, output = drawn(5, 6), weights(dimensions, 3, 6), drawn(5, 4)
    last = output[:, 3].clone()
    products.bgmv_shrink(inputs, matrices, output, SLOTS, 0.5)
    torch.testing.assert_close(output[:, :3], 0.5 * by_token(inputs, matrices))
    assert torch.equal(output[:, 3], last), "what is wider than the rank is not touched"


@pytest.mark.parametrize("dimensions", [3, 4])
@pytest.mark.parametrize("adds", [True, False])
@pytest.mark.parametrize(("out", "width"), [(4, 4), (4, 6), (6, 4)])
def test_an_expand_adds_to_the_output_or_replaces_it_and_leaves_what_is_wider(
    products: ModuleType, dimensions: int, adds: bool, out: int, width: int
) -> None:
    inputs, matrices, output = drawn(5, 3), weights(dimensions, out, 3), drawn(5, width)
    expected, size = output.clone(), min(out, width)
    product = by_token(inputs, matrices)[:, :size]
    expected[:, :size] = expected[:, :size] + product if adds else product
    products.bgmv_expand(inputs, matrices, output, SLOTS, adds)
    torch.testing.assert_close(output, expected)


@pytest.mark.parametrize("dimensions", [3, 4])
@pytest.mark.parametrize("adds", [True, False])
def test_a_slice_changes_its_columns_only(
    products: ModuleType, dimensions: int, adds: bool
) -> None:
    inputs, matrices, output = drawn(5, 3), weights(dimensions, 4, 3), drawn(5, 9)
    expected, product = output.clone(), by_token(inputs, matrices)
    expected[:, 2:6] = expected[:, 2:6] + product if adds else product
    products.bgmv_expand_slice(inputs, matrices, output, SLOTS, 2, 4, adds)
    torch.testing.assert_close(output, expected)


def test_products_are_of_the_output_s_type(products: ModuleType) -> None:
    """vLLM shrinks into float32 and expands into the model's own type."""
    inputs, matrices = drawn(5, 6).bfloat16(), weights(4, 3, 6).bfloat16()
    output = torch.zeros(5, 3)
    products.bgmv_shrink(inputs, matrices, output, SLOTS)
    torch.testing.assert_close(output, by_token(inputs.float(), matrices.float()))
