"""The practice model's two forms: what nights train, and what the rehearsal's vLLM serves."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.training.in_image.test_merge import build_base, tensors_of
from tests.training.in_image.test_quantise import wanted_packed
from training import packed_checkpoint, packed_weights, practice_packed


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """base: as it was; model: its two forms."""
    home = tmp_path_factory.mktemp("practice")
    for name in ("base", "model"):
        build_base(home / name, torch.float32, shard_size="1GB")
    practice_packed.write(home / "model")
    return home


def test_the_served_numbers_are_the_packed_ones_in_the_original_s_names_and_types(
    folder: Path,
) -> None:
    before, after = tensors_of(folder / "base"), tensors_of(folder / "model")
    assert {name: (t.dtype, t.shape) for name, t in before.items()} == {
        name: (t.dtype, t.shape) for name, t in after.items()
    }
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == wanted_packed(folder)


def test_both_forms_hold_the_same_bits_and_compute_the_same(folder: Path) -> None:
    packed = packed_checkpoint.load(folder / "model" / "nvfp4", torch.float32, "cpu")
    dense = AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float32)
    assert len(packed_weights.all_packed(packed)) == 2 * 3 + 2 * 3 + 2
    for path, module in packed.named_modules():
        for name, (weight, _) in packed_weights.held(module).items():
            numbers = getattr(dense.get_submodule(path), name)
            assert torch.equal(weight.dense(torch.float32), numbers)
    ids = torch.arange(5, 45)[None]
    # in train mode: Mamba's other path needs strides that a small model does not have
    found, wanted = (model.train()(ids, use_cache=False).logits for model in (packed, dense))
    # not bit for bit: torch's grouped products sum in another order on some CPUs
    assert torch.allclose(found, wanted, rtol=1e-5, atol=1e-5)
    for place in (folder / "model", folder / "model" / "nvfp4"):
        assert AutoTokenizer.from_pretrained(place).chat_template
