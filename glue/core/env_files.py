"""Files of KEY=VALUE lines, read as python-dotenv reads them. No wrong line is skipped."""

from __future__ import annotations

from pathlib import Path

from dotenv.parser import Binding, parse_stream

from glue.core import schema
from glue.core.errors import Invalid, Misconfigured


def read_env_file(path: Path) -> dict[str, str]:
    """Raises Misconfigured for a line that is not KEY=VALUE, or PermissionError."""
    try:
        with path.open(encoding="utf-8") as stream:
            bindings = list(parse_stream(stream))
    except PermissionError:
        raise
    except (OSError, UnicodeDecodeError) as error:
        do = f"restore it from a backup, or from git: git checkout {path}"
        raise Misconfigured("a settings file cannot be read", f"{path}: {error}", do) from error
    for binding in bindings:
        if binding.error or (binding.key is not None and binding.value is None):
            raise not_a_setting(path, binding)
    return {binding.key: binding.value or "" for binding in bindings if binding.key}


def not_a_setting(path: Path, binding: Binding) -> Invalid:
    where = f"{path}, line {binding.original.line}"
    if path.name == "secrets.env":
        return Invalid(f"Invalid line in {where}", "(hidden)", "Restore the file from a backup.")
    line = repr(binding.original.string.strip()[: schema.SHOWN_CHARACTERS])
    do = 'Expected KEY=VALUE, or KEY="VALUE" where the value has spaces.'
    return Invalid(f"Invalid line in {where}", line, do)
