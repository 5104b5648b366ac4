"""A plain model, a tiny Llama with random weights: trained, packed, and its adapter as vLLM expects
it; and models that cannot be trained, refused by name before they are loaded."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file
from transformers import LlamaConfig, LlamaForCausalLM

from tests.training.in_image import test_night
from training import (
    check_adapter,
    count_parameters,
    families,
    loop,
    models,
    practice_model,
    samples,
    train,
)
from training.check_adapter import BaseModel

MODULES = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
SIZE = {"hidden_size": 32, "num_attention_heads": 4, "num_key_value_heads": 2}
SIZE |= {"num_hidden_layers": 2, "intermediate_size": 48, "vocab_size": practice_model.VOCABULARY}
WINDOW = {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 0}


def save_base(folder: Path) -> Path:
    """A Llama of random weights with the practice model's tokenizer."""
    torch.manual_seed(5)
    LlamaForCausalLM(LlamaConfig(**SIZE, initializer_range=0.3)).save_pretrained(folder)
    practice_model.build_tokenizer(test_night.WORLD).save_pretrained(folder)
    return folder


def job(folder: Path, base: Path, **changes: Any) -> train.Job:
    plain = {"target_modules": MODULES, "target_parameters": [], "steps": 30}
    path = test_night.write_job(folder, base, **plain | changes)
    return train.Job(**json.loads(path.read_text()))


def configured(folder: Path, config: Any) -> Path:
    config.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("pack", [False, True], ids=["rows", "packs"])
def test_a_night_on_a_plain_model_learns_and_its_adapter_can_serve(
    base: Path, tmp_path: Path, pack: bool
) -> None:
    done = train.run(job(tmp_path, base), pack=pack)
    assert done["outcome"] == "trained" and done["packed"] is pack, done
    assert done["loss_last"] < 0.7 * done["loss_first"]
    tensors = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    assert "base_model.model.model.layers.1.self_attn.q_proj.lora_A.weight" in tensors
    assert len(tensors) == done["adapter_tensors"] == 2 * len(MODULES) * SIZE["num_hidden_layers"]
    facts = families.facts(str(base), families.configuration(str(base)))
    order = {"folder": str(tmp_path / "adapter"), "name": "", "base": facts, "largest_rank": 8}
    assert check_adapter.check(order) == []


def test_an_adapter_of_another_kind_of_model_is_refused(base: Path, tmp_path: Path) -> None:
    train.run(job(tmp_path, base, steps=1))
    nemotron = BaseModel("tiny", expert_count=3, expert_layers=(1, 3))
    found = check_adapter.problems(tmp_path / "adapter", nemotron, 8)
    assert found and all("names no module of the model" in words for words in found)


def test_a_plain_adapter_can_be_continued(base: Path, tmp_path: Path) -> None:
    first = train.run(job(tmp_path / "first", base))
    more = job(tmp_path / "second", base, begin_from=str(tmp_path / "first" / "adapter"))
    model = models.wrapped(more)
    tokenizer = practice_model.PreTrainedTokenizerFast.from_pretrained(base)
    found = train.likelihoods(model, tokenizer, train.first_rows(more))
    assert found == pytest.approx(first["likelihood_of_first_rows"], abs=1e-4)


def test_a_pack_has_the_losses_and_gradients_of_its_rows(base: Path, tmp_path: Path) -> None:
    several = samples.random_samples(5, 200, 3)
    model = models.wrapped(job(tmp_path, base))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(0, 0.05)
    found = {}
    for pack in (True, False):
        model.zero_grad()
        logs, counts = loop.answer_logs(model, several, pack)
        logs.sum().backward()
        grads = [p.grad.clone() for p in model.parameters() if p.grad is not None]
        found[pack] = (logs.detach(), counts, grads)
    assert torch.allclose(found[True][0], found[False][0], rtol=1e-5)
    assert torch.equal(found[True][1], found[False][1])
    pairs = zip(found[True][2], found[False][2], strict=True)
    assert all(torch.allclose(one, other, rtol=1e-3, atol=1e-4) for one, other in pairs)


def test_targets_that_the_model_lacks_are_named(base: Path, tmp_path: Path) -> None:
    done = train.run(job(tmp_path, base, target_modules=["q_proj", "in_proj"], layers=[0, 7]))
    assert done["outcome"] == "failed"
    assert "(llama) does not have: in_proj, layer 7" in done["reason"]


def test_a_recipe_is_counted_by_the_configuration_that_setup_wrote(base: Path) -> None:
    facts = families.facts(str(base), families.configuration(str(base)))
    model = count_parameters.counted(json.loads(json.dumps(facts))["configuration"])
    recipe = {"rank": 8, "target_modules": [*MODULES, "in_proj"]}
    found = count_parameters.facts(model, recipe | {"target_parameters": [], "layers": []})
    loaded = models.wrapped(job(base / "job", base))
    trained = sum(p.numel() for p in loaded.parameters() if p.requires_grad)
    assert found["trainable_parameters"] == trained and found["unmatched"] == ["in_proj"]


@pytest.mark.parametrize(
    ("kind", "size", "packs"),
    [
        ("llama", {}, True),
        ("mistral", {"sliding_window": None}, True),
        ("mistral", {"sliding_window": 16}, False),
        ("qwen2", {}, True),
        ("qwen2", WINDOW, False),
        ("qwen3", {}, True),
    ],
)
def test_plain_models_are_known_by_their_configuration(
    kind: str, size: dict[str, Any], packs: bool
) -> None:
    config = transformers.AutoConfig.for_model(kind, **SIZE | size)
    assert families.family(config) == families.PLAIN
    assert families.packs(config) is packs


@pytest.mark.parametrize(
    ("kind", "odd"),
    [
        ("gpt2", "lacks mlp.down_proj"),
        ("phi3", "has mlp.gate_up_proj, self_attn.qkv_proj"),
        ("qwen3_moe", "has mlp.experts"),
    ],
)
def test_other_models_are_refused_by_name_before_they_are_loaded(
    kind: str, odd: str, tmp_path: Path
) -> None:
    config = transformers.AutoConfig.for_model(kind, **SIZE | {"pad_token_id": 0})
    folder = configured(tmp_path / kind, config)  # no weights and no tokenizer
    done = train.run(job(tmp_path, folder))
    assert done["outcome"] == "failed"
    wanted = rf"Unsupported: \S*{kind} \({kind}\) cannot be trained: .*{odd}"
    assert re.search(wanted, done["reason"]), done["reason"]


def test_setup_refuses_a_model_that_cannot_be_trained(tmp_path: Path) -> None:
    configured(tmp_path, transformers.AutoConfig.for_model("gpt2"))
    command = [sys.executable, "-m", "training.describe", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert "(gpt2) cannot be trained" in json.loads(done.stdout.splitlines()[-1])["refused"]


def test_setup_is_told_how_a_checkpoint_is_packed(tmp_path: Path) -> None:
    config = transformers.AutoConfig.for_model("llama", **SIZE)
    config.quantization_config = {"quant_method": "awq", "bits": 4}
    configured(tmp_path, config)
    command = [sys.executable, "-m", "training.describe", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.splitlines()[-1])["quantisation"] == "awq"


def test_a_window_longer_than_attention_s_own_is_kept(tmp_path: Path) -> None:
    """Rows of a model with a window go through transformers' own attention."""
    config = transformers.AutoConfig.for_model("qwen2", **SIZE | WINDOW)
    torch.manual_seed(1)
    plain = transformers.AutoModelForCausalLM.from_config(config).eval()
    plain.save_pretrained(tmp_path)
    ids = torch.randint(5, 700, (1, 40))
    ours = models.load(job(tmp_path / "job", tmp_path)).eval()
    assert torch.allclose(ours(ids).logits, plain(ids).logits, atol=1e-5)
