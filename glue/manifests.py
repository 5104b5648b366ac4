"""Manifests for people: one as lines, two as what differs. Pure."""

from __future__ import annotations

from typing import Any

# lists of fingerprints: how many there are, and how many the other has not, says more than they do
COUNTED = ("examples", "origins")


def flat(manifest: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested tables as dotted keys."""
    found: dict[str, Any] = {}
    for key, value in manifest.items():
        if not prefix and key in COUNTED:
            found[key] = f"{len(value)} fingerprints"
        elif isinstance(value, dict):
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found


def difference(one: dict[str, Any], other: dict[str, Any]) -> dict[str, list[Any]]:
    """Key -> [what one says, what the other says], for every key on which they differ."""
    left, right = flat(one), flat(other)
    found = {
        key: [left.get(key), right.get(key)]
        for key in (*left, *(key for key in right if key not in left))
        if key not in COUNTED and left.get(key) != right.get(key)
    }
    for key in COUNTED:
        mine, theirs = set(one.get(key, [])), set(other.get(key, []))
        if mine != theirs:
            found[key] = [f"{len(mine - theirs)} of its own", f"{len(theirs - mine)} of its own"]
    return found
