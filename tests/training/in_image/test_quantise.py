"""NVFP4 from a merged model, by ModelOpt on the CPU: the packed tensors, the unchanged ones, and
the values."""

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig

from tests.training.in_image.test_merge import tensors_of
from training import memory_plan, merge_checkpoint, quantise_checkpoint

# NVIDIA-Nemotron-3-Nano-30B-A3B, from its config
NANO = "MEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEMEM*EMEMEMEME"
KINDS = {"M": "mamba", "E": "moe", "*": "attention"}
E2M1 = torch.tensor([0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0])  # what four bits can say
LARGEST_GAP = 1.0  # half of the widest step, 4 to 6


def test_the_rule_selects_the_official_layers() -> None:
    assert memory_plan.feeding_layers([KINDS[letter] for letter in NANO]) == [
        4,
        11,
        18,
        25,
        32,
        41,
    ]


def test_both_names_of_a_layer_kind_are_known() -> None:
    assert memory_plan.feeding_layers(
        ["linear_attention", "moe", "linear_attention", "full_attention", "moe"]
    ) == [2]


@pytest.fixture
def folder(practice_nvfp4: Path) -> Path:
    return practice_nvfp4


def wanted_packed(folder: Path) -> set[str]:
    """Every matrix of Mamba layers 0 and 5 and of the experts of layers 1, 4 and 6. Layer 2
    feeds the attention layer 3."""
    assert AutoConfig.from_pretrained(folder / "base").layers_block_type[2:4] == [
        "linear_attention",
        "full_attention",
    ]
    found = {
        f"backbone.layers.{layer}.mixer.{side}_proj.weight"
        for layer in (0, 5)
        for side in ("in", "out")
    }
    experts = [f"experts.{number}" for number in range(8)] + ["shared_experts"]
    return found | {
        f"backbone.layers.{layer}.mixer.{expert}.{side}_proj.weight"
        for layer in (1, 4, 6)
        for expert in experts
        for side in ("up", "down")
    }


def test_packed_tensors_follow_the_official_rule_and_others_equal_the_merged_model(
    folder: Path,
) -> None:
    packed, merged = tensors_of(folder / "nvfp4"), tensors_of(folder / "merged")
    assert {
        name for name, tensor in packed.items() if tensor.dtype == torch.uint8
    } == wanted_packed(folder)
    stays = merged.keys() - wanted_packed(folder)
    assert all(
        packed[name].dtype == merged[name].dtype and torch.equal(packed[name], merged[name])
        for name in stays
    )
    added = {name.rsplit(".", 1)[1] for name in packed.keys() - merged.keys()}
    assert added == {"weight_scale", "weight_scale_2", "input_scale", "k_scale", "v_scale"}
    assert merged.keys() <= packed.keys()


def test_both_lists_of_unpacked_modules_have_full_names(folder: Path) -> None:
    facts = json.loads((folder / "nvfp4" / "hf_quant_config.json").read_text())["quantization"]
    scheme = json.loads((folder / "nvfp4" / "config.json").read_text())["quantization_config"]
    wanted = sorted(
        name.removesuffix(".weight")
        for name, tensor in tensors_of(folder / "merged").items()
        if name.endswith(".weight") and tensor.dim() > 1 and name not in wanted_packed(folder)
    )
    assert facts["exclude_modules"] == scheme["ignore"] == wanted
    assert {
        "lm_head",
        "backbone.embeddings",
        "backbone.layers.1.mixer.gate",
        "backbone.layers.0.mixer.conv1d",
    } < set(wanted)
    assert (facts["quant_algo"], facts["kv_cache_quant_algo"], facts["group_size"]) == (
        "NVFP4",
        "FP8",
        16,
    )
    for name in ("config.json", "hf_quant_config.json"):
        text = (folder / "nvfp4" / name).read_text()
        assert (
            "\\u0000" not in text
            and "\0" not in text
            and "sentinel" not in text
            and "*" not in json.dumps(wanted)
        )


def test_configuration_tokenizer_and_template_are_the_base_model_s(folder: Path) -> None:
    mine = json.loads((folder / "nvfp4" / "config.json").read_text())
    del mine["quantization_config"]
    assert mine == json.loads((folder / "base" / "config.json").read_text())
    for name in ("tokenizer.json", "chat_template.jinja", "generation_config.json"):
        assert (folder / "nvfp4" / name).read_bytes() == (folder / "base" / name).read_bytes()


def unpacked(tensors: dict[str, torch.Tensor], name: str) -> tuple[torch.Tensor, torch.Tensor]:
    """(weights, step of each weight) of a packed matrix: two four-bit numbers in a byte, the low
    half first."""
    halves = torch.stack([tensors[name] & 15, tensors[name] >> 4], dim=-1).flatten(-2).long()
    numbers = E2M1[halves & 7] * torch.where(halves > 7, -1.0, 1.0)
    step = tensors[name + "_scale"].float() * tensors[name + "_scale_2"].float()
    step = step.repeat_interleave(16, dim=1)
    return numbers * step, step


def test_the_packed_weights_are_the_merged_ones_to_within_a_step(folder: Path) -> None:
    packed, merged = tensors_of(folder / "nvfp4"), tensors_of(folder / "merged")
    for name in wanted_packed(folder):
        weights, step = unpacked(packed, name)
        off = (weights - merged[name].float()).abs()
        # the block's own scale is rounded to FP8, so its largest number may lie a little beyond the
        # last step
        assert (off <= step * LARGEST_GAP * 1.1 + 1e-6).all(), name
        assert off.mean() < 0.12 * merged[name].float().abs().mean(), name


def test_the_result_says_what_it_was_calibrated_with(folder: Path, tmp_path: Path) -> None:
    result = json.loads((folder / "result.json").read_text())
    assert result["calibration"] == "32 rows of random tokens"
    assert result["packed_weights"] == len(wanted_packed(folder))


def test_no_temporary_files_remain_and_too_little_memory_is_refused_first(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not list(folder.glob("nvfp4.*"))
    monkeypatch.setattr(quantise_checkpoint, "MEMORY_FACTOR", 1e12)
    with pytest.raises(merge_checkpoint.Refused, match="too little memory"):
        quantise_checkpoint.export(
            folder / "base", folder / "adapter" / "served", tmp_path / "nvfp4", None
        )
    assert not list(tmp_path.iterdir())


def test_the_night_s_rows_calibrate_and_unused_experts_get_a_usable_scale(
    folder: Path, tmp_path: Path
) -> None:
    row = {
        "prompt": [{"role": "user", "content": "a"}],
        "completion": [{"role": "assistant", "content": "b"}],
    }
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n")
    adapter = folder / "adapter" / "served"
    result = quantise_checkpoint.export(
        folder / "base", adapter, tmp_path / "nvfp4", tmp_path / "rows.jsonl"
    )
    assert result["calibration"].startswith("1 rows of ")
    tensors = tensors_of(tmp_path / "nvfp4")
    scales = {
        name: tensor.float() for name, tensor in tensors.items() if name.endswith("input_scale")
    }
    assert len(scales) == len(wanted_packed(folder))
    assert all(torch.isfinite(scale) and scale > 0 for scale in scales.values()), scales
