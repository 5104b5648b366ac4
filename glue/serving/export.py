"""An adapter inside a whole model: one checkpoint a release, made in the trainer image while the
day serves."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from glue.clients.site import Site
from glue.core import files
from glue.core.errors import GlueError, PreconditionFailed

# form -> what makes it, and the setting that names the model it is merged into. "merged" is exact,
# so it is refused where
# the adapter touches weights that are packed there; "nvfp4" packs again and was judged by nobody.
FORMS = {
    "merged": ("training.merge_checkpoint", "SERVED_MODEL"),
    "bf16": ("training.merge_checkpoint", "TRAINED_MODEL"),
    "nvfp4": ("training.quantise_checkpoint", "TRAINED_MODEL"),
}
DEADLINE_SECONDS = 4 * 3600


def ensure(site: Site, release: str, form: str) -> dict[str, Any]:
    """adapters/<release>/checkpoint/ in this form, complete or not at all. Returns what
    checkpoint.json says.

    Raises PreconditionFailed if it cannot be had (no such release, a weight that is packed, too
    little disk or memory),
    with nothing changed.
    """
    module, setting = FORMS[form]
    site.releases.verify(release)
    asked = {"form": form, "base_model": site.settings[setting]}
    there = site.releases.checkpoint(release)
    if there and asked.items() <= there.items():
        return there
    require_free(site, release)
    for left in (site.state / "nights").glob(".export-*"):  # of an export that was killed
        shutil.rmtree(left, ignore_errors=True)
    work = site.state / "nights" / f".export-{release}"
    files.make_folder(work)
    try:
        result = make(
            site,
            [
                module,
                asked["base_model"],
                f"/adapters/{release}",
                f"/nights/{work.name}/checkpoint",
            ],
            release,
        )
        made = {**asked, "made": f"{datetime.now(UTC):%FT%TZ}", **result}
        return site.releases.publish_checkpoint(release, work / "checkpoint", made)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def require_free(site: Site, release: str) -> None:
    """Nothing that the checkpoint would take the place or the memory of."""
    absent = site.stacks.missing_images(site.settings.images)
    if absent:
        raise PreconditionFailed("an image is not on this machine", ", ".join(absent), "make setup")
    trainer = site.stacks.trainer()
    if trainer is not None and trainer.state in ("created", "running"):
        raise PreconditionFailed(
            "the trainer is busy",
            "a night trains, or another checkpoint is made",
            "wait, or: make day",
        )
    if (
        site.releases.current() == release
        and site.releases.is_merged(release)
        and site.releases.checkpoint(release)
    ):
        raise PreconditionFailed(
            "this release serves by its checkpoint", release, "promote another first"
        )


def make(site: Site, command: list[str], release: str) -> dict[str, Any]:
    """Runs it in the trainer image. The last line that it prints is its result, or says why it
    refused."""
    rows = rows_of_the_night(site, release)
    if rows and command[0] == "training.quantise_checkpoint":
        command = [*command, "--rows", rows]
    lines: list[str] = []
    site.tell(f"merging {release} into {command[1]}")
    code = site.stacks.run_trainer(*command, tell=lines.append, timeout_seconds=DEADLINE_SECONDS)
    last = parsed(lines[-1] if lines else "")
    if "refused" in last:
        raise PreconditionFailed(
            "the adapter cannot be exported in this form",
            last["refused"],
            "another --form, or room for it",
        )
    if code != 0 or not last:
        raise GlueError(
            "the checkpoint was not made", "\n".join(lines[-10:]), "make logs SERVICE=trainer"
        )
    return last


def parsed(line: str) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def rows_of_the_night(site: Site, release: str) -> str:
    """What the release was trained on, as the trainer sees it; empty where it came from elsewhere
    or has been cleared away."""
    file = Path(
        "nights", str(site.releases.manifest(release).get("night")), "dataset", "train.jsonl"
    )
    return f"/{file}" if (site.state / file).exists() else ""
