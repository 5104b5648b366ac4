"""Merges an adapter into a checkpoint, one tensor at a time: no model is built, and all other bytes
stay the same.

    python -m training.merge MODEL ADAPTER TARGET

MODEL    a folder of safetensors in the hub's layout (backbone.layers.N..., a weight an expert), or
         a name in HF_HOME
ADAPTER  a folder with the adapter as vLLM serves it: adapter_config.json,
         adapter_model.safetensors, a pair an expert
TARGET   the new folder; it must not exist, and appears only when it is complete and on disk

The weights that come out are bit for bit those of PEFT's merge_and_unload. Weights that are not
floating point numbers of
16 or 32 bits, such as packed NVFP4, are refused: adding to them would mean quantising them again.
Headers, order and all
other tensors are copied as bytes, other files as files. The last line of output is JSON; exit 3 is
a refusal in it.
"""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import struct
import sys
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

FLOATING = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}
FACTOR = re.compile(r"^base_model\.model\.(?P<target>.+)\.lora_(?P<side>[AB])\.weight$")
# options of an adapter beyond W + scale * B A; each must be off
UNHANDLED = (
    "use_dora",
    "use_qalora",
    "rank_pattern",
    "alpha_pattern",
    "modules_to_save",
    "lora_bias",
    "fan_in_fan_out",
    "layer_replication",
    "trainable_token_indices",
    "alora_invocation_tokens",
)
REFUSED = 3  # exit code
SPARE_DISK_BYTES = 1_000_000_000


class Refused(Exception):
    """This adapter cannot be merged into this checkpoint, or not on this machine. The message
    says why."""


@dataclass(frozen=True)
class Adapter:
    """LoRA factors by target, without the model's own prefix: layers.3.mixer.q_proj."""

    file: Any
    names: dict[str, tuple[str, str]]
    scale: float

    @classmethod
    def open(cls, folder: Path) -> Adapter:
        configuration = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
        file = safe_open(folder / "adapter_model.safetensors", "pt")
        return cls(file, factors(list(file.keys())), scale(configuration))

    def merged(self, target: str, weight: torch.Tensor) -> torch.Tensor:
        """weight + scale * B A, with PEFT's own rounding: float32 for a layer, the weight's type
        for an expert."""
        a, b = (self.file.get_tensor(name).float() for name in self.names[target])
        if b.shape[0] != weight.shape[0] or a.shape[1] != weight.shape[1]:
            raise Refused(
                f"{target}: the weight is {list(weight.shape)}, B A is [{b.shape[0]}, {a.shape[1]}]"
            )
        change = (b @ a) * self.scale
        if ".experts." in target:
            change = change.to(weight.dtype)
        weight += change
        return weight


def scale(configuration: dict[str, Any]) -> float:
    """The factor of B A. Raises Refused for anything except plain LoRA."""
    asked = [key for key in UNHANDLED if configuration.get(key)]
    asked += [
        f"{key} {configuration[key]!r}"
        for key, plain in (("peft_type", "LORA"), ("bias", "none"))
        if configuration.get(key, plain) != plain
    ]
    if asked:
        raise Refused(f"the adapter is not plain LoRA; it uses: {', '.join(asked)}")
    rank: int = configuration["r"]
    return float(configuration["lora_alpha"]) / (
        math.sqrt(rank) if configuration.get("use_rslora") else rank
    )


def factors(names: list[str]) -> dict[str, tuple[str, str]]:
    """target -> (name of A, name of B). Raises Refused for a tensor that is neither or has no
    partner."""
    sides = {
        side: {
            m["target"]: name for name in names if (m := FACTOR.match(name)) and m["side"] == side
        }
        for side in "AB"
    }
    paired = sides["A"].keys() & sides["B"].keys()
    alone = set(names) - {sides[side][target] for side in "AB" for target in paired}
    if alone:
        raise Refused(f"not a LoRA pair: {few(alone)}")
    return {bare(target): (sides["A"][target], sides["B"][target]) for target in paired}


def bare(name: str) -> str:
    """The same name for PEFT's model.layers.3... and the checkpoint's backbone.layers.3...."""
    return re.sub(r"^(model|backbone)\.", "", name).removesuffix(".weight")


def few(names: Collection[str]) -> str:
    return ", ".join(sorted(names)[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


# ---------------------------------------------------------------------- the checkpoint


def folder_of(model: str) -> Path:
    """The folder itself, or the snapshot of a hub name in HF_HOME. Raises Refused if it is
    missing."""
    if (Path(model) / "config.json").exists():
        return Path(model)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return Path(snapshot_download(model, local_files_only=True))
    except (LocalEntryNotFoundError, ValueError) as error:
        raise Refused(f"the model {model} is not on this machine: {error}") from error


def read_header(path: Path) -> tuple[bytes, dict[str, Any]]:
    """The first bytes unchanged, and the tensors in the order of their bytes."""
    with path.open("rb") as file:
        size = file.read(8)
        raw = file.read(struct.unpack("<Q", size)[0])
    entries: dict[str, Any] = {
        name: entry for name, entry in json.loads(raw).items() if name != "__metadata__"
    }
    return size + raw, dict(sorted(entries.items(), key=lambda item: item[1]["data_offsets"]))


def plan(base: Path, targets: set[str]) -> dict[Path, set[str]]:
    """shard -> its names that change. Raises Refused, with the names, for targets without a
    weight that can be changed."""
    shards = {shard: read_header(shard)[1] for shard in sorted(base.glob("*.safetensors"))}
    found = {
        shard: {name for name in entries if name.endswith(".weight") and bare(name) in targets}
        for shard, entries in shards.items()
    }
    missing = targets - {bare(name) for names in found.values() for name in names}
    if missing:
        raise Refused(f"the adapter changes weights that are not in {base}: {few(missing)}")
    packed = [
        f"{name} ({shards[shard][name]['dtype']})"
        for shard, names in found.items()
        for name in names
        if shards[shard][name]["dtype"] not in FLOATING
    ]
    if packed:
        raise Refused(
            "quantised weights cannot be merged without requantising: use the recipe free, or"
            f" serve = adapter: {few(packed)}"
        )
    return found


def write_shard(source: Path, target: Path, names: set[str], adapter: Adapter) -> None:
    """Writes the same file with names merged. Holds one tensor in memory at a time."""
    raw, entries = read_header(source)
    with source.open("rb") as old, target.open("wb") as new:
        new.write(raw)
        old.seek(len(raw))
        for name, entry in entries.items():
            start, end = entry["data_offsets"]
            data = bytearray(end - start)
            old.readinto(data)
            if name in names:
                weight = torch.frombuffer(data, dtype=FLOATING[entry["dtype"]]).reshape(
                    entry["shape"]
                )
                adapter.merged(bare(name), weight)  # in place: data is the tensor's memory
            new.write(data)


def copy(source: Path, target: Path) -> None:
    """The file under a second name if the file system can link, else a copy."""
    try:
        os.link(source.resolve(), target)
    except OSError:
        shutil.copyfile(source, target)


def sync(folder: Path) -> None:
    """Syncs everything in folder, and makes it readable for the container that serves it, which
    does not own it."""
    for path in [*folder.iterdir(), folder]:
        if path.is_file() and path.stat().st_nlink == 1:
            path.chmod(0o644)
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)


def require_disk(folder: Path, wanted: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < wanted + SPARE_DISK_BYTES:
        raise Refused(
            f"too little disk: {free / 1e9:.1f} GB free, {(wanted + SPARE_DISK_BYTES) / 1e9:.1f} GB"
            " wanted"
        )


def size_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir() if path.is_file())


# ---------------------------------------------------------------------- the merge


def merge(base: Path, adapter_folder: Path, target: Path) -> dict[str, Any]:
    """Writes target and returns what was done. Raises Refused before anything is written."""
    started = time.monotonic()
    adapter = Adapter.open(adapter_folder)
    changes = plan(base, set(adapter.names))
    require_disk(target.parent, size_bytes(base))
    unfinished = target.with_name(target.name + ".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    for path in sorted(path for path in base.iterdir() if path.is_file()):
        if changes.get(path):
            write_shard(path, unfinished / path.name, changes[path], adapter)
        else:
            copy(path, unfinished / path.name)
    sync(unfinished)
    unfinished.rename(target)
    return {
        "model": str(base),
        "merged_weights": len(adapter.names),
        "shards_written": sum(map(bool, changes.values())),
        "seconds": round(time.monotonic() - started, 1),
    }


def report(act: Callable[[], dict[str, Any]]) -> int:
    """Runs act, prints its result or refusal as the last line, and returns the exit code."""
    try:
        print(json.dumps(act()), flush=True)
    except Refused as why:
        print(json.dumps({"refused": str(why)}), flush=True)
        return REFUSED
    return 0


if __name__ == "__main__":
    model, adapter, target = sys.argv[1:]
    sys.exit(report(lambda: merge(folder_of(model), Path(adapter), Path(target))))
