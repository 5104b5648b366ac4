"""Merges an adapter into a checkpoint, one tensor at a time: no model is built, and all other bytes
stay the same.

    python -m training.merge MODEL ADAPTER TARGET

MODEL    a folder of safetensors in the hub's layout (backbone.layers.N..., a weight an expert), or
         a name in HF_HOME
ADAPTER  a folder with the adapter as vLLM serves it: adapter_config.json,
         adapter_model.safetensors, a pair an expert
TARGET   the new folder; it must not exist, and appears only when it is complete and on disk

The weights that come out are bit for bit those of PEFT's merge_and_unload. Packed NVFP4 weights are
changed by an adapter that was trained through the quantiser (packed_merge), to bit for bit those of
its training; any other adapter of packed weights is refused, since it would lose what it learned.
Headers, order and all
other tensors are copied as bytes, other files as files. The last line of output is JSON; exit 3 is
a refusal in it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from training.adapter_factors import Adapter, Refused, bare, few
from training.shards import Shards

FLOATING = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}
REFUSED = 3  # exit code
PACKED = "U8"
KINDS = FLOATING | {PACKED: torch.uint8, "F8_E4M3": torch.float8_e4m3fn}
SPARE_DISK_BYTES = 1_000_000_000


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


def plan(base: Path, adapter: Adapter) -> dict[Path, set[str]]:
    """shard -> its names that change. Raises Refused, with the names, for targets without a
    weight that can be changed."""
    targets = set(adapter.names)
    shards = {shard: read_header(shard)[1] for shard in sorted(base.glob("*.safetensors"))}
    found = {
        shard: {name for name in entries if name.endswith(".weight") and bare(name) in targets}
        for shard, entries in shards.items()
    }
    missing = targets - {bare(name) for names in found.values() for name in names}
    if missing:
        raise Refused(f"the adapter changes weights that are not in {base}: {few(missing)}")
    kinds = {name: shards[shard][name]["dtype"] for shard, names in found.items() for name in names}
    require_kinds(base, kinds, adapter.through_quantiser)
    scales = {f"{name}_scale" for name, kind in kinds.items() if kind == PACKED}
    return {shard: found[shard] | (scales & entries.keys()) for shard, entries in shards.items()}


def require_kinds(base: Path, kinds: dict[str, str], through_quantiser: bool) -> None:
    """kinds: the type of each weight that changes. Raises Refused unless the adapter was trained
    for them."""
    packed = [f"{name} ({kind})" for name, kind in kinds.items() if kind not in FLOATING]
    if packed and not through_quantiser:
        raise Refused(
            "an adapter that was not trained through the quantiser loses what it learned when"
            f" packed again: use the recipe team-merged or free, or serve = adapter: {few(packed)}"
        )
    if through_quantiser and PACKED not in kinds.values():
        raise Refused(
            f"the adapter was trained through NVFP4's rounding, and {base} has none of its weights"
            " packed: use FORM=merged"
        )


def write_shard(source: Path, target: Path, names: set[str], adapter: Adapter) -> None:
    """Writes the same file with names merged. Holds one tensor in memory at a time."""
    raw, entries = read_header(source)
    shards = Shards(source.parent, "cuda" if torch.cuda.is_available() else "cpu")
    with source.open("rb") as old, target.open("wb") as new:
        new.write(raw)
        old.seek(len(raw))
        for name, entry in entries.items():
            start, end = entry["data_offsets"]
            data = bytearray(end - start)
            old.readinto(data)
            if name in names:
                change(
                    torch.frombuffer(data, dtype=KINDS[entry["dtype"]]),
                    name,
                    entry,
                    shards,
                    adapter,
                )
            new.write(data)


def change(
    numbers: torch.Tensor, name: str, entry: dict[str, Any], shards: Shards, adapter: Adapter
) -> None:
    """Merges one tensor in place: a weight, or a packed one's four-bit numbers or scales."""
    numbers, place = numbers.reshape(entry["shape"]), re.sub(r"\.weight(_scale)?$", "", name)
    if entry["dtype"] in FLOATING:
        adapter.merged(bare(name), numbers)
        return
    merged = adapter.packed(bare(place), shards.packed(place, stack=False))
    numbers.copy_(merged.values if entry["dtype"] == PACKED else merged.scales)


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
    changes = plan(base, adapter)
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
