"""Merges an adapter into the BF16 model and packs the result as NVFP4 by NVIDIA ModelOpt, by the
official layer rule.

    python -m training.quantise MODEL ADAPTER TARGET [--rows FILE]

MODEL, ADAPTER, TARGET as for training.merge; FILE has rows {"prompt": [...], "completion": [...]}
to calibrate with, and without one random tokens are used, which the result says. NVIDIA's own NVFP4
checkpoint keeps in BF16: the output head, embeddings, router gates, convolutions, attention, and
the Mamba layer that feeds each attention layer; its KV cache is FP8. Those tensors are bit for bit
the merged checkpoint's. The packed ones lack NVIDIA's distillation, so judge the model before it
serves. The last line of output is JSON; exit 3 is a refusal in it.
"""

from __future__ import annotations

import argparse
import copy
import json
import shutil
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import modelopt
import modelopt.torch.quantization as mtq
import torch
from modelopt.torch.export import export_hf_checkpoint
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from training import merge_checkpoint
from training.memory_plan import feeding_layers
from training.samples import tokenized

CALIBRATION_ROWS = 512
LONGEST_TOKENS = 512
MEMORY_FACTOR = 1.4  # the model, and its packed copy
SEED = 3407

# -----------------------------------------------------------------------------
# which layers


def rule(kinds: list[str]) -> dict[str, Any]:
    """ModelOpt's preset for such models, with the feeding layers in BF16 and the KV cache in
    FP8."""
    chosen = copy.deepcopy(mtq.MAMBA_MOE_NVFP4_AGGRESSIVE_CFG)
    chosen["quant_cfg"] += [
        {"quantizer_name": f"*layers.{number}.mixer.{side}_proj*", "enable": False}
        for number in feeding_layers(kinds)
        for side in ("in", "out")
    ]
    chosen["quant_cfg"].append(
        {"quantizer_name": "*[kv]_bmm_quantizer", "enable": True, "cfg": {"num_bits": (4, 3)}}
    )
    return chosen


# -----------------------------------------------------------------------------
# calibration


def calibration(folder: Path, rows_file: Path | None, vocabulary: int) -> Iterable[list[int]]:
    """Token ids, a row at a time."""
    if rows_file is None:
        torch.manual_seed(SEED)
        return torch.randint(vocabulary, (32, 64)).tolist()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    rows = [
        json.loads(line)
        for line in rows_file.read_text(encoding="utf-8").split("\n")[:CALIBRATION_ROWS]
        if line
    ]
    return [tokenized(row, tokenizer)[0][:LONGEST_TOKENS] for row in rows]


def quantise(model: torch.nn.Module, rows: Iterable[list[int]]) -> None:
    @torch.no_grad()
    def calibrate(quantised: torch.nn.Module) -> None:
        for ids in rows:
            quantised(
                input_ids=torch.tensor([ids], device=next(quantised.parameters()).device),
                use_cache=False,
            )

    kind = model.config.model_type
    if kind != "nemotron_h":
        raise merge_checkpoint.Refused(f"NVFP4's layer rule is Nemotron-H's; the model is {kind}")
    mtq.quantize(model, rule(model.config.layers_block_type), calibrate)


# -----------------------------------------------------------------------------
# corrections of ModelOpt's output


def names_and_types(folder: Path) -> Iterator[tuple[str, str, int]]:
    """(tensor name, type, dimensions) of every tensor in folder."""
    for shard in sorted(folder.glob("*.safetensors")):
        for name, entry in merge_checkpoint.read_header(shard)[1].items():
            yield name, entry["dtype"], len(entry["shape"])


def not_packed(folder: Path) -> list[str]:
    """The full name of every module with a matrix that is not packed.

    ModelOpt's own list is corrupt with transformers 5 (a NUL and "name_sentinel" in every name),
    and its wildcards are too wide when repaired: "backbone.layers.4*" would include layers 40 to
    49, which vLLM would then read as BF16.
    """
    return sorted(
        name.removesuffix(".weight")
        for name, kind, dimensions in names_and_types(folder)
        if name.endswith(".weight") and dimensions > 1 and kind in merge_checkpoint.FLOATING
    )


def restore(folder: Path, merged: Path) -> None:
    """Restores tensors that were not packed: ModelOpt changes them to the type in which the
    model was loaded."""
    home = {
        name: shard
        for shard in merged.glob("*.safetensors")
        for name in merge_checkpoint.read_header(shard)[1]
    }
    for shard in folder.glob("*.safetensors"):
        tensors = load_file(shard)
        for name in tensors.keys() & home.keys():
            if tensors[name].dtype != torch.uint8:
                with safe_open(home[name], "pt") as file:
                    tensors[name] = file.get_tensor(name)
        save_file(tensors, shard, metadata={"format": "pt"})


def complete(folder: Path, merged: Path) -> list[str]:
    """Corrects the lists of unpacked modules in both files and copies everything else from the
    base model. Returns the list."""
    excluded = not_packed(folder)
    facts = json.loads((folder / "hf_quant_config.json").read_text(encoding="utf-8"))
    facts["quantization"]["exclude_modules"] = excluded
    (folder / "hf_quant_config.json").write_text(json.dumps(facts, indent=1))
    scheme = json.loads((folder / "config.json").read_text(encoding="utf-8"))[
        "quantization_config"
    ] | {"ignore": excluded}
    for path in merged.iterdir():
        if not path.name.endswith((".safetensors", ".safetensors.index.json")):
            (folder / path.name).unlink(missing_ok=True)
            shutil.copyfile(path, folder / path.name)
    base = json.loads((merged / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(
        json.dumps(base | {"quantization_config": scheme}, indent=1)
    )
    return excluded


# -----------------------------------------------------------------------------
# the export


def available_bytes() -> int:
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))


def require_memory(wanted: float) -> None:
    free = available_bytes()
    if free < wanted:
        raise merge_checkpoint.Refused(
            f"too little memory: {free / 1e9:.1f} GB available, {wanted / 1e9:.1f} GB wanted"
        )


def export(base: Path, adapter: Path, target: Path, rows_file: Path | None) -> dict[str, Any]:
    """Writes target and returns what was done. Raises merge.Refused before anything is written."""
    started = time.monotonic()
    size = merge_checkpoint.size_bytes(base)
    require_memory(size * MEMORY_FACTOR)
    merge_checkpoint.require_disk(target.parent, size * 2)
    merged, unfinished = (
        target.with_name(f"{target.name}.{word}") for word in ("merged", "unfinished")
    )
    for folder in (merged, unfinished):
        shutil.rmtree(folder, ignore_errors=True)
    weights = merge_checkpoint.merge(base, adapter, merged)["merged_weights"]
    result = pack(merged, unfinished, rows_file)
    shutil.rmtree(merged)
    unfinished.rename(target)
    return {
        "model": str(base),
        "merged_weights": weights,
        **result,
        "modelopt": modelopt.__version__,
        "seconds": round(time.monotonic() - started, 1),
    }


def pack(source: Path, target: Path, rows_file: Path | None) -> dict[str, Any]:
    """Writes the checkpoint in source as NVFP4 and returns what was done."""
    place = {"": 0} if torch.cuda.is_available() else None
    model = AutoModelForCausalLM.from_pretrained(
        source, dtype=torch.bfloat16, device_map=place, trust_remote_code=False
    )
    rows = list(calibration(source, rows_file, model.config.vocab_size))
    quantise(model.eval(), rows)
    with torch.inference_mode():
        export_hf_checkpoint(model, export_dir=target)
    restore(target, source)
    excluded = complete(target, source)
    merge_checkpoint.sync(target)
    return {
        "packed_weights": sum(kind == "U8" for _, kind, _ in names_and_types(target)),
        "kept_modules": excluded,
        "calibration": (
            f"{len(rows)} rows of {rows_file}"
            if rows_file
            else f"{len(rows)} rows of random tokens"
        ),
    }


def main() -> int:
    parser = argparse.ArgumentParser()
    for name in ("model", "adapter", "target"):
        parser.add_argument(name)
    parser.add_argument("--rows", type=Path)
    given = parser.parse_args()
    return merge_checkpoint.report(
        lambda: export(
            merge_checkpoint.folder_of(given.model),
            Path(given.adapter),
            Path(given.target),
            given.rows,
        )
    )


if __name__ == "__main__":
    sys.exit(main())
