"""Whether an adapter's numbers can do anything: none is NaN or infinite, and no part of it is all zeros. No torch needed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy

from glue.adapter_format import read_header

# safetensors' name -> how its bits are read, and the bits that are all set in NaN and infinity
TYPES = {"F32": ("<u4", 0x7F800000), "BF16": ("<u2", 0x7F80), "F16": ("<u2", 0x7C00)}
SIGN = {4: 0x7FFFFFFF, 2: 0x7FFF}
EXPERT_NUMBER = re.compile(r"\.experts\.\d+\.")


def problems(folder: Path) -> list[str]:
    """In words; empty if nothing is wrong. For a folder whose names and shapes adapter_format has found to be right."""
    path = folder / "adapter_model.safetensors"
    header, start = read_header(path)
    data = numpy.memmap(path, dtype=numpy.uint8, mode="r")
    found: list[str] = []
    alive: dict[str, bool] = {}
    for name, entry in sorted(header.items()):
        if entry["dtype"] not in TYPES:
            return [f"{name} is of type {entry['dtype']}, known are {', '.join(TYPES)}"]
        finite, anything = look(data, start, entry)
        found += [] if finite else [f"{name} holds NaN or infinity"]
        # an expert that no example was sent to has learned nothing, which is right; all of a layer's have not
        pair = EXPERT_NUMBER.sub(".experts.*.", name)
        alive[pair] = alive.get(pair, False) or anything
    dead = [name for name, anything in alive.items() if not anything]
    return found + [f"{name} is all zeros{f', and so are {len(dead) - 1} more' if len(dead) > 1 else ''}" for name in dead[:1]]


def look(data: Any, start: int, entry: dict[str, Any]) -> tuple[bool, bool]:
    """(every number is finite, one is not zero)."""
    kind, exponent = TYPES[entry["dtype"]]
    begin, end = (start + offset for offset in entry["data_offsets"])
    bits = numpy.frombuffer(data[begin:end].tobytes(), dtype=kind)
    finite = not bool(((bits & exponent) == exponent).any())
    return finite, bool((bits & SIGN[bits.itemsize]).any())
