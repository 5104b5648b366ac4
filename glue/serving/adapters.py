"""Which adapter serves: promote, roll back, take in one from elsewhere. Nobody picks anything.

In its usual form an adapter is loaded beside the base model and nothing restarts. A merged one is a
checkpoint of its own,
so vLLM restarts, without LoRA: slower to change, and it costs nothing while it serves.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

from glue.clients import jobs
from glue.clients.adapter_store import Release, shown
from glue.clients.jobs import Job
from glue.clients.site import Site
from glue.core import desired_state, files, lock
from glue.core.desired_state import Wanted
from glue.core.errors import GlueError, Locked, PreconditionFailed
from glue.serving import export, model
from glue.serving.model import MOVE_WAIT_SECONDS


def listing(site: Site) -> list[dict[str, Any]]:
    """Every release, oldest first, with what its manifest says and whether it serves."""
    releases = site.releases
    current = releases.current()
    return [
        {
            **releases.manifest(name),
            "serves": name == current,
            "checkpoint": (releases.checkpoint(name) or {}).get("form"),
        }
        for name in releases.names()
    ]


def promote(site: Site, release: Release, form: str | None = None, night: str = "") -> Release:
    """release answers from now on, and after any restart. None is the base model. vLLM first, since
    it may refuse.

    form: "adapter" or "merged"; None is what the recipe of its night says. night: the one that
    promotes; raises Preempted if it
    lost its turn. If vLLM must restart for it and does not come
    up, it is started again with what served before, and the error goes on.
    """
    with lock.hold(site.state, lock.MOVE, f"promote {shown(release)}", MOVE_WAIT_SECONDS):
        if night:
            desired_state.require(site.state, night)
        elif model_rests(site):
            raise Locked(
                "the model rests, so nothing can be tried on it",
                turn_words(site),
                "make day, then promote",
            )
        before, beside = (
            site.releases.current(),
            model.running_model(site) == site.settings["SERVED_MODEL"],
        )
        merged = release is not None and prepare(site, release, form)
        if beside and not merged:
            model.load(site, release)
        try:
            move_to(site, release, merged)
        except (GlueError, OSError):
            if beside and not merged:
                model.load(site, before)
            raise
        model.answer_with(site, release)
        site.releases.forget_old_checkpoints()
    return release


def prepare(site: Site, release: str, form: str | None) -> bool:
    """Checks the files, makes the checkpoint if it is to serve merged, and returns whether it is.

    Raises PreconditionFailed for a form that was asked for by name and cannot be had; a night's
    adapter is not lost by it.
    """
    site.releases.verify(release)
    recipe = site.releases.manifest(release).get("recipe", {})
    if (form or recipe.get("serve")) != "merged":
        return False
    try:
        export.ensure(site, release, "merged")
    except PreconditionFailed as error:
        if form is not None:
            raise
        site.tell(f"it serves beside the base model, for it cannot be merged: {error.saw}")
        return False
    site.releases.verify(release, checkpoint=True)
    return True


def move_to(site: Site, release: Release, merged: bool) -> None:
    """The files first, then a vLLM that agrees with them. Raises GlueError, with both as they were,
    if it cannot."""
    releases = site.releases
    before, history = releases.current(), releases.served()
    was_merged = releases.is_merged(before)
    releases.judge(False)
    if release is not None:
        releases.serve_as(release, merged)
    releases.advance(release)
    try:
        model.ensure_form(site)
    except (GlueError, OSError):
        site.tell(f"vLLM does not take {shown(release)}: back to {shown(before)}")
        releases.retreat(history)
        if before is not None:
            with suppress(OSError):  # a full disk: it serves as an adapter then
                releases.serve_as(before, was_merged)
        model.restart_model(site)
        raise


def rollback(site: Site) -> Release:
    """What served before answers again; a second rollback goes one further back, never forward to
    what was rolled back.

    One that is not whole any more is passed over. The link first, vLLM then: whatever fails, with
    vLLM dead of what is
    rolled back, the next start follows the link.
    """
    with lock.hold(site.state, lock.MOVE, "roll back", MOVE_WAIT_SECONDS):
        history = whole(site, site.releases.before())
        previous = history[-1]
        site.releases.retreat(history)
        if model_rests(site):
            site.tell(
                f"{shown(previous)} serves from the model's next start on: {turn_words(site)}"
            )
            return previous
        model.ensure_form(site)
        if not site.releases.serves_merged():
            model.load(site, previous)
        model.answer_with(site, previous)
    return previous


def model_rests(site: Site) -> bool:
    """Under the lock for moves: vLLM must stay down, because a night trains in its memory or a
    person stopped everything."""
    found = desired_state.read(site.state)
    return found is not None and found.wanted in (Wanted.NIGHT, Wanted.DOWN)


def turn_words(site: Site) -> str:
    found = desired_state.read(site.state)
    return (
        "everything is stopped"
        if found is None or found.wanted is Wanted.DOWN
        else f"the turn of night {found.night}"
    )


def whole(site: Site, history: list[Release]) -> list[Release]:
    """history without releases at its end whose files are not what was published. The base model is
    always whole."""
    releases = site.releases
    while history and history[-1] is not None:
        try:
            releases.verify(history[-1], checkpoint=releases.is_merged(history[-1]))
            return history
        except (PreconditionFailed, OSError) as error:
            site.tell(
                f"passing over {history[-1]}:"
                f" {error.saw if isinstance(error, PreconditionFailed) else error}"
            )
        history = history[:-1]
    return history or [None]


def prune(site: Site, keep: int, dry: bool = False) -> list[str]:
    """Removes releases that nobody can want back, or only names them. Waits for nobody: Locked
    while a night runs."""
    with (
        lock.hold(site.state, lock.NIGHT, "prune"),
        lock.hold(site.state, lock.MOVE, "prune", MOVE_WAIT_SECONDS),
    ):
        return site.releases.removable(keep) if dry else site.releases.prune(keep)


def problems(site: Site, folder: Path) -> list[str]:
    """Why the adapter in folder could not serve, or would do nothing, by a job that reads it."""
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


def require_good(site: Site, folder: Path) -> None:
    """Raises PreconditionFailed with what is wrong with the adapter in folder."""
    wrong = problems(site, folder)
    if wrong:
        more = f" (and {len(wrong) - 3} more)" if len(wrong) > 3 else ""
        raise PreconditionFailed(
            "this adapter cannot be served",
            "; ".join(wrong[:3]) + more,
            "train it again, or take another",
        )


def make_checkpoint(site: Site, release: str, form: str) -> dict[str, Any]:
    """adapters/<release>/checkpoint/ in one of export.FORMS. Whoever wants to change what serves
    waits for it."""
    with lock.hold(site.state, lock.MOVE, f"export {release}", MOVE_WAIT_SECONDS):
        return export.ensure(site, release, form)


def add(site: Site, folder: Path) -> str:
    """Takes a copy of the adapter in folder as a new release, which does not serve yet."""
    require_good(site, folder)
    with lock.hold(site.state, lock.MOVE, f"add {folder.name}", MOVE_WAIT_SECONDS):
        return site.releases.publish(folder, {"source": f"added from {folder.name}"})


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
