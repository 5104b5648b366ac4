"""Which adapter serves: promote, roll back, add, prune.

As a rule an adapter is loaded beside the base model and nothing restarts. A merged one is a
checkpoint of its own: vLLM restarts with it, without LoRA.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

from glue.clients import jobs
from glue.clients.adapter_store import AdapterName, shown
from glue.clients.jobs import Job
from glue.clients.site import Site
from glue.core import desired_state, files, lock
from glue.core.desired_state import Wanted
from glue.core.errors import GlueError, Locked, PreconditionFailed
from glue.machine import models
from glue.serving import export, model
from glue.serving.model import SWITCH_WAIT_SECONDS


def listing(site: Site) -> list[dict[str, Any]]:
    """Every adapter's manifest, oldest first, with whether it serves and its checkpoint's form."""
    store, current = site.store, site.store.current()

    def row(name: str) -> dict[str, Any]:
        form = (store.checkpoint(name) or {}).get("form")
        return {**store.manifest(name), "serves": name == current, "checkpoint": form}

    return list(map(row, store.names()))


def promote(
    site: Site, release: AdapterName, form: str | None = None, night: str = ""
) -> AdapterName:
    """Makes an adapter serve, or the base model for None.

    form: "adapter" or "merged"; default: as in its recipe. night: the night that promotes; raises
    Preempted if the desired state is no longer its. If vLLM refuses the adapter, the earlier one
    serves and the error is raised.
    """
    with lock.hold(site.state, lock.SWITCH, f"promote {shown(release)}", SWITCH_WAIT_SECONDS):
        if night:
            desired_state.require(site.state, night)
        elif reason := why_model_is_stopped(site):
            do = "make day, then promote"
            raise Locked("the model is stopped, so no adapter can be loaded", reason, do)
        if why := release and models.made_for_another(site, release):
            do = "train another, or set the MODEL it was made for; then make setup and make day"
            raise PreconditionFailed(f"adapter {release} cannot serve", why, do)
        before = site.store.current()
        on_base = model.running_model(site) == site.settings["SERVED_MODEL"]
        merged = release is not None and prepare(site, release, form)
        if on_base and not merged:  # before anything is written, since vLLM may refuse it
            model.load(site, release)
        try:
            switch_to(site, release, merged)
        except (GlueError, OSError):
            if on_base and not merged:
                model.load(site, before)
            raise
        model.answer_with(site, release)
        site.store.forget_old_checkpoints()
    return release


def prepare(site: Site, release: str, form: str | None) -> bool:
    """Whether the adapter is to serve merged, with its checkpoint made. Raises PreconditionFailed
    if form asks for a checkpoint that cannot be made; if only the recipe does, returns False."""
    site.store.verify(release)
    recipe = site.store.manifest(release).get("recipe", {})
    only = site.store.only_merged(release)
    if only and form == "adapter":
        saw = "it was trained through the quantiser and answers otherwise beside the base model"
        raise PreconditionFailed(f"{release} serves merged only", saw, "make promote without FORM")
    if not only and (form or recipe.get("serve")) != "merged":
        return False
    try:
        export.ensure(site, release, "merged")
    except PreconditionFailed as error:
        if form is not None or only:
            raise
        site.tell(f"it serves beside the base model, since it cannot be merged: {error.saw}")
        return False
    site.store.verify(release, checkpoint=True)
    return True


def switch_to(site: Site, release: AdapterName, merged: bool) -> None:
    """Switches the files, then vLLM. If vLLM does not start, switches both back and raises."""
    store = site.store
    before, history = store.current(), store.served()
    was_merged = store.is_merged(before)
    store.set_judging(False)
    if release is not None:
        store.serve_as(release, merged)
    store.advance(release)
    try:
        model.ensure_form(site)
    except (GlueError, OSError):
        site.tell(f"vLLM does not start with {shown(release)}: back to {shown(before)}")
        store.retreat(history)
        if before is not None:
            with suppress(OSError):  # a full disk: it serves as an adapter then
                store.serve_as(before, was_merged)
        model.restart_model(site)
        raise


def rollback(site: Site) -> AdapterName:
    """Makes the earlier adapter serve. A second rollback goes further back. Skips adapters that are
    damaged or of another model.

    The link is set first: if vLLM fails, its next start follows the link.
    """
    with lock.hold(site.state, lock.SWITCH, "roll back", SWITCH_WAIT_SECONDS):
        history = without_unfit(site, site.store.before())
        previous = history[-1]
        site.store.retreat(history)
        if reason := why_model_is_stopped(site):
            site.tell(f"{shown(previous)} serves from the model's next start on: {reason}")
            return previous
        model.ensure_form(site)
        if not site.store.serves_merged():
            model.load(site, previous)
        model.answer_with(site, previous)
    return previous


def why_model_is_stopped(site: Site) -> str:
    """Why vLLM must not start now; empty if it may."""
    found = desired_state.read(site.state)
    if found is None or found.wanted not in (Wanted.NIGHT, Wanted.DOWN):
        return ""
    return "everything is stopped" if found.wanted is Wanted.DOWN else f"night {found.night} runs"


def without_unfit(site: Site, history: list[AdapterName]) -> list[AdapterName]:
    """history without adapters at its end that are damaged or of another model."""
    while history and (last := history[-1]) is not None:
        why = unfit(site, last)
        if not why:
            return history
        site.tell(f"skipping {last}: {why}")
        history = history[:-1]
    return history or [None]


def unfit(site: Site, release: str) -> str:
    """Why it cannot serve; empty if it can."""
    try:
        site.store.verify(release, checkpoint=site.store.is_merged(release))
    except (PreconditionFailed, OSError) as error:
        return str(getattr(error, "saw", error))
    if site.store.lacks_checkpoint(release):
        return "its merged checkpoint is gone; make promote makes it again"
    return models.made_for_another(site, release)


def prune(site: Site, keep: int, dry: bool = False) -> list[str]:
    """Removes old adapters, or only lists them. Raises Locked during a night."""
    with (
        lock.hold(site.state, lock.TRAINING, "prune"),
        lock.hold(site.state, lock.SWITCH, "prune", SWITCH_WAIT_SECONDS),
    ):
        return site.store.removable(keep) if dry else site.store.prune(keep)


def problems(site: Site, folder: Path) -> list[str]:
    """Why the adapter in folder cannot serve, or would change nothing; by a job."""
    if not folder.is_dir():
        return [f"{folder} is not a folder"]
    order = {
        "folder": "/adapter",
        "name": str(folder),
        "base": files.read_json(site.state / "base_model.json", {}) or None,
        "largest_rank": site.settings.number("MAX_LORA_RANK"),
    }
    job = Job("training.check_adapter", order, mounts=((folder.resolve(), "/adapter"),))
    found: list[str] = jobs.run(site, job)["problems"]
    return found


def make_checkpoint(site: Site, release: str, form: str) -> dict[str, Any]:
    """Makes the checkpoint of an adapter in one of export.FORMS."""
    export.ensure_base(site, release, form)
    with lock.hold(site.state, lock.SWITCH, f"export {release}", SWITCH_WAIT_SECONDS):
        return export.ensure(site, release, form)


def add(site: Site, folder: Path) -> str:
    """Stores a copy of the adapter in folder. It does not serve yet."""
    if wrong := problems(site, folder):
        do = "train again, or add a different adapter"
        raise PreconditionFailed("this adapter cannot serve", files.names(wrong), do)
    with lock.hold(site.state, lock.SWITCH, f"add {folder.name}", SWITCH_WAIT_SECONDS):
        manifest = {"source": f"added from {folder.name}", **models.served(site)}
        return site.store.publish(folder, manifest)


# lists of fingerprints, of which only numbers are shown
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
    """Both values of each key that differs."""
    left, right = flat(one), flat(other)
    found = {
        key: [left.get(key), right.get(key)]
        for key in left | right
        if key not in COUNTED and left.get(key) != right.get(key)
    }
    for key in COUNTED:
        mine, theirs = set(one.get(key, [])), set(other.get(key, []))
        if mine != theirs:
            found[key] = [f"{len(mine - theirs)} of its own", f"{len(theirs - mine)} of its own"]
    return found
