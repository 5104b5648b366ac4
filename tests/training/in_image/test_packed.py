"""Training on packed NVFP4 weights compared with training on the same weights made dense first: the
practice model as quantise_checkpoint packs it, on the CPU's reference path."""

import json
import random
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoModelForCausalLM
from trl.trainer.utils import add_fused_lm_head

from tests.training.in_image.test_merge import tensors_of
from tests.training.in_image.test_packing import RECIPE, honour_seq_idx
from tests.training.in_image.test_quantise import unpacked, wanted_packed
from training import (
    check_adapter,
    engine,
    expert_lora,
    memory_plan,
    packed_checkpoint,
    packed_weights,
    samples,
    shards,
    train,
)
from training.bench import random_checkpoint, run
from training.packed_weights import Order, Packed

Gradients = dict[str, torch.Tensor]
LEAN = RECIPE | {
    "target_parameters": [],
    "target_modules": ["q_proj", "in_proj", "shared_experts.up_proj", "shared_experts.down_proj"],
}


@pytest.fixture(scope="session")
def packed(practice_nvfp4: Path) -> Path:
    return practice_nvfp4 / "nvfp4"


@pytest.fixture(scope="session")
def dense(practice_nvfp4: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same checkpoint with every packed matrix made dense, by this test's own arithmetic."""
    folder = tmp_path_factory.mktemp("dense")
    for path in (practice_nvfp4 / "base").iterdir():
        if "safetensors" not in path.name:
            shutil.copyfile(path, folder / path.name)
    tensors, names = tensors_of(practice_nvfp4 / "nvfp4"), wanted_packed(practice_nvfp4)
    kept = {
        name: unpacked(tensors, name)[0] if name in names else tensor
        for name, tensor in tensors.items()
        if not name.endswith("_scale") and not name.endswith("weight_scale_2")
    }
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def loaded(folder: Path) -> torch.nn.Module:
    if packed_checkpoint.quantisation(folder):
        return packed_checkpoint.load(folder, torch.float32, "cpu")
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


def wrapped(
    folder: Path, recipe: dict[str, Any] = RECIPE, products: expert_lora.Products = expert_lora.LOOP
) -> PeftModel:
    base = loaded(folder)
    add_fused_lm_head(base)
    model = run.adapted(base, recipe)
    torch.manual_seed(3)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data.normal_(0, 0.05)
    engine.enable(model, products)
    for layer in model.get_base_model().model.layers:
        if layer.block_type == "linear_attention":
            honour_seq_idx(layer.mixer)
    return model.train()


def outputs_and_gradients(model: PeftModel) -> tuple[torch.Tensor, Gradients]:
    """Of one pack of three samples."""
    batch = samples.packed(samples.random_samples(3, 60, 3), "cpu")
    model.zero_grad()
    found = model(**batch, use_cache=False, fused_lm_head=True).log_probs
    found.sum().backward()
    return found.detach(), {
        name: p.grad.clone() for name, p in model.named_parameters() if p.requires_grad
    }


def differing(found: Gradients, wanted: Gradients) -> list[str]:
    assert found.keys() == wanted.keys() and len(wanted) > 0
    return [name for name in wanted if not torch.equal(found[name], wanted[name])]


@pytest.mark.parametrize(
    "products", [expert_lora.LOOP, expert_lora.TORCH], ids=lambda products: products.name
)
def test_outputs_and_gradients_equal_those_of_dense_weights_bit_for_bit(
    packed: Path, dense: Path, products: expert_lora.Products
) -> None:
    wanted = outputs_and_gradients(wrapped(dense, products=products))
    found = outputs_and_gradients(wrapped(packed, products=products))
    assert torch.equal(found[0], wanted[0])
    assert differing(found[1], wanted[1]) == []
    assert all(gradient.any() for gradient in found[1].values())


def test_checkpointed_layers_give_the_same_bits(packed: Path) -> None:
    model = wrapped(packed)
    kept = outputs_and_gradients(model)
    engine.checkpoint(model, 7)
    again = outputs_and_gradients(model)
    assert torch.equal(again[0], kept[0]) and differing(again[1], kept[1]) == []


def test_packed_experts_without_an_adapter_equal_transformers_own(
    packed: Path, dense: Path
) -> None:
    wanted = outputs_and_gradients(wrapped(dense, LEAN))
    found = outputs_and_gradients(wrapped(packed, LEAN))
    assert torch.allclose(found[0], wanted[0], rtol=1e-5, atol=1e-5)
    for name, gradient in wanted[1].items():
        assert float((found[1][name] - gradient).norm() / gradient.norm()) < 1e-5, name


def test_without_its_adapter_the_model_is_the_base_model(packed: Path, dense: Path) -> None:
    ids = torch.randint(5, 700, (1, 30))
    model, plain = wrapped(packed), loaded(dense).train()
    with model.disable_adapter(), torch.no_grad():
        found = model(input_ids=ids, use_cache=False).logits
        wanted = plain(input_ids=ids, use_cache=False).logits
    assert torch.allclose(found, wanted, rtol=1e-4, atol=1e-4)


# -----------------------------------------------------------------------------
# what is in memory


def replaced(parameter: torch.Tensor) -> bool:
    return parameter.numel() > 1 and not any(parameter.stride())


def test_the_stacks_take_the_bytes_that_the_checkpoint_has_for_them(
    packed: Path, dense: Path, practice_nvfp4: Path
) -> None:
    model, tensors = loaded(packed), tensors_of(packed)
    kept = [name for name in wanted_packed(practice_nvfp4) if "out_proj" not in name]
    wanted = sum(
        tensors[name + part].nbytes for name in kept for part in ("", "_scale", "_scale_2")
    )
    assert sum(weight.size_bytes for weight in packed_weights.all_packed(model)) == wanted
    unpacked_ones = {name: p for name, p in loaded(dense).named_parameters() if not replaced(p)}
    others = {name: p for name, p in model.named_parameters() if not replaced(p)}
    assert others.keys() < unpacked_ones.keys()
    replacements = [p for p in model.parameters() if replaced(p)]
    assert len(replacements) == len(packed_weights.all_packed(model))
    assert {p.untyped_storage().nbytes() for p in replacements} == {4}


class Largest(TorchDispatchMode):
    """Notes the largest floating point tensor that any operation makes."""

    numbers = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> object:
        made = func(*args, **(kwargs or {}))
        if isinstance(made, torch.Tensor) and made.dtype.itemsize > 1 and not made.is_meta:
            self.numbers = max(self.numbers, made.untyped_storage().nbytes() // made.itemsize)
        return made


def test_loading_never_makes_a_dense_stack(packed: Path) -> None:
    with Largest() as largest:
        model = loaded(packed)
    stack = max(weight.parameters for weight in packed_weights.all_packed(model))
    assert model.model.embeddings.weight.numel() == largest.numbers
    with Largest() as largest:
        model.model.layers[1].mixer.experts(
            torch.randn(3, 128), torch.tensor([[0, 1]] * 3), torch.ones(3, 2)
        )
    assert largest.numbers >= stack  # it would have been seen


def test_the_dense_form_is_rounded_once_to_the_model_s_type(
    packed: Path, practice_nvfp4: Path
) -> None:
    tensors = tensors_of(packed)
    tensors_on_disk = shards.Shards(packed, "cpu")
    for name in wanted_packed(practice_nvfp4):
        weight = tensors_on_disk.packed(name.removesuffix(".weight"), stack=False)
        numbers = unpacked(tensors, name)[0]
        assert torch.equal(weight.dense(torch.bfloat16), numbers.bfloat16())


def test_reading_a_parameter_that_is_packed_gives_no_numbers(packed: Path) -> None:
    experts = loaded(packed).model.layers[1].mixer.experts
    assert experts.up_proj.shape == (8, 96, 128) and experts.up_proj.isnan().all()


def test_the_memory_model_counts_packed_weights(packed: Path, dense: Path) -> None:
    shape = engine.shape(wrapped(packed), 8)
    plain = engine.shape(wrapped(dense), 8)
    held = packed_weights.all_packed(loaded(packed))
    assert shape.packed_parameters == sum(weight.parameters for weight in held)
    assert shape.total_parameters == plain.total_parameters
    buffers = 2 * memory_plan.WEIGHT * max(weight.parameters for weight in held)
    factors = sum(4 * weight.factors.numel() for weight in held)
    packed_bytes = sum(weight.size_bytes for weight in held)
    saved = memory_plan.WEIGHT * shape.packed_parameters - packed_bytes + factors - buffers
    assert plain.weight_bytes - shape.weight_bytes == saved


def test_the_next_weight_is_guessed_from_the_step_before() -> None:
    up, down, more = (Packed(*(torch.empty(0) for _ in range(3))) for _ in range(3))
    forward, recomputed, backward = [up, down, more], [up, down], [down, up]
    step, order = [*forward, *recomputed, *backward], Order()
    guesses = [order.after(weight) for _ in range(3) for weight in step]
    assert guesses[2 * len(step) - 1 :][:-1] == [*step]


class Streams:
    """Stands in for CUDA's streams, which a CPU does not have: work on the side stream is done at
    once or, late, when the main stream waits for it."""

    def __init__(self, late: bool) -> None:
        self.late, self.on_side = late, False
        self.queue: list[Callable[[], None]] = []
        self.main = SimpleNamespace(wait_stream=self.finish)
        self.other = SimpleNamespace(wait_stream=lambda main: None)

    def finish(self, _: object) -> None:
        while self.queue:
            self.queue.pop(0)()

    @contextmanager
    def side(self, _: object) -> Iterator[None]:
        self.on_side = True
        yield
        self.on_side = False

    def do(self, act: Callable[[], None]) -> None:
        self.queue.append(act) if self.on_side and self.late else act()


@pytest.mark.parametrize("late", [False, True], ids=["at once", "late"])
def test_a_dense_form_is_right_whatever_was_guessed(
    monkeypatch: pytest.MonkeyPatch, late: bool
) -> None:
    streams, write = Streams(late), Packed.write_dense
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: streams.main)
    monkeypatch.setattr(torch.cuda, "stream", streams.side)
    monkeypatch.setattr(Packed, "write_dense", lambda w, out: streams.do(lambda: write(w, out)))
    weights = [random_checkpoint.random_packed((rows, 32), "cpu") for rows in range(1, 5)]
    scratch = packed_weights.Scratch(torch.float32, "cpu")
    scratch.reserve(4 * 32)
    scratch.stream = streams.other
    choose = random.Random(1)
    guessed = 0
    for number in range(60):
        step = weights + weights[::-1] if number % 3 else choose.choices(weights, k=6)
        for weight in step:
            guessed += any(held is weight for held in scratch.holds)
            assert torch.equal(scratch.dense(weight), weight.dense(torch.float32))
    assert guessed > 100


def test_the_bench_loads_packed_weights_and_refuses_the_published_loop_on_them(
    packed: Path,
) -> None:
    base = run.base_model({"base_model": str(packed)}, "cpu")
    assert packed_weights.all_packed(base)
    with pytest.raises(RuntimeError, match="cannot train on packed weights"):
        run.use(run.adapted(base, RECIPE), "published", expert_lora.LOOP)


def test_the_bench_times_steps_in_train_mode(packed: Path) -> None:
    """A loaded model is not in it: it would compute Mamba by parts and checkpoint nothing."""
    model = wrapped(packed).eval()
    setting = {"recipe": "team", "checkpointing": "off", "packing": False}
    setting |= {"tokens_per_step": 24, "rows": 2, "steps": 1}
    plan = {"recipes": {"team": RECIPE}, "budget_bytes": 10**10, "warm_up": 0}
    run.time_setting(model, setting, plan, [], lambda **_: None)
    assert model.training


# -----------------------------------------------------------------------------
# a night


def job(folder: Path, base: Path, **changes: Any) -> train.Job:
    rows = [
        {
            "prompt": [{"role": "user", "content": f"what is {number}"}],
            "completion": [{"role": "assistant", "content": f"it is {number}"}],
        }
        for number in range(8)
    ]
    folder.mkdir()
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    table = {key: RECIPE[key] for key in RECIPE} | {
        "base_model": str(base),
        "served_model": "served",
        "train_file": str(folder / "train.jsonl"),
        "output_folder": str(folder),
        "deadline_time": time.time() + 3600,
        "steps": 2,
        "rows_per_step": 4,
        "tokens_per_step": 512,
        "memory_bytes": 10**10,
        "learning_rate": 5e-3,
        "longest_tokens": 256,
    }
    return train.Job(**table | changes)


def test_a_night_on_packed_weights_writes_the_same_kind_of_adapter(
    packed: Path, dense: Path, tmp_path: Path
) -> None:
    written = {}
    for name, base in (("packed", packed), ("dense", dense)):
        done = train.run(job(tmp_path / name, base), train.wrapped, pack=False)
        assert done["outcome"] == "trained", done
        written[name] = load_file(tmp_path / name / "adapter" / "adapter_model.safetensors")
    assert differing(written["packed"], written["dense"]) == []
    base_facts = check_adapter.BaseModel("practice", 8, (1, 4, 6))
    assert check_adapter.problems(tmp_path / "packed" / "adapter", base_facts, 16) == []
    assert check_adapter.value_problems(tmp_path / "packed" / "adapter") == []


@pytest.mark.parametrize("beside", [False, True], ids=["config.json", "hf_quant_config.json"])
def test_another_quantisation_is_refused_by_name(
    packed: Path, tmp_path: Path, beside: bool
) -> None:
    other = tmp_path / "other"
    shutil.copytree(packed, other)
    if beside:
        configuration = json.loads((other / "config.json").read_text())
        del configuration["quantization_config"]
        (other / "config.json").write_text(json.dumps(configuration))
        assert packed_weights.all_packed(loaded(other))
    file = other / ("hf_quant_config.json" if beside else "config.json")
    file.write_text(file.read_text().replace('"quant_algo": "NVFP4"', '"quant_algo": "FP8"'))
    done = train.run(job(tmp_path / "night", other), train.wrapped, pack=False)
    assert done["outcome"] == "failed"
    assert "quantised as FP8; only NVFP4 can be trained on" in done["reason"]


def test_a_packed_tensor_in_another_place_is_refused(packed: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(packed, other)
    tensors = load_file(other / "model.safetensors")
    tensors["backbone.embeddings.weight"] = torch.zeros(768, 64, dtype=torch.uint8)
    save_file(tensors, other / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(shards.UnknownQuantisation, match=r"embeddings.weight is torch"):
        loaded(other)


def test_a_missing_tensor_is_named(packed: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(packed, other)
    tensors = load_file(other / "model.safetensors")
    del tensors["backbone.layers.4.mixer.experts.3.up_proj.weight_scale"]
    save_file(tensors, other / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(shards.UnknownQuantisation, match=r"experts\.3\.up_proj\.weight_scale"):
        loaded(other)
