"""The streaming merge compared with PEFT's, bit for bit, and everything that it must refuse."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, NemotronHForCausalLM

from training import merge_checkpoint, practice_model, vllm_format, world

LAYERS = ["q_proj", "k_proj", "v_proj", "o_proj", "in_proj"]
EVERYTHING = {
    "target_modules": [*LAYERS, "up_proj", "down_proj"],
    "target_parameters": ["mixer.experts.up_proj", "mixer.experts.down_proj"],
}
# what the official NVFP4 checkpoint keeps in BF16: layer 3 is attention, layer 2 the Mamba layer
# that feeds it
FREE = {"target_modules": LAYERS, "layers_to_transform": [2, 3]}
FREE_WEIGHTS = {
    f"backbone.layers.{name}_proj.weight"
    for name in ("2.mixer.in", *(f"3.mixer.{side}" for side in "qkvo"))
}
WORLD = Path(__file__).parents[3] / "env" / "practice-world.toml"
OTHER_FILES = ("config.json", "tokenizer.json", "chat_template.jinja", "generation_config.json")


def build_base(folder: Path, dtype: torch.dtype, shard_size: str = "1MB") -> Path:
    """A model with every kind of layer and random weights, in three shards, with files that a
    merge must not change."""
    torch.manual_seed(1)
    model = NemotronHForCausalLM(practice_model.configuration()).to(dtype)
    for name, buffer in model.named_buffers():
        if name.endswith(
            "e_score_correction_bias"
        ):  # float32 in the hub's checkpoint too, whatever the rest is
            buffer.data = buffer.float().normal_(0, 0.01)
    model.save_pretrained(folder, max_shard_size=shard_size)
    practice_model.build_tokenizer(world.load(WORLD)).save_pretrained(folder)
    return folder


def train_adapter(base: Path, folder: Path, rank: int = 8, **choice: Any) -> Path:
    """PEFT's adapter with random factors in folder/peft, and vLLM's form of it in folder/served."""
    torch.manual_seed(2)
    loaded = AutoModelForCausalLM.from_pretrained(base, dtype="auto")
    model = get_peft_model(
        loaded, LoraConfig(r=rank, lora_alpha=2 * rank, task_type="CAUSAL_LM", **choice)
    )
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=0.05)
    model.save_pretrained(folder / "peft")
    base_config = loaded.config
    tensors = vllm_format.per_expert(
        load_file(folder / "peft" / "adapter_model.safetensors"),
        base_config.n_routed_experts,
        base_config.hidden_size,
        base_config.moe_intermediate_size,
    )
    (folder / "served").mkdir()
    save_file(tensors, folder / "served" / "adapter_model.safetensors")
    (folder / "served" / "adapter_config.json").write_text(
        (folder / "peft" / "adapter_config.json").read_text()
    )
    return folder / "served"


def tensors_of(folder: Path) -> dict[str, torch.Tensor]:
    return {
        name: tensor
        for shard in sorted(folder.glob("*.safetensors"))
        for name, tensor in load_file(shard).items()
    }


def differing(one: Path, other: Path) -> set[str]:
    """Names of the tensors that differ in any bit, in type or in shape."""
    left, right = tensors_of(one), tensors_of(other)
    assert left.keys() == right.keys()
    return {
        name
        for name in left
        if left[name].dtype != right[name].dtype or not torch.equal(left[name], right[name])
    }


@pytest.fixture(scope="module", params=[torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_base(tmp_path_factory.mktemp("base"), request.param)


@pytest.fixture(scope="module")
def plain_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_base(tmp_path_factory.mktemp("plain"), torch.bfloat16)


def rewrite_configuration(adapter: Path, **changes: Any) -> None:
    path = adapter / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize("rslora", [False, True])
def test_the_merge_equals_peft_s_bit_for_bit(base: Path, tmp_path: Path, rslora: bool) -> None:
    adapter = train_adapter(base, tmp_path, use_rslora=rslora, **EVERYTHING)
    loaded = AutoModelForCausalLM.from_pretrained(base, dtype="auto")
    PeftModel.from_pretrained(loaded, tmp_path / "peft").merge_and_unload().save_pretrained(
        tmp_path / "by_peft"
    )
    done = merge_checkpoint.merge(base, adapter, tmp_path / "merged")
    changed = differing(base, tmp_path / "merged")
    # 4 of attention, 3 of Mamba, and in each of 3 layers 2 of the shared expert and 2 of each of 8
    assert len(changed) == done["merged_weights"] == 4 + 3 + 3 * (2 + 2 * 8)
    assert differing(tmp_path / "by_peft", tmp_path / "merged") == set()


def test_headers_and_other_tensors_and_files_are_unchanged(base: Path, tmp_path: Path) -> None:
    adapter = train_adapter(base, tmp_path, **FREE)
    done = merge_checkpoint.merge(base, adapter, tmp_path / "merged")
    names = {path.name for path in base.iterdir()}
    assert {path.name for path in (tmp_path / "merged").iterdir()} == names and set(
        OTHER_FILES
    ) < names
    changed = {
        name
        for name in names
        if (base / name).read_bytes() != (tmp_path / "merged" / name).read_bytes()
    }
    assert changed and all(name.endswith(".safetensors") for name in changed)
    assert len(changed) == done["shards_written"] < len(list(base.glob("*.safetensors")))
    for name in changed:
        assert (
            merge_checkpoint.read_header(base / name)[0]
            == merge_checkpoint.read_header(tmp_path / "merged" / name)[0]
        )
    layers = {
        f"backbone.layers.{layer}.mixer.{name}.weight"
        for layer, names in ((2, ["in_proj"]), (3, LAYERS[:4]))
        for name in names
    }
    assert differing(base, tmp_path / "merged") == layers


def test_unchanged_shards_are_linked_or_copied_across_file_systems(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = train_adapter(base, tmp_path, **FREE)
    merge_checkpoint.merge(base, adapter, tmp_path / "linked")

    def across(*_: Any) -> None:  # stub: two file systems are not to be had in every test
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", across)
    merge_checkpoint.merge(base, adapter, tmp_path / "copied")
    assert (tmp_path / "linked" / "config.json").samefile(base / "config.json")
    assert not (tmp_path / "copied" / "config.json").samefile(base / "config.json")
    for path in base.iterdir():
        assert (tmp_path / "linked" / path.name).read_bytes() == (
            tmp_path / "copied" / path.name
        ).read_bytes()
    assert all(path.stat().st_mode & 0o444 == 0o444 for path in (tmp_path / "copied").iterdir())


def test_the_merged_checkpoint_answers_as_the_adapter_does(base: Path, tmp_path: Path) -> None:
    """Loaded by transformers: equal within rounding in float32, and within bfloat16's precision."""
    adapter = train_adapter(base, tmp_path, **EVERYTHING)
    merge_checkpoint.merge(base, adapter, tmp_path / "merged")
    ids = torch.randint(5, 700, (2, 24), generator=torch.Generator().manual_seed(3))

    def logs(model: torch.nn.Module) -> torch.Tensor:
        with torch.no_grad():
            return model.eval()(input_ids=ids, use_cache=False).logits.float().log_softmax(-1)

    def load(folder: Path) -> Any:
        return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)

    plain, merged = logs(load(base)), logs(load(tmp_path / "merged"))
    adapted = logs(PeftModel.from_pretrained(load(base), tmp_path / "peft"))
    exact = tensors_of(base)["lm_head.weight"].dtype == torch.float32
    effect = (adapted - plain).abs().mean()
    assert (adapted - merged).abs().mean() < (1e-5 if exact else 0.05) * effect


def test_a_model_in_the_hub_s_cache_is_found_by_its_name_and_its_links_are_followed(
    plain_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = tmp_path / "cache" / "models--office--nano"
    (repository / "blobs").mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc")
    snapshot = repository / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    for path in plain_base.iterdir():
        shutil.copyfile(path, repository / "blobs" / path.name)
        (snapshot / path.name).symlink_to(Path("../../blobs") / path.name)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    assert merge_checkpoint.folder_of("office/nano") == snapshot
    adapter = train_adapter(plain_base, tmp_path, **FREE)
    merge_checkpoint.merge(snapshot, adapter, tmp_path / "merged")
    assert not any(path.is_symlink() for path in (tmp_path / "merged").iterdir())
    assert differing(plain_base, tmp_path / "merged") == FREE_WEIGHTS
    with pytest.raises(merge_checkpoint.Refused, match="office/gone is not on this machine"):
        merge_checkpoint.folder_of("office/gone")


# ---------------------------------------------------------------------- refusals, each before
# anything is written


def refused(base: Path, adapter: Path, words: str) -> None:
    target = adapter.parent / "merged"
    with pytest.raises(merge_checkpoint.Refused, match=words):
        merge_checkpoint.merge(base, adapter, target)
    assert not list(adapter.parent.glob("merged*"))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"use_dora": True}, "use_dora"),
        ({"rank_pattern": {"q_proj": 4}}, "rank_pattern"),
        ({"alpha_pattern": {"q_proj": 4}}, "alpha_pattern"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"bias": "all"}, "bias 'all'"),
        ({"peft_type": "LOHA"}, "peft_type 'LOHA'"),
    ],
)
def test_an_adapter_that_is_not_plain_lora_is_refused(
    plain_base: Path, tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    adapter = train_adapter(plain_base, tmp_path, **FREE)
    rewrite_configuration(adapter, **changes)
    refused(plain_base, adapter, words)


def test_tensors_without_a_weight_or_a_partner_are_named(plain_base: Path, tmp_path: Path) -> None:
    adapter = train_adapter(plain_base, tmp_path, **FREE)
    path = adapter / "adapter_model.safetensors"
    good = load_file(path)
    save_file(
        {name.replace("layers.3.", "layers.33."): tensor for name, tensor in good.items()}, path
    )
    refused(plain_base, adapter, "layers.33.mixer.k_proj")
    save_file({name: tensor for name, tensor in good.items() if "k_proj.lora_A" not in name}, path)
    refused(plain_base, adapter, "not a LoRA pair: .*k_proj.lora_B")


def test_peft_s_own_form_of_the_experts_is_refused(plain_base: Path, tmp_path: Path) -> None:
    train_adapter(plain_base, tmp_path, **EVERYTHING)
    refused(plain_base, tmp_path / "peft", "experts")


def test_a_disk_that_is_too_small_is_refused(
    plain_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = train_adapter(plain_base, tmp_path, **FREE)
    monkeypatch.setattr(merge_checkpoint, "SPARE_DISK_BYTES", 10**18)
    refused(plain_base, adapter, "too little disk")


# ---------------------------------------------------------------------- into the checkpoint that
# serves: packed NVFP4


def packed(base: Path, folder: Path) -> Path:
    """The base model in the layout of the official NVFP4 checkpoint: everything except the BF16
    list as uint8 with scales."""
    kept = (
        "q_proj",
        "k_proj",
        "v_proj",
        "o_proj",
        ".2.mixer.in_proj",
        ".2.mixer.out_proj",
        "conv1d",
        "gate",
        "norm",
        "lm_head",
    )
    tensors: dict[str, torch.Tensor] = {}
    for name, tensor in tensors_of(base).items():
        if (
            name.endswith(".weight")
            and "embeddings" not in name
            and not any(word in name for word in kept)
        ):
            stem, (rows, columns) = name.removesuffix("weight"), tensor.shape
            tensors[name] = torch.randint(0, 256, (rows, columns // 2), dtype=torch.uint8)
            tensors[stem + "weight_scale"] = torch.rand(rows, columns // 16).to(torch.float8_e4m3fn)
            tensors[stem + "weight_scale_2"] = torch.rand(())
            tensors[stem + "input_scale"] = torch.rand(())
        else:
            tensors[name] = tensor
    folder.mkdir()
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text('{"quantization_config": {"quant_algo": "NVFP4"}}')
    (folder / "hf_quant_config.json").write_text(
        '{"quantization": {"exclude_modules": ["lm_head"]}}'
    )
    return folder


def test_a_free_adapter_merges_without_changing_packed_weights(
    plain_base: Path, tmp_path: Path
) -> None:
    adapter = train_adapter(plain_base, tmp_path, **FREE)
    served = packed(plain_base, tmp_path / "served_base")
    merge_checkpoint.merge(served, adapter, tmp_path / "merged")
    merge_checkpoint.merge(plain_base, adapter, tmp_path / "plain")
    before, after, plain = (
        read_bytes(folder) for folder in (served, tmp_path / "merged", tmp_path / "plain")
    )
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {f"backbone.layers.3.mixer.{name}.weight" for name in LAYERS[:4]} | {
        "backbone.layers.2.mixer.in_proj.weight"
    }
    assert all(after[name] == plain[name] for name in changed)
    for name in ("config.json", "hf_quant_config.json"):
        assert (served / name).read_bytes() == (tmp_path / "merged" / name).read_bytes()


def read_bytes(folder: Path) -> dict[str, bytes]:
    found = {}
    for shard in folder.glob("*.safetensors"):
        raw, entries = merge_checkpoint.read_header(shard)
        data = shard.read_bytes()[len(raw) :]
        found |= {name: data[slice(*entry["data_offsets"])] for name, entry in entries.items()}
    return found


def test_an_expert_adapter_is_refused_there_with_an_alternative(
    plain_base: Path, tmp_path: Path
) -> None:
    adapter = train_adapter(plain_base, tmp_path, **EVERYTHING)
    served = packed(plain_base, tmp_path / "served_base")
    refused(
        served,
        adapter,
        r"packed again: use the recipe team-merged or free, or serve = adapter: .*\(U8\)",
    )


def test_one_tensor_is_held_at_a_time(base: Path) -> None:
    """Tensors are in the order of their bytes in the file, so that a shard is one pass."""
    for shard in base.glob("*.safetensors"):
        raw, entries = merge_checkpoint.read_header(shard)
        ends = [0, *(entry["data_offsets"][1] for entry in entries.values())]
        assert [entry["data_offsets"][0] for entry in entries.values()] == ends[:-1]
        assert len(raw) + ends[-1] == shard.stat().st_size
        with safe_open(shard, "pt") as file:
            assert set(file.keys()) == set(entries)
