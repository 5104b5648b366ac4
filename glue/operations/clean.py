"""Removes a rehearsal completely, also one whose clone no longer exists."""

from __future__ import annotations

import shutil

from glue.clients.site import Site
from glue.core.errors import Misconfigured


def clean(site: Site) -> dict[str, list[str]]:
    """Removes the rehearsal's containers, volumes and state, and other versions' images.

    Raises Misconfigured on a Spark, which holds what a team wrote.
    """
    if not site.settings.rehearsal:
        saw, do = f"profile {site.settings.profile}", "docs/operations.md, Backup and restore"
        raise Misconfigured("only a rehearsal can be removed", saw, do)
    removed = site.stacks.take_away() + site.stacks.remove_old_images()
    shutil.rmtree(site.state, ignore_errors=True)
    return {"removed": [*removed, str(site.state)]}
