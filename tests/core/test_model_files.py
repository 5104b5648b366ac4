"""The files of env/models, and what is planned by them."""

import inspect
import re
from dataclasses import MISSING, fields, replace
from pathlib import Path
from typing import Any

import pytest

from glue.core import files, model_files, settings
from glue.core.errors import Misconfigured
from glue.core.model_files import Model
from glue.core.settings import REPOSITORY
from tests.training import test_memory
from training import memory_plan
from training.memory_plan import Shape

FOLDER = REPOSITORY / "env" / "models"
NAMES = sorted(path.stem for path in FOLDER.glob("*.toml"))
PUBLISHED = ["lightning", "nano", "super"]


def model(name: str) -> Model:
    return model_files.load(FOLDER, name)


def spark(monkeypatch: pytest.MonkeyPatch, **values: str) -> settings.Settings:
    for key, value in values.items():
        monkeypatch.setenv(f"GLUE_{key}", value)
    return settings.load("spark")


def test_every_file_is_read_and_the_profiles_choose_theirs() -> None:
    assert sorted([*PUBLISHED, "practice", "smollm2"]) == [model(name).name for name in NAMES]
    chosen = {profile: settings.load(profile)["MODEL"] for profile in settings.PROFILES}
    assert chosen == {"spark": "nano", "rehearsal": "practice", "demo": "smollm2"}
    assert [name for name in NAMES if model(name).computed] == ["lightning", "super"]


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_token_s_cache_is_that_of_the_attention_layers(name: str) -> None:
    said = model(name).configuration
    keys_and_values = 2 * said["num_key_value_heads"] * said["head_dim"]
    layers = said["hybrid_override_pattern"].count("*")
    width = {"fp8": 1, "bfloat16": 2}[model(name).kv_cache_dtype]
    assert model(name).kv_bytes_per_token == layers * keys_and_values * width


def test_lightning_is_not_served_with_the_cache_that_was_reported_not_to_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert "--kv-cache-dtype=fp8" in spark(monkeypatch, MODEL="nano")["MODEL_FLAGS"]
    assert "--kv-cache-dtype=bfloat16" in spark(monkeypatch, MODEL="lightning")["MODEL_FLAGS"]
    assert "kv-cache-dtype=" not in (REPOSITORY / "compose.day.yaml").read_text()


def test_the_figures_of_nano_are_those_that_were_settings_and_constants() -> None:
    nano, chosen = model("nano"), settings.load("spark")
    assert (nano.served_download_bytes, nano.trained_download_bytes) == (
        19_300_000_000,
        63_200_000_000,
    )
    assert 16 * nano.adapter_bytes_per_rank == 900_000_000
    assert chosen.number("DAY_FREE_BYTES") == 38_000_000_000
    assert chosen.number("NIGHT_FREE_BYTES") == 70_000_000_000
    assert (
        chosen.sources["DAY_FREE_BYTES"] == chosen.sources["SERVED_MODEL"] == "env/models/nano.toml"
    )
    assert chosen["MODEL_FLAGS"] == (
        "--reasoning-parser=nemotron_v3 --tool-call-parser=qwen3_coder --kv-cache-dtype=fp8"
    )
    assert chosen["SERVED_MODEL"] == "nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-NVFP4"
    assert chosen["TRAINED_MODEL"] == "nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16"


def shape(name: str, trainable: int) -> Shape:
    """With an adapter of rank 16 on everything."""
    found = model(name)
    total = found.parameters + trainable
    return memory_plan.shape(found.configuration, total, trainable, 16, experts_adapted=True)


@pytest.mark.parametrize("name", ["nano", "lightning"])
def test_the_shape_of_nano_and_of_lightning_is_the_one_whose_peaks_were_measured(name: str) -> None:
    """tests/training/test_memory.py compares it with the measured peaks."""
    measured = replace(test_memory.shape(439_440_384), expert_width=2688)
    assert shape(name, 439_440_384) == measured


@pytest.mark.parametrize(
    ("name", "day", "night"),
    [("lightning", 37_600_000_000, 70_000_000_000), ("super", 101_256_000_000, 70_000_000_000)],
)
def test_the_day_and_night_of_another_size_are_planned(
    name: str, day: int, night: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = spark(monkeypatch, MODEL=name)
    assert (chosen.number("DAY_FREE_BYTES"), chosen.number("NIGHT_FREE_BYTES")) == (day, night)
    assert day < 101.3 * 2**30, "what owners report as free after a start"


def test_vllm_s_memory_share_is_free_once_a_model_s_day_may_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """vLLM refuses to start unless its share of all memory is free; a GB10 has 121.69 GiB (what
    nvidia-smi's owners report)."""
    text = (REPOSITORY / "compose.day.yaml").read_text()
    share = float(text.partition("--gpu-memory-utilization=")[2].split()[0])
    days = [
        spark(monkeypatch, MODEL=name, KV_CACHE_BYTES=cache).number("DAY_FREE_BYTES")
        for name in PUBLISHED
        for cache in ("10000000000", "2000000000")
    ]
    assert share * 121.69 * 2**30 <= min(days)


def test_a_model_that_no_night_can_train_is_refused_with_its_bytes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    chosen = spark(monkeypatch, MODEL="super")
    assert chosen.untrainable("bf16") == (
        "its BF16 weights take 241.3 GB, a training step may take 85.0 GB (TRAINING_MEMORY_BYTES)"
    )
    assert chosen.untrainable("served") == (
        "of packed weights nights train only on NVFP4 layers of a Nemotron-H, and it has FP8"
        " layers; and in BF16: " + chosen.untrainable("bf16")
    )
    assert len(chosen.needed_models("bf16")) == 1 and len(chosen.hub_models("bf16")) == 2
    chosen = spark(monkeypatch, MODEL="lightning")
    words = 'it has FP8 layers; a recipe with base = "bf16" can'
    assert chosen.untrainable("served").endswith(words) and not chosen.untrainable("bf16")
    chosen = spark(monkeypatch, MODEL="nano")
    assert not chosen.untrainable("served") and not chosen.untrainable("bf16")
    small = replace(model("super"), trains_served=True).untrainable(
        "served", {"served": 50_000_000_000}
    )
    assert small.startswith("its packed weights take 74.5 GB, a training step may take 50.0 GB")


def found(monkeypatch: pytest.MonkeyPatch, folder: Path, kind: str, packing: str) -> Any:
    """A site on nano's file whose served checkpoint was found by make setup to be another."""
    facts = {"quantisation": packing, "configuration": {"model_type": kind}}
    chosen = spark(monkeypatch, STATE_DIR=str(folder), SERVED_MODEL="maker/other")
    files.write_json(folder / "base_model.json", facts | {"name": "maker/other"})
    return chosen


@pytest.mark.parametrize(
    ("kind", "packing", "words"),
    [
        ("nemotron_h", "MIXED_PRECISION", "and it is nemotron_h in MIXED_PRECISION; a recipe with"),
        ("llama", "awq", "and it is llama in awq; a recipe with"),
        ("llama", "NVFP4", "and it is llama in NVFP4; a recipe with"),
        ("nemotron_h", "NVFP4", ""),
        ("llama", "", ""),
    ],
)
def test_what_make_setup_found_counts_more_than_the_model_s_file(
    kind: str, packing: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = found(monkeypatch, tmp_path, kind, packing)
    assert chosen.model.trains_served
    why = chosen.untrainable("served")
    assert words in why and bool(why) is bool(words)
    assert not chosen.untrainable("bf16")


def test_a_packed_checkpoint_for_both_uses_is_refused_for_either_base(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GLUE_TRAINED_MODEL", "maker/other")
    chosen = found(monkeypatch, tmp_path, "llama", "awq")
    assert chosen.untrainable("bf16").endswith("and it is llama in awq")


def test_what_make_setup_found_of_another_checkpoint_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found(monkeypatch, tmp_path, "llama", "awq")
    chosen = spark(monkeypatch, SERVED_MODEL="maker/third")
    assert chosen.base_facts == {} and not chosen.untrainable("served")


def test_the_layers_are_those_of_the_checkpoint_and_not_of_a_file_that_does_not_name_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert spark(monkeypatch).configuration == model("nano").configuration
    assert found(monkeypatch, tmp_path, "llama", "").configuration == {"model_type": "llama"}
    assert spark(monkeypatch, SERVED_MODEL="maker/third").configuration == {}


@pytest.mark.parametrize(("tokens", "measured"), [(2048, 86_250_774_528), (8192, 97_428_412_416)])
def test_the_step_of_super_on_packed_experts_is_planned_as_it_was_measured(
    tokens: int, measured: int
) -> None:
    """One H200, random weights of the counts of super's layers, experts packed and the rest in
    BF16, recipe lean, every layer computed twice."""
    found, experts = model("super"), 40 * 512 * 2 * 2688 * 1024
    total, trainable = found.parameters + 29_835_264, 29_835_264
    lean = memory_plan.shape(found.configuration, total, trainable, 16, False, experts)
    assert abs(memory_plan.peak_bytes(lean, tokens, 88) / measured - 1) < 0.08


def test_the_plan_follows_the_cache_and_the_rank_unless_it_is_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    larger = {"KV_CACHE_BYTES": "12000000000", "MAX_LORA_RANK": "64"}
    chosen = spark(monkeypatch, **larger)
    assert chosen.number("DAY_FREE_BYTES") == 38_000_000_000 + 2_000_000_000 + 2 * 48 * 56_250_000
    assert spark(monkeypatch, DAY_FREE_BYTES="1000").number("DAY_FREE_BYTES") == 1000


@pytest.mark.parametrize("name", ["ultra", "practice"])
def test_a_spark_refuses_a_model_without_a_file_or_made_on_this_machine_with_the_list(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Misconfigured) as error:
        spark(monkeypatch, MODEL=name)
    expected = "Invalid value for MODEL in {}: '{}'. Expected one of: lightning, nano, super."
    assert expected.format(settings.ENVIRONMENT, name) in str(error.value)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("31_577_937_344", '"many"', "parameters in {}: 'many'. Expected a whole number from 1."),
        ("computed = false", "", "Missing key in {}: computed. Expected true or false."),
        ("parameters =", "paramters =", "Unknown key in {}: paramters. Did you mean parameters?"),
        (
            "computed =",
            'name = "nano"\ncomputed =',
            "key in {}: name. A model is named by its file",
        ),
        (
            "nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-NVFP4",
            "nano",
            "Expected org/name, or a path from /.",
        ),
        (
            "hidden_size = 2688",
            'hidden_size = "2688"',
            "hidden_size in [configuration] of {}: '2688'. Expected a whole number from 1.",
        ),
        (
            "n_groups = 8",
            "",
            "Missing key in [configuration] of {}: n_groups. Expected a whole number from 1.",
        ),
        ("head_dim = 128\nmax", "head_dim = 0\nmax", "{}: 0. Expected a whole number from 1."),
        ('"MEMEM*EM', '"MEMEM-EM', "Expected a letter M, E or * for each layer."),
        (
            'model_type = "nemotron_h"',
            'model_type = "llama"',
            "Missing key in [configuration] of {}: num_hidden_layers.",
        ),
        ('model_type = "nemotron_h"', "", "Missing key in [configuration] of {}: model_type."),
        ('"qwen3_coder"', '""', "tool_call_parser in {}: ''. Expected text that is not empty."),
    ],
)
def test_a_bad_file_names_file_key_value_and_what_is_expected(
    old: str, new: str, message: str, tmp_path: Path
) -> None:
    text = (FOLDER / "nano.toml").read_text()
    assert old in text
    (tmp_path / "bad.toml").write_text(text.replace(old, new, 1))
    with pytest.raises(Misconfigured) as error:
        model_files.load(tmp_path, "bad")
    assert message.format(tmp_path / "bad.toml") in str(error.value)


def test_a_plain_model_s_shape_is_read_from_its_configuration() -> None:
    llama: dict[str, Any] = {
        "model_type": "llama",
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "vocab_size": 128_256,
    }
    found = memory_plan.shape(llama, 8_072_204_288, 41_943_040, 16, experts_adapted=False)
    assert (found.kinds, found.plain_inner, found.query_width) == (("plain",) * 32, 14336, 4096)


def test_every_key_that_a_shape_is_read_from_is_required_of_a_file() -> None:
    """A key that is read and not required would be a crash in place of a message."""
    read = set(re.findall(r'said\["(\w+)"\]', inspect.getsource(memory_plan.shape)))
    required = {
        one.name
        for kind in (model_files.Plain, model_files.Hybrid)
        for one in fields(kind)
        if one.default is MISSING
    }
    assert required - read == {"hybrid_override_pattern"} and read <= required


def test_drafts_are_one_flag_and_their_head_s_memory_and_off_unless_asked_for() -> None:
    lightning = model("lightning")
    assert "--speculative-config" not in lightning.flags("")
    drafting = replace(lightning, draft_tokens=3)
    wanted = '--speculative-config={"method":"mtp","num_speculative_tokens":3}'
    assert drafting.flags("").split()[-1] == wanted
    values = dict.fromkeys(model_files.PLANNED_BY, "16000000000") | {"MAX_LORA_RANK": "16"}
    days = [int(one.settings(values)["DAY_FREE_BYTES"]) for one in (lightning, drafting)]
    assert days[1] - days[0] == lightning.draft_memory_bytes
