import json
import struct
from pathlib import Path

import pytest

from glue.core.settings import REPOSITORY
from training import check_adapter, places
from training.check_adapter import BaseModel, Shapes

BASE = BaseModel("tiny", expert_count=3, expert_layers=(1, 3))
PREFIX = "base_model.model.model.layers"


def shapes(rank: int = 4) -> Shapes:
    found: Shapes = {}
    for layer in BASE.expert_layers:
        for expert in range(BASE.expert_count):
            for projection in ("up_proj", "down_proj"):
                name = f"{PREFIX}.{layer}.mixer.experts.{expert}.{projection}"
                found |= {f"{name}.lora_A.weight": [rank, 8], f"{name}.lora_B.weight": [8, rank]}
    attention = f"{PREFIX}.2.mixer.q_proj"
    return found | {
        f"{attention}.lora_A.weight": [rank, 8],
        f"{attention}.lora_B.weight": [8, rank],
    }


def write(folder: Path, tensors: Shapes, rank: int = 4, cut_bytes: int = 0) -> Path:
    """A safetensors file of zeros: header length, header, data
    (https://github.com/huggingface/safetensors#format)."""
    folder.mkdir(exist_ok=True)
    header, end = {}, 0
    for name, shape in tensors.items():
        size = 4 * shape[0] * shape[1]
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    body = struct.pack("<Q", len(text)) + text + bytes(end)
    (folder / "adapter_model.safetensors").write_bytes(body[: len(body) - cut_bytes])
    (folder / "adapter_config.json").write_text(json.dumps({"r": rank}))
    return folder


def test_a_good_adapter_has_no_problems(tmp_path: Path) -> None:
    assert check_adapter.problems(write(tmp_path / "good", shapes()), BASE, 16) == []


def test_a_lean_adapter_without_routed_experts_is_good(tmp_path: Path) -> None:
    lean = {name: shape for name, shape in shapes().items() if ".experts." not in name}
    assert check_adapter.problems(write(tmp_path / "lean", lean), BASE, 16) == []


def test_a_missing_expert_is_named(tmp_path: Path) -> None:
    tensors = {
        name: shape for name, shape in shapes().items() if "layers.3.mixer.experts.1." not in name
    }
    found = check_adapter.problems(write(tmp_path / "a", tensors), BASE, 16)
    assert found == ["layer 3: expert 1 has no down_proj", "layer 3: expert 1 has no up_proj"]


def test_an_expert_missing_in_all_layers_is_named(tmp_path: Path) -> None:
    tensors = {name: shape for name, shape in shapes().items() if ".experts.2." not in name}
    assert any(
        "expert 2" in words
        for words in check_adapter.problems(write(tmp_path / "a", tensors), BASE, 16)
    )


def test_a_wrong_rank_is_named(tmp_path: Path) -> None:
    assert (
        "rank 8"
        in check_adapter.problems(write(tmp_path / "a", shapes(rank=4), rank=8), BASE, 16)[0]
    )
    assert (
        "1 to 16"
        in check_adapter.problems(write(tmp_path / "b", shapes(rank=32), rank=32), BASE, 16)[0]
    )


def test_fused_experts_are_refused(tmp_path: Path) -> None:
    tensors = {name: shape for name, shape in shapes().items() if ".experts." not in name}
    tensors[f"{PREFIX}.1.mixer.experts.base_layer.lora_A.weight"] = [12, 8]
    tensors[f"{PREFIX}.1.mixer.experts.base_layer.lora_B.weight"] = [8, 12]
    assert "fused form" in check_adapter.problems(write(tmp_path / "a", tensors), BASE, 16)[0]


@pytest.mark.parametrize("half", ["lora_A", "lora_B"])
def test_half_a_pair_is_named(half: str, tmp_path: Path) -> None:
    tensors = {
        name: shape
        for name, shape in shapes().items()
        if not name.endswith(f"q_proj.{half}.weight")
    }
    assert any(
        "is missing" in words
        for words in check_adapter.problems(write(tmp_path / "a", tensors), BASE, 16)
    )


def test_a_truncated_file_is_detected(tmp_path: Path) -> None:
    assert (
        "incomplete metadata"
        in check_adapter.problems(write(tmp_path / "a", shapes(), cut_bytes=4), BASE, 16)[0]
    )


def test_a_folder_without_an_adapter_is_refused(tmp_path: Path) -> None:
    assert "is not an adapter folder" in check_adapter.problems(tmp_path, BASE, 16)[0]
    (tmp_path / "adapter_config.json").write_text("{}")
    (tmp_path / "adapter_model.safetensors").write_bytes(b"PK\x03\x04 this is a zip file, really")
    assert "is not an adapter folder" in check_adapter.problems(tmp_path, BASE, 16)[0]


def test_modules_that_vllm_does_not_adapt_are_named(tmp_path: Path) -> None:
    tensors = shapes() | {
        "base_model.model.model.layers.0.mixer.out_proj.lora_A.weight": [16, 8],
        "base_model.model.model.layers.0.mixer.out_proj.lora_B.weight": [8, 16],
    }
    assert any(
        "does not adapt" in words
        for words in check_adapter.problems(write(tmp_path / "a", tensors), BASE, 16)
    )


def test_the_allowed_modules_are_vllm_s_lora_target_modules() -> None:
    (line,) = [
        line
        for line in (REPOSITORY / "compose.day.yaml").read_text().splitlines()
        if "--lora-target-modules" in line
    ]
    assert set(line.split()[1:]) == check_adapter.SERVED_TARGETS | {"experts"}


def test_names_that_the_model_does_not_have_are_refused(tmp_path: Path) -> None:
    """vLLM silently drops them and serves the base model under the adapter's name."""
    elsewhere = {name.replace(".mixer.", ".mixxr."): shape for name, shape in shapes().items()}
    found = check_adapter.problems(write(tmp_path / "a", elsewhere), BASE, 16)
    assert len(found) == len(elsewhere) and all(
        "names no module of the model" in words for words in found
    )


def plain_shapes() -> Shapes:
    names = [f"{PREFIX}.0.{place}.lora" for place in places.PLAIN]
    return {f"{name}_A.weight": [4, 8] for name in names} | {
        f"{name}_B.weight": [8, 4] for name in names
    }


def test_a_plain_model_s_adapter_is_good_for_it_and_for_no_nemotron(tmp_path: Path) -> None:
    folder = write(tmp_path / "plain", plain_shapes())
    llama = BaseModel.of(
        {"name": "llama", "expert_count": 0, "expert_layers": [], "places": [*places.PLAIN]}
    )
    assert check_adapter.problems(folder, llama, 16) == []
    assert check_adapter.problems(folder, None, 16) == []
    assert len(check_adapter.problems(folder, BASE, 16)) == len(plain_shapes())
    assert check_adapter.problems(write(tmp_path / "nemotron", shapes()), llama, 16) != []


def test_facts_of_an_earlier_version_are_a_nemotron_s() -> None:
    table = {"name": "tiny", "expert_count": 3, "expert_layers": [1, 3]}
    assert BaseModel.of(table) == BASE


def test_every_place_that_is_trained_is_served() -> None:
    """All but out_proj, which the case study names and nothing trains."""
    names = {place.rsplit(".", 1)[1] for place in places.PLAIN | places.NEMOTRON_H}
    assert names - {"out_proj"} == check_adapter.SERVED_TARGETS
