"""Checks of what is on the disks: room, models, volumes, the state folder, backups."""

from __future__ import annotations

from glue.clients.docker import MOUNTED
from glue.clients.host import open_line, readable
from glue.core.files import names
from glue.core.lock import LOCAL_DISK
from glue.machine.check_types import Host, View, fail, ok, warn

# estimates
IMAGE_BYTES = {
    "VLLM_IMAGE": 30e9,
    "OPEN_WEBUI_IMAGE": 5e9,
    "DOOR_IMAGE": 0.2e9,
    "NIGHT_DESK_IMAGE": 0.2e9,
    "TRAINER_IMAGE": 30e9,
}
REHEARSAL_IMAGE_BYTES = 2e9
RELEASES_KEPT = 3


def disk(seen: Host) -> View:
    """Whether Docker's disk and the state folder's have room for what is still missing."""
    engine = missing_image_bytes(seen) + missing_model_bytes(seen)
    state, folder = missing_state_bytes(seen), seen.settings.state
    needs = [(folder, seen.state_free_bytes, state + engine if seen.one_disk else state)]
    if not seen.one_disk:
        needs.insert(0, (seen.engine.folder, seen.engine_free_bytes, engine))
    words = "; ".join(
        f"{readable(free)} free, {readable(needed)} still needed" for _, free, needed in needs
    )
    tight = [str(folder) for folder, free, needed in needs if free < needed]
    return fail(words, f"make room on the disk of {' and '.join(tight)}") if tight else ok(words)


def missing_image_bytes(seen: Host) -> float:
    settings = seen.settings
    sizes = {
        settings.image(key): REHEARSAL_IMAGE_BYTES if settings.rehearsal else size
        for key, size in IMAGE_BYTES.items()
    }
    return sum(sizes[reference] for reference in seen.engine.missing_images)


def missing_model_bytes(seen: Host) -> float:
    sizes = {seen.settings[key]: size for key, size in seen.settings.model.download_bytes.items()}
    missing = [name for name, wrong in seen.wrong_files.items() if wrong]
    return sum(max(0, sizes[name] - seen.model_bytes.get(name, 0)) for name in missing)


def missing_state_bytes(seen: Host) -> float:
    """A night's own files, and the adapters that are kept."""
    own = seen.settings.number("DISK_FREE_BYTES")
    if seen.recipe is None or not seen.wrong_files:
        return own
    merged, model = seen.recipe.serve == "merged", seen.settings.model
    adapter = model.adapter_bytes_per_rank * seen.recipe.largest_rank
    each = model.served_download_bytes if merged else adapter
    return own + each * max(0, RELEASES_KEPT - seen.adapters)


def volumes(seen: Host, night: bool = False) -> View:
    """The day creates its cache again; the others hold what only setup or a restore brings back."""
    if seen.chat_lost and not night:
        return fail(seen.chat_lost, seen.chat_way_back)
    missing = [
        name for name in seen.engine.missing_volumes if name.endswith("trainer-cache") == night
    ]
    if not missing:
        return ok("all exist")
    words = f"missing: {', '.join(missing)}"
    if all(name.endswith("serving-cache") for name in missing):
        return warn(f"{words}; the next start is slow", "make day")
    return fail(words, "make setup")


def model(seen: Host, key: str) -> View:
    name = seen.settings[key]
    wrong = seen.wrong_files.get(name, ())
    if not wrong:
        return ok(f"{name}: complete, starts without a network")
    words = f"{name}: missing or incomplete: {names(wrong, 5)}"
    if key == "SERVED_MODEL" and name in seen.unseen:
        # a day may start all the same; a night stops one, and must have what it trains
        return warn(words, "find the cause: df -h, make setup")
    return fail(words, "make setup")


def repository(seen: Host) -> View:
    """make setup and make day make these files readable if they may."""
    if seen.closed_files:
        saw = f"containers cannot read {names(seen.closed_files)}: a umask of 027 or 077"
        return warn(saw, f"make setup, or: {open_line(MOUNTED)}")
    return ok("containers can read their files")


def state_folder(seen: Host) -> View:
    state = seen.settings.state
    if seen.disk_fault:
        no_locks = "lock" in seen.disk_fault
        return fail(seen.disk_fault, LOCAL_DISK if no_locks else "see: sudo dmesg | tail")
    if seen.foreign_files:
        saw = f"files with a different owner than {state}: {names(seen.foreign_files)}"
        return warn(saw, seen.foreign_remedy)
    return ok(str(state))


def state_files(seen: Host) -> View:
    """An empty or cut file is what a power cut leaves on some disks."""
    if seen.damaged_files:
        do = "restore them from the newest backup (docs/administrator.md), or remove them"
        return warn(f"damaged: {names(seen.damaged_files)}", do)
    return ok("all can be read")


def backups(seen: Host) -> View:
    """Never a failure: a chat without a backup is better than no chat."""
    if seen.backup_fault:
        do = "mount its disk, or set a different BACKUP_DIR in env/site.env"
        return warn(seen.backup_fault, do)
    if seen.backups_on_own_disk:
        saw = "BACKUP_DIR is on the chat's own disk, and is lost with it"
        return warn(saw, "set BACKUP_DIR to another disk in env/site.env")
    return ok(seen.settings["BACKUP_DIR"])
