"""Promotion and rollback without a restart, timed. What served before serves afterwards, wherever it is broken off."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from glue import adapters
from glue.releases import Release, Releases
from glue.site import Site

Row = dict[str, Any]


def measure(site: Site) -> list[Row]:
    """Promotes the newest good adapter, or else the base model, and rolls it back; nothing restarts, so its floor is nothing."""
    releases = site.releases
    current = releases.current()
    target = next((name for name in reversed(releases.names()) if name != current and harmless(releases, name)), None)
    if target == current or releases.serves_merged():
        site.tell("nothing to promote without a restart: glue night, or glue adapters --add, makes an adapter")
        return []
    try:
        return [
            timed("promote, hot", lambda: adapters.promote(site, target, target and "adapter")),
            timed("roll back, hot", lambda: adapters.rollback(site)),
        ]
    except BaseException:
        put_back(site, current)
        raise


def harmless(releases: Releases, name: str) -> bool:
    """The team works with it for a moment: no gate refused it, no night left it unjudged, and it serves without a restart."""
    found = releases.manifest(name)
    judged_good = found.get("verdict", {"promote": "night" not in found})["promote"]
    return judged_good and found.get("recipe", {}).get("serve") != "merged" and not releases.is_merged(name)


def put_back(site: Site, current: Release) -> None:
    """Whatever moment a promotion was broken off at: the link first, then a vLLM that agrees with it."""
    if site.releases.current() != current:
        adapters.rollback(site)
    adapters.promote(site, current, current and "adapter")


def timed(phase: str, act: Callable[[], object]) -> Row:
    began = time.monotonic()
    act()
    return {"phase": phase, "seconds": round(time.monotonic() - began, 3), "floor_seconds": 0.0, "floor": "nothing restarts"}
