"""Checks files that people write, by pydantic. An error is one line: key, file, value, what is
expected. A field declares type, bounds and words once: Annotated[int, whole(1, 512)]."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from pydantic import Field, TypeAdapter, ValidationError

from glue.core.errors import Invalid, Misconfigured

UNKNOWN = ("extra_forbidden", "unexpected_keyword_argument")
SHOWN_CHARACTERS = 80


def whole(low: int, high: int | None = None) -> Any:
    words = f"a whole number from {low}" + (f" to {high}" if high is not None else "")
    return Field(ge=low, le=high, strict=True, description=words)


def number(low: float, high: float) -> Any:
    words = f"a number from {low} to {high}"
    return Field(ge=low, le=high, strict=True, allow_inf_nan=False, description=words)


def read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise Misconfigured("a file is not TOML", f"{path}: {error}", "correct that line") from None


def one_of(*choices: str) -> Any:
    return Field(pattern=f"^({'|'.join(choices)})$", description=" or ".join(choices))


def check(
    kind: type,
    values: Mapping[str, Any],
    where: str,
    hidden: Collection[str] = (),
    renamed: Mapping[str, str] | None = None,
    partial: bool = False,
) -> None:
    """Raises Invalid for the first key or value that is not as kind declares. where: the file.
    hidden: keys whose value is not shown. renamed: old -> new key. partial: keys may be missing."""
    adapter: TypeAdapter[Any] = TypeAdapter(kind)
    try:
        adapter.validate_python(values)
        return
    except ValidationError as error:
        faults = [(fault["type"], *map(str, fault["loc"])) for fault in error.errors()]
    words = {k: v.get("description", "") for k, v in adapter.json_schema()["properties"].items()}
    for key in (fault[1] for fault in faults if fault[0] in UNKNOWN and len(fault) == 2):
        raise Invalid(f"Unknown key in {where}", key, replacement(key, words, renamed or {}))
    for _, key, *_ in faults:
        if key in values:
            shown = "(hidden)" if key in hidden else repr(values[key])[:SHOWN_CHARACTERS]
            raise Invalid(f"Invalid value for {key} in {where}", shown, f"Expected {words[key]}.")
        if not partial:
            raise Invalid(f"Missing key in {where}", key, f"Expected {words[key]}.")


def replacement(key: str, known: Collection[str], renamed: Mapping[str, str]) -> str:
    if key in renamed:
        return f"It is now {renamed[key]}."
    near = difflib.get_close_matches(key, known, n=1)
    return f"Did you mean {near[0]}?" if near else f"Known keys: {', '.join(sorted(known))}."
