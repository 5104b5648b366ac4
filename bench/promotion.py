"""Promotion and rollback without a restart, timed. What served before serves afterwards, wherever
it is broken off."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from glue.clients.adapter_store import AdapterName, AdapterStore
from glue.clients.site import Site
from glue.serving import adapters

Row = dict[str, Any]


def measure(site: Site) -> list[Row]:
    """Promotes what served before, or else the base model, and rolls it back; nothing restarts, so
    its floor is nothing."""
    store = site.store
    current = store.current()
    target = next(
        (name for name in reversed(store.served()) if name != current and harmless(store, name)),
        None,
    )
    if target == current or store.serves_merged():
        site.tell(
            "nothing to promote without a restart: no adapter has served yet, or a checkpoint"
            " serves"
        )
        return []
    try:
        return [
            timed("promote, hot", lambda: adapters.promote(site, target, target and "adapter")),
            timed("roll back, hot", lambda: adapters.rollback(site)),
        ]
    except BaseException:
        put_back(site, current)
        raise


def harmless(store: AdapterStore, name: AdapterName) -> bool:
    """The team works with it for a moment: it did so before, and nobody rolled it back; and it
    serves without a restart."""
    if name is None or name not in store.names():
        return False
    return store.manifest(name).get("recipe", {}).get("serve") != "merged" and not store.is_merged(
        name
    )


def put_back(site: Site, current: AdapterName) -> None:
    """Whatever moment a promotion was broken off at: the link first, then a vLLM that agrees with
    it."""
    if site.store.current() != current:
        adapters.rollback(site)
    adapters.promote(site, current, current and "adapter")


def timed(phase: str, act: Callable[[], object]) -> Row:
    began = time.monotonic()
    act()
    return {
        "phase": phase,
        "seconds": round(time.monotonic() - began, 3),
        "floor_seconds": 0.0,
        "floor": "nothing restarts",
    }
