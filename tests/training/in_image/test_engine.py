"""The night's engine compared with transformers and PEFT, on the practice model in float32."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import NemotronHForCausalLM

from training import engine, expert_lora, expert_rows, lean_layers, practice_model

MODULES = ["q_proj", "k_proj", "v_proj", "o_proj", "in_proj", "up_proj", "down_proj"]
STACKS = ["mixer.experts.up_proj", "mixer.experts.down_proj"]
Gradients = dict[str, torch.Tensor]


@pytest.fixture
def model() -> Iterator[PeftModel]:
    torch.manual_seed(7)
    base = NemotronHForCausalLM(practice_model.configuration())
    practice_model.wake(base)
    wrapped = get_peft_model(
        base, LoraConfig(r=8, lora_alpha=16, target_modules=MODULES, target_parameters=STACKS)
    )
    for name, parameter in wrapped.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(0, 0.05)
    wrapped.train()
    yield wrapped


def loss_and_gradients(model: PeftModel, **batch: Any) -> tuple[float, Gradients]:
    model.zero_grad()
    loss = model(**batch, use_cache=False).loss
    loss.backward()
    return loss.item(), {
        name: p.grad.clone() for name, p in model.named_parameters() if p.requires_grad
    }


def worst(found: Gradients, wanted: Gradients) -> float:
    return max(float((found[name] - wanted[name]).norm() / wanted[name].norm()) for name in wanted)


@pytest.mark.parametrize(
    "products", [expert_lora.LOOP, expert_lora.TORCH], ids=lambda products: products.name
)
def test_loss_and_gradients_equal_the_plain_path_s(
    model: PeftModel, products: expert_lora.Products
) -> None:
    ids = torch.randint(5, 700, (2, 60))
    plain = loss_and_gradients(model, input_ids=ids, labels=ids)
    engine.enable(model, products)
    ours = loss_and_gradients(model, input_ids=ids, labels=ids)
    assert ours[0] == pytest.approx(plain[0], rel=1e-6)
    assert worst(ours[1], plain[1]) < 1e-5
    engine.disable(model)
    assert worst(loss_and_gradients(model, input_ids=ids, labels=ids)[1], plain[1]) == 0


def test_checkpointed_layers_give_the_same_gradients(model: PeftModel) -> None:
    engine.enable(model, expert_lora.LOOP)
    ids = torch.randint(5, 700, (1, 40))
    kept = loss_and_gradients(model, input_ids=ids, labels=ids)
    engine.checkpoint(model, 4)
    assert engine.checkpointed(model) == 4
    assert worst(loss_and_gradients(model, input_ids=ids, labels=ids)[1], kept[1]) < 1e-6


def test_an_expert_without_rows_gets_a_gradient_of_zeros() -> None:
    routing = expert_rows.Routing.of(torch.tensor([[0, 2], [2, 0]]), expert_count=3)
    assert routing.ends.tolist() == [2, 2, 4]
    a, b = torch.randn(4, 8), torch.randn(4, 16)
    for products in (expert_lora.LOOP, expert_lora.TORCH):
        assert not products.outer(a, b, routing.ends)[1].any(), products.name


def test_only_one_adapted_stack_is_refused(model: PeftModel) -> None:
    base = model.unload()
    half = get_peft_model(
        base, LoraConfig(r=8, target_modules=["q_proj"], target_parameters=STACKS[:1])
    )
    with pytest.raises(ValueError, match="both up_proj and down_proj"):
        expert_lora.enable(half, expert_lora.LOOP)


def test_attention_keeps_the_samples_of_a_pack_apart() -> None:
    query, key, value = torch.randn(1, 4, 30, 8), torch.randn(1, 2, 30, 8), torch.randn(1, 2, 30, 8)
    ends = torch.tensor([0, 11, 30], dtype=torch.int32)
    packed, _ = lean_layers.packed_attention(
        torch.nn.Module(), query, key, value, None, 0.3, cu_seq_lens_q=ends, max_length_q=19
    )
    alone = [
        lean_layers.packed_attention(
            torch.nn.Module(), *(x[:, :, a:b] for x in (query, key, value)), None, 0.3
        )[0]
        for a, b in ((0, 11), (11, 30))
    ]
    assert torch.allclose(packed, torch.cat(alone, 1), atol=1e-6)


def test_nothing_is_packed_without_the_kernels() -> None:
    assert torch.cuda.is_available() or not engine.can_pack()
