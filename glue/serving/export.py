"""Merges an adapter into a whole checkpoint, in the trainer image, while the day serves."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from glue.clients import host, one_shot
from glue.clients.site import Site
from glue.core import files, lock
from glue.core.errors import PreconditionFailed
from glue.machine import models

# form -> the module that makes it, and the setting that names the model it is merged into. "merged"
# is exact, so it is refused where the adapter touches packed weights; "nvfp4" packs them again, and
# the gate has not judged the result.
FORMS = {
    "merged": ("training.merge_checkpoint", "SERVED_MODEL"),
    "bf16": ("training.merge_checkpoint", "TRAINED_MODEL"),
    "nvfp4": ("training.quantise_checkpoint", "TRAINED_MODEL"),
}
PACKING_FACTOR = 1.4  # MEMORY_FACTOR of training.quantise_checkpoint, of the bytes of the model
DEADLINE_SECONDS = 4 * 3600


def ensure_base(site: Site, release: str, form: str) -> None:
    """Fetches the model that this form is merged into, unless it is there: setup fetches only what
    nights train. Takes hours, so the caller holds no lock, and what would refuse the export is
    checked first."""
    name = site.settings[FORMS[form][1]]
    site.store.verify(release)
    if made_before(site, release, form):
        return
    require_free(site, release)
    if form == "nvfp4":
        require_memory(site)
    asked = {one: at for one, at in site.settings.hub_models("bf16").items() if one == name}
    wrong, held, _ = models.models(site, asked)
    if wrong.get(name):
        missing = max(0, site.settings.model.download_bytes[FORMS[form][1]] - held.get(name, 0))
        require_disk(site, form, missing)
        site.tell(f"fetching {name}, about {host.readable(missing)}: FORM={form} is made of it")
        models.ensure_models(site, asked)


def require_memory(site: Site) -> None:
    """What packing needs, before hours of fetching; the packing itself checks again."""
    wanted = PACKING_FACTOR * site.settings.model.trained_download_bytes
    if (free := host.available_bytes()) < wanted:
        saw = f"{host.readable(free)} of memory available, {host.readable(wanted)} needed"
        do = "make stop, then the export, then make day; nothing was fetched"
        raise PreconditionFailed("too little memory for FORM=nvfp4", saw, do)


def require_disk(site: Site, form: str, missing_bytes: int) -> None:
    """Before hours of fetching; the fetch itself checks the disk that it writes to."""
    copies = 2 if form == "nvfp4" else 1  # the merged model, before it is packed
    wanted = copies * site.settings.model.download_bytes[FORMS[form][1]]
    if host.on_one_disk(site.stacks.engine().folder, site.state):
        wanted += missing_bytes
    if (free := host.free_disk_bytes(site.state)) < wanted:
        saw = f"{host.readable(free)} free, {host.readable(wanted)} needed"
        do = f"make room on the disk of {site.state}; nothing was fetched"
        raise PreconditionFailed(f"no room for a checkpoint with FORM={form}", saw, do)


def ensure(site: Site, release: str, form: str) -> dict[str, Any]:
    """Makes adapters/<release>/checkpoint/ in this form, all or nothing. Returns checkpoint.json.
    Raises PreconditionFailed, with nothing changed, if it cannot be made."""
    site.store.verify(release)
    if there := made_before(site, release, form):
        return there
    require_free(site, release)
    asked = wanted(site, form)
    for left in (site.state / "nights").glob(".export-*"):  # left by a killed export
        shutil.rmtree(left, ignore_errors=True)
    work = site.state / "nights" / f".export-{release}"
    files.make_folder(work)
    output = f"/nights/{work.name}/checkpoint"
    try:
        result = make(
            site, [FORMS[form][0], asked["base_model"], f"/adapters/{release}", output], release
        )
        made = {**asked, "made": f"{datetime.now(UTC):%FT%TZ}", **result}
        return site.store.publish_checkpoint(release, work / "checkpoint", made)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def wanted(site: Site, form: str) -> dict[str, str]:
    return {"form": form, "base_model": site.settings[FORMS[form][1]]}


def made_before(site: Site, release: str, form: str) -> dict[str, Any] | None:
    """checkpoint.json, if the adapter has a checkpoint in this form; else None."""
    there = site.store.checkpoint(release)
    return there if there and wanted(site, form).items() <= there.items() else None


def require_free(site: Site, release: str) -> None:
    """Raises PreconditionFailed if it was made for another model, an image is missing, the trainer
    runs, or it serves."""
    store = site.store
    if why := models.made_for_another(site, release):
        what = f"cannot export {release}"
        raise PreconditionFailed(what, why, "set the MODEL it was made for, then make setup")
    if absent := site.stacks.missing_images(site.settings.images):
        raise PreconditionFailed("an image is not on this machine", ", ".join(absent), "make setup")
    trainer = site.stacks.trainer()
    if trainer is not None and trainer.state in ("created", "running"):
        saw = "a night trains, or a checkpoint is being made"
        raise PreconditionFailed(f"cannot export {release}: the trainer is busy", saw, lock.WAIT)
    serves_it = store.current() == release and store.is_merged(release)
    if serves_it and store.checkpoint(release):
        what = f"cannot export {release}: vLLM is serving its checkpoint"
        do = "make promote ADAPTER=<another adapter, or base>, then make export again"
        raise PreconditionFailed(what, f"{store.folder}/current leads to it", do)


def make(site: Site, command: list[str], release: str) -> dict[str, Any]:
    """Runs the module in the trainer image. Packing weights takes the adapter's training file."""
    rows = Path("nights", str(site.store.manifest(release).get("night")), "dataset/train.jsonl")
    if (site.state / rows).exists() and command[0] == "training.quantise_checkpoint":
        command = [*command, "--rows", f"/{rows}"]
    site.tell(f"merging {release} into {command[1]}")
    what, do = f"{release} cannot be exported in this form", "use another FORM, or free disk space"
    return one_shot.run(site.stacks, *command, what=what, do=do, timeout_seconds=DEADLINE_SECONDS)
