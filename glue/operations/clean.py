"""A rehearsal taken away without a trace, also one whose clone is gone: the next begins from
nothing."""

from __future__ import annotations

import shutil

from glue.clients.site import Site
from glue.core.errors import Misconfigured


def clean(site: Site) -> dict[str, list[str]]:
    """Removes the rehearsal's containers, volumes and state, and the images of other versions.

    Raises Misconfigured on a Spark, which holds what a team wrote.
    """
    if not site.settings.rehearsal:
        raise Misconfigured(
            "only a rehearsal is cleaned away",
            f"profile {site.settings.profile}",
            "docs/administrator.md, Backup and restore",
        )
    removed = site.stacks.take_away() + site.stacks.remove_old_images()
    shutil.rmtree(site.state, ignore_errors=True)
    return {"removed": [*removed, str(site.state)]}
