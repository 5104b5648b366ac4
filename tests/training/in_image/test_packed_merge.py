"""Training through the quantiser, on the packed practice model and the CPU's reference path: the
merged checkpoint is what training computed with, and a plain adapter packed again is not."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from peft import PeftModel

from tests.training.in_image.test_merge import differing, refused
from tests.training.in_image.test_packed import LEAN, job
from tests.training.in_image.test_packing import RECIPE
from training import (
    adapter_factors,
    adapter_file,
    engine,
    expert_lora,
    loop,
    merge_checkpoint,
    packed_checkpoint,
    packed_merge,
    packed_weights,
    samples,
    train,
)
from training.bench import random_checkpoint, run
from training.packed_weights import Packed

ROWS = samples.random_samples(4, 60, 1)
# small steps, as a night's: each changes less than NVFP4's rounding
PLAN = loop.Schedule(learning_rate=1e-3, steps=80, size=4, pack=False, seed=1)


@dataclass(frozen=True)
class Night:
    """before, after: the loss on the rows, of training's own forward pass. last: the packed numbers
    of that pass, by module and name. checkpoint: the merged one."""

    model: PeftModel
    before: float
    after: float
    last: dict[tuple[str, str], Packed]
    checkpoint: Path


@torch.no_grad()
def loss(model: torch.nn.Module) -> float:
    logs, counts = loop.answer_logs(model.train(), ROWS, False)
    return float(-logs.sum() / counts.sum())


def load(folder: Path) -> torch.nn.Module:
    return packed_checkpoint.load(folder, torch.float32, "cpu")


def base_name(name: str) -> str:
    """PEFT's name of a module as the model without an adapter has it."""
    name = name.removeprefix("base_model.model.")
    return name.replace(".base_layer", "")


def mark(adapter: Path, through: bool) -> None:
    file = adapter / "adapter_config.json"
    told = json.loads(file.read_text())
    assert told[adapter_factors.THROUGH_QUANTISER] is not through
    file.write_text(json.dumps(told | {adapter_factors.THROUGH_QUANTISER: through}))


def begin(packed: Path, merged: bool) -> PeftModel:
    """With an adapter of numbers."""
    torch.manual_seed(3)
    model = run.adapted(load(packed), RECIPE)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data.normal_(0, 0.05)
    engine.enable(model, expert_lora.LOOP, merged)
    return model.train()


def gradients(model: PeftModel) -> dict[str, torch.Tensor]:
    model.zero_grad()
    logs, _ = loop.answer_logs(model, ROWS[:2], False)
    logs.sum().backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.requires_grad}


def night(packed: Path, folder: Path, merged: bool) -> Night:
    torch.manual_seed(1)
    model = run.adapted(load(packed), RECIPE)
    engine.enable(model, expert_lora.LOOP, merged)
    before = loss(model)
    loop.learn(model, ROWS, PLAN)
    seen: dict[int, Packed] = {}
    with pytest.MonkeyPatch.context() as patch:
        plain = packed_merge.Merged.packed

        def noted(self: packed_merge.Merged) -> Packed:
            return seen.setdefault(id(self.weight), plain(self))

        patch.setattr(packed_merge.Merged, "packed", noted)
        after = loss(model)
    last = {
        (base_name(path), name): seen[id(weight)]
        for path, module in model.named_modules()
        for name, (weight, _) in packed_weights.held(module).items()
        if id(weight) in seen
    }
    adapter_file.write(model, "served", folder, merged)
    if not merged:  # it would be refused: this shows why
        mark(folder / "adapter", True)
    merge_checkpoint.merge(packed, folder / "adapter", folder / "checkpoint")
    return Night(model, before, after, last, folder / "checkpoint")


@pytest.fixture(scope="module")
def packed(practice_nvfp4: Path) -> Path:
    return practice_nvfp4 / "nvfp4"


@pytest.fixture(scope="module")
def through(packed: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Night]:
    yield night(packed, tmp_path_factory.mktemp("through"), merged=True)


@pytest.fixture(scope="module")
def plain(packed: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Night]:
    yield night(packed, tmp_path_factory.mktemp("plain"), merged=False)


def test_it_learns(through: Night) -> None:
    assert through.after < through.before - 2


def test_the_merged_checkpoint_has_the_bits_of_training_s_last_forward_pass(
    packed: Path, through: Night
) -> None:
    model = load(through.checkpoint)
    found = {
        (path, name): weight
        for path, module in model.named_modules()
        for name, (weight, _) in packed_weights.held(module).items()
    }
    assert found.keys() == through.last.keys()
    for place, last in through.last.items():
        for part in ("values", "scales", "factors"):
            assert torch.equal(getattr(found[place], part), getattr(last, part)), (place, part)
    assert len(found) == len(packed_weights.all_packed(load(packed)))


def test_every_weight_that_the_recipe_names_has_changed_and_nothing_else(
    packed: Path, through: Night
) -> None:
    changed = differing(packed, through.checkpoint)
    weights = {name for name in changed if name.endswith(".weight")}
    assert len(weights) == 4 + 3 + 3 * (2 + 2 * 8)
    packed_ones = {name for name in weights if ".2.mixer" not in name and ".3.mixer" not in name}
    assert changed - weights <= {f"{name}_scale" for name in packed_ones}
    assert not any("weight_scale_2" in name or "input_scale" in name for name in changed)


def test_the_merged_checkpoint_s_loss_is_training_s(through: Night) -> None:
    assert loss(load(through.checkpoint)) == pytest.approx(through.after, abs=1e-4)


def test_a_plain_adapter_packed_again_loses_more_than_rounding_through_it_costs(
    through: Night, plain: Night
) -> None:
    again = loss(load(plain.checkpoint))
    print(f"before {plain.before:.3f}, plain {plain.after:.3f}, packed again {again:.3f},")
    print(f"through the quantiser {through.after:.3f}")
    assert plain.after < through.after < again - 0.1


def test_a_plain_adapter_is_refused_where_weights_are_packed(
    packed: Path, plain: Night, tmp_path: Path
) -> None:
    shutil.copytree(plain.checkpoint.parent / "adapter", tmp_path / "adapter")
    mark(tmp_path / "adapter", False)
    refused(packed, tmp_path / "adapter", "not trained through the quantiser")


def test_an_adapter_through_the_quantiser_is_refused_where_nothing_is_packed(
    practice_nvfp4: Path, through: Night, tmp_path: Path
) -> None:
    shutil.copytree(through.checkpoint.parent / "adapter", tmp_path / "adapter")
    refused(practice_nvfp4 / "base", tmp_path / "adapter", "FORM=merged")


def test_checkpointed_layers_give_the_same_bits(packed: Path) -> None:
    model = begin(packed, merged=True)
    kept = gradients(model)
    engine.checkpoint(model, 7)
    again = gradients(model)
    assert kept and all(torch.equal(again[name], kept[name]) for name in kept)


def test_gradients_are_those_of_the_factors_at_the_merged_weight(packed: Path) -> None:
    """Of a linear layer, against autograd on x W^T + s (x A^T) B^T with the merged W's rounding
    as a constant."""
    layer = next(
        module
        for name, module in begin(packed, merged=True).named_modules()
        if name.endswith("shared_experts.up_proj")
    )
    x = torch.randn(5, layer.in_features)
    layer(x).square().sum().backward()
    a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    found = [a.grad.clone(), b.grad.clone()]
    weight, scratch = packed_weights.held(layer.base_layer)["weight"]
    merged = scratch.once(packed_merge.Merged(weight, *packed_merge.rounded(a, b, 2.0))).detach()
    a.grad = b.grad = None
    straight = merged + 2.0 * (b @ a) - (2.0 * (b @ a)).detach()
    (x @ straight.T).square().sum().backward()
    for one, other in zip(found, (a.grad, b.grad), strict=True):
        assert torch.allclose(one, other, rtol=1e-3, atol=1e-4 * float(other.abs().max()))


def test_a_night_says_how_its_adapter_was_trained(packed: Path, tmp_path: Path) -> None:
    changes = {"merged": True, "steps": 1} | LEAN
    for name, base, expected in (
        ("packed", packed, True),
        ("dense", packed.parent / "base", False),
    ):
        done = train.run(job(tmp_path / name, base, **changes), train.wrapped, pack=False)
        file = tmp_path / name / "adapter" / "adapter_config.json"
        assert done["outcome"] == "trained" and done["through_quantiser"] is expected, done
        assert json.loads(file.read_text())[adapter_factors.THROUGH_QUANTISER] is expected


# -----------------------------------------------------------------------------
# one weight


def weight(rows: int = 32, columns: int = 64) -> Packed:
    torch.manual_seed(2)
    return random_checkpoint.random_packed((2, rows, columns), "cpu")


def factors(packed: Packed, size: float, rank: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    count, rows, columns = packed.shape
    a, b = torch.randn(count, rank, columns), torch.randn(count, rows, rank) * size
    return packed_merge.rounded(a, b, 2.0)


def test_an_adapter_of_zeros_changes_no_number() -> None:
    base = weight()
    base.values[0, 0] &= 0x33  # a group whose largest number is not the largest that there is
    merged = packed_merge.Merged(base, *factors(base, 0.0))
    assert torch.equal(merged.dense(torch.float32), base.dense(torch.float32))
    assert torch.equal(merged.packed().scales.float(), base.scales.float())


def test_no_number_is_further_off_than_half_a_step() -> None:
    base = weight()
    a, b = factors(base, 0.003)
    wanted = base.dense(torch.float32) + b.float() @ a.float()
    merged = packed_merge.Merged(base, a, b).packed()
    steps = merged.scales.float() * base.factors[..., None, None]
    off = (merged.dense(torch.float32) - wanted).abs() / steps.repeat_interleave(16, -1)
    assert not torch.equal(merged.values, base.values)
    assert float(off.max()) <= 1.0 + 1e-5  # half of 4 to 6
    assert float(off.mean()) < 0.25


def test_e2m1_rounds_to_the_nearest_and_ties_to_the_even_code() -> None:
    sizes = torch.tensor(packed_weights.POSITIVE)
    numbers = torch.cat([torch.linspace(-8, 8, 4001), (sizes[1:] + sizes[:-1]) / 2])
    codes = packed_merge.e2m1(numbers)
    found = sizes[(codes & 7).int()] * torch.where(codes > 7, -1, 1)
    away = (numbers.abs()[:, None] - sizes).abs()
    assert torch.equal((found - numbers).abs(), (away.amin(1)))
    assert (codes[-7:] % 2 == 0).all()


def test_its_sum_does_not_depend_on_how_many_matrices_are_merged_at_once() -> None:
    base = weight()
    a, b = factors(base, 0.01)
    together = packed_merge.Merged(base, a, b).packed()
    for at in range(2):
        one = Packed(base.values[at], base.scales[at], base.factors[at])
        alone = packed_merge.Merged(one, a[at], b[at]).packed()
        assert torch.equal(alone.values, together.values[at])
        assert torch.equal(alone.scales.float(), together.scales[at].float())
