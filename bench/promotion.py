"""Times promotion and rollback without a restart. What served before serves afterwards, also if
it is interrupted."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from glue.clients.adapter_store import AdapterName, AdapterStore
from glue.clients.site import Site
from glue.serving import adapters

Row = dict[str, Any]


def measure(site: Site) -> list[Row]:
    """Promotes what served before, or else the base model, and rolls back. Nothing restarts, so
    the floor is zero."""
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
    """Whether the adapter may serve for a moment: it has served before, was not rolled back, and
    needs no restart."""
    if name is None or name not in store.names():
        return False
    return store.manifest(name).get("recipe", {}).get("serve") != "merged" and not store.is_merged(
        name
    )


def put_back(site: Site, current: AdapterName) -> None:
    """After an interruption at any point: sets the link first, then makes vLLM agree with it."""
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
