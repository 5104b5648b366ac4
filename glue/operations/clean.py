"""Removes a rehearsal, also that of a deleted clone."""

from __future__ import annotations

import shutil
from contextlib import suppress

from glue.clients.compose import BENCH, DAY, NIGHT
from glue.clients.containers import remove
from glue.clients.docker import Stacks
from glue.clients.site import Site
from glue.core import image_tags
from glue.core.errors import Misconfigured

BENCH_VOLUMES = ("bench-ours-", "bench-stock-")  # the name of the model follows


def clean(site: Site) -> dict[str, list[str]]:
    """Removes containers, volumes, state, older images. Raises Misconfigured on a Spark."""
    if not site.settings.rehearsal:
        saw, do = f"profile {site.settings.profile}", "docs/administrator.md, Backup and restore"
        raise Misconfigured("make clean removes a rehearsal only", saw, do)
    removed = remove_volumes(site.stacks) + remove_old_images(site.stacks)
    shutil.rmtree(site.state, ignore_errors=True)
    return {"removed": [*removed, str(site.state)]}


def remove_volumes(stacks: Stacks) -> list[str]:
    """Returns the names of the removed volumes. Removes their containers first."""
    for container in (one for stack in (DAY, NIGHT, BENCH) for one in stacks.found(stack)):
        remove(container)
    benches = tuple(f"{stacks.settings['PROJECT']}-{prefix}" for prefix in BENCH_VOLUMES)
    names, volumes = stacks.volumes(), stacks.docker.volumes.list()
    ours = [one for one in volumes if one.name in names or one.name.startswith(benches)]
    for volume in ours:
        volume.remove()
    return [volume.name for volume in ours]


def remove_old_images(stacks: Stacks) -> list[str]:
    """Removes what other versions built, unless a container uses it. Returns the names."""
    current = {stacks.settings[key] for key in image_tags.BUILDS}
    families = {reference.rpartition(":")[0] for reference in current}
    images = stacks.docker.images.list(filters={"reference": "dual-use/*"})
    removed = []
    for tag in sorted({tag for image in images for tag in image.tags} - current):
        if tag.rpartition(":")[0] in families:
            with suppress(OSError):  # Docker refuses to remove an image that a container uses
                stacks.docker.images.remove(tag)
                removed.append(tag)
    return removed
