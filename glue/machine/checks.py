"""Each thing that a day, a night or a setup needs, judged from what was seen of this machine.
Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from re import findall

from glue.clients.containers import SYSTEM_SOCKET
from glue.clients.docker import MOUNTED, Engine
from glue.clients.host import Machine, open_line, readable
from glue.clients.knowledge import INGEST
from glue.core import gpu as gpus
from glue.core.lock import LOCAL_DISK
from glue.core.recipes import Recipe
from glue.core.settings import SECRETS, Settings

ENGINE_LEAST = (25,)  # health checks with start_interval
COMPOSE_LEAST = (
    2,
    24,
    4,
)  # `!override` in the rehearsal's files; start_interval came before, with 2.20
DRIVER_LEAST, DRIVER_DEADLOCKS = 580, 590  # CUDA 13 needs 580 (CUDA toolkit release notes, table 2)
BUNDLED_EMBEDDING = (  # what the stock Open WebUI image carries
    "sentence-transformers/all-MiniLM-L6-v2"
)
# Bytes on disk: the models' computed from their shapes, the images' guessed; no hub and no registry
# was asked.
MODEL_BYTES = {"SERVED_MODEL": 19_300_000_000, "TRAINED_MODEL": 63_200_000_000}
IMAGE_BYTES = {
    "VLLM_IMAGE": 30e9,
    "OPEN_WEBUI_IMAGE": 5e9,
    "DOOR_IMAGE": 0.2e9,
    "NIGHT_DESK_IMAGE": 0.2e9,
    "TRAINER_IMAGE": 30e9,
}
REHEARSAL_IMAGE_BYTES = 2e9
RELEASES_KEPT = 3
RELEASE_BYTES_A_RANK = 0.9e9 / 16
PINNED_MHZ, BUSY_PERCENT = (
    900,
    50,
)  # the fault pins the clock at 500 to 850 MHz; an idle GPU is as slow


class Grade(StrEnum):
    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True)
class Host:
    """All that the checks look at. recipe: None where no night is asked about. model_bytes: held on
    disk, by model.

    answer_fault: why vLLM writes no token; empty if it does, None if it is down or starting.
    wrong_files: by model of the hub; a model that was never fetched has one line that says so, and
    so has each of unseen,
    which nobody could look at. chat_lost: what became of a chat that was served here, and
    chat_way_back: what to do.
    """

    settings: Settings
    recipe: Recipe | None
    machine: Machine
    engine: Engine
    engine_free_bytes: int
    state_free_bytes: int
    one_disk: bool
    port_free: bool
    secrets_mode: int | None
    replay_there: bool
    releases: int
    wrong_files: Mapping[str, tuple[str, ...]]
    model_bytes: Mapping[str, int]
    certificate_fault: str = ""
    unseen: frozenset[str] = frozenset()
    answer_fault: str | None = None
    closed_files: tuple[Path, ...] = ()
    foreign_files: tuple[Path, ...] = ()
    disk_fault: str = ""
    damaged_files: tuple[Path, ...] = ()
    foreign_remedy: str = ""
    chat_lost: str = ""
    chat_way_back: str = ""
    backup_fault: str = ""
    documents_fault: str = ""
    backups_on_own_disk: bool = False


View = tuple[Grade, str, str]  # what was seen, and what to do


def numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, findall(r"\d+", version)))


def ok(saw: str) -> View:
    return Grade.OK, saw, ""


def warn(saw: str, do: str) -> View:
    return Grade.WARN, saw, do


def fail(saw: str, do: str) -> View:
    return Grade.FAIL, saw, do


# ---------------------------------------------------------------------- the machine


def system(seen: Host) -> View:
    machine = seen.machine
    words = f"{machine.system}, {machine.architecture}"
    gpu = machine.gpu
    if seen.settings.rehearsal:
        return ok(words)
    if gpu is None:
        return fail(f"{words}; {no_gpu(machine)}", gpus.remedy(machine.gpu_fault))
    words += f", {gpu.name}, compute capability {gpu.capability}"
    if (machine.architecture, gpu.capability) != ("aarch64", "12.1"):
        return warn(words, "nothing: but sizes and flags are chosen for a GB10, aarch64 and 12.1")
    return ok(words)


def no_gpu(machine: Machine) -> str:
    return f"no GPU answers; nvidia-smi: {machine.gpu_fault}"


def driver(seen: Host) -> View:
    if seen.machine.gpu is None:
        return fail(no_gpu(seen.machine), gpus.remedy(seen.machine.gpu_fault))
    version = seen.machine.gpu.driver
    major = numbers(f"{version} 0")[0]
    if major < DRIVER_LEAST:
        return fail(
            version, f"install driver {DRIVER_LEAST} or newer: the images are built for CUDA 13"
        )
    if major == DRIVER_DEADLOCKS:
        return warn(
            f"{version}, reported to deadlock in CUDA graphs on a GB10",
            f"use {DRIVER_LEAST}, or a newer one than this",
        )
    return ok(
        f"{version}, new enough for CUDA 13; make setup runs a kernel of the night's CUDA on it"
    )


def clocks(seen: Host) -> View:
    """A fault of the power supply's negotiation pins a GB10 at a fraction of its clock until it is
    unplugged."""
    gpu = seen.machine.gpu
    if gpu is None or gpu.clock_mhz is None:
        return warn("nvidia-smi tells no clock", "see nvidia-smi")
    words = (
        f"{gpu.clock_mhz:.0f} of {gpu.largest_clock_mhz or 0:.0f} MHz, {gpu.power_watts or 0:.0f} W"
    )
    busy = gpu.busy_percent is not None and gpu.busy_percent >= BUSY_PERCENT
    if busy and gpu.clock_mhz < PINNED_MHZ:
        return fail(
            f"{words} at work: pinned",
            "shut down, unplug the power supply for a minute, start again",
        )
    if gpu.slowed_by:
        return warn(
            f"{words}, slowed by {' and '.join(gpu.slowed_by)}", "see its air and its power supply"
        )
    return ok(words if busy else f"{words}, idle: its clock can only be judged at work")


def memory(seen: Host) -> View:
    day, night = (seen.settings.number(key) for key in ("DAY_FREE_BYTES", "NIGHT_FREE_BYTES"))
    free, services = seen.machine.available_bytes, seen.engine.services
    words, do = f"{readable(free)} available", "see what holds it: docker stats, top"
    if seen.engine.trainer and seen.engine.trainer.state == "running":
        return ok(f"{words}, a night is training")
    if "vllm" not in services or services["vllm"].state != "running":
        return ok(words) if free >= day else fail(f"{words}, a day wants {readable(day)}", do)
    words += f", and about {readable(day)} more when the model stops"
    return (
        ok(words) if free + day >= night else warn(f"{words}; a night wants {readable(night)}", do)
    )


def page_cache(seen: Host) -> View:
    words = f"{readable(seen.machine.cached_bytes)} of files"
    if seen.machine.may_drop_cache:
        return ok(f"{words}, dropped before every start")
    return warn(
        f"{words}, and this user may not drop it", "before a start: sudo sysctl vm.drop_caches=3"
    )


def disk(seen: Host) -> View:
    """What is still to come, on Docker's disk and on the state folder's."""
    for_engine, for_state = (
        missing_image_bytes(seen) + missing_model_bytes(seen),
        missing_state_bytes(seen),
    )
    wants = [
        (seen.engine.folder, seen.engine_free_bytes, for_engine),
        (seen.settings.state, seen.state_free_bytes, for_state),
    ]
    if seen.one_disk:
        wants = [(seen.settings.state, seen.state_free_bytes, for_engine + for_state)]
    words = "; ".join(
        f"{readable(free)} free, {readable(wanted)} still to come" for _, free, wanted in wants
    )
    tight = [str(folder) for folder, free, wanted in wants if free < wanted]
    return fail(words, f"make room on the disk of {' and '.join(tight)}") if tight else ok(words)


def missing_image_bytes(seen: Host) -> float:
    settings = seen.settings
    sizes = {
        settings.image(key): REHEARSAL_IMAGE_BYTES if settings.rehearsal else size
        for key, size in IMAGE_BYTES.items()
    }
    return sum(sizes[reference] for reference in seen.engine.missing_images)


def missing_model_bytes(seen: Host) -> float:
    sizes = {seen.settings[key]: size for key, size in MODEL_BYTES.items()}
    return sum(
        max(0, sizes[name] - seen.model_bytes.get(name, 0))
        for name, wrong in seen.wrong_files.items()
        if wrong
    )


def missing_state_bytes(seen: Host) -> float:
    """A night's own files, and the releases that are kept."""
    own = seen.settings.number("DISK_FREE_BYTES")
    if seen.recipe is None or not seen.wrong_files:
        return own
    merged = seen.recipe.serve == "merged"
    each = MODEL_BYTES["SERVED_MODEL"] if merged else RELEASE_BYTES_A_RANK * seen.recipe.rank
    return own + each * max(0, RELEASES_KEPT - seen.releases)


# ---------------------------------------------------------------------- Docker


SYSTEM_DOCKER = (
    "sudo bash scripts/install-docker.sh; docker context use default; unset DOCKER_HOST"
    " DOCKER_CONTEXT"
)
CANNOT_WORK = {
    "rootless": (
        "rootless: its containers can neither read the state folder nor be reached from here"
    ),
    "snap": "from snap: it sees no folder outside /home",
    "Docker Desktop": "Docker Desktop: its containers are in a machine of their own",
    "Podman Engine": "Podman: only Docker Engine was tried",
}


def engine_fault(engine: Engine) -> tuple[str, str]:
    """Why no day can run on this engine, and what to do; empty if one can."""
    if "userns" in engine.options:
        do = (
            'take "userns-remap" out of /etc/docker/daemon.json, sudo systemctl restart docker,'
            " make setup"
        )
        return "user namespaces are remapped: containers cannot read the state folder", do
    marks = (
        *engine.options,
        *engine.system.split(", "),
        "snap" if "/snap/" in f"{engine.folder}/" else "",
    )
    if words := next((CANNOT_WORK[mark] for mark in marks if mark in CANNOT_WORK), ""):
        return words, SYSTEM_DOCKER
    if engine.address.startswith(("tcp:", "ssh:", "http")):
        return f"on another machine: DOCKER_HOST is {engine.address}", SYSTEM_DOCKER
    return "", ""


def docker(seen: Host) -> View:
    words = f"engine {seen.engine.version}, compose {seen.engine.compose or 'none'}"
    fault, do = engine_fault(seen.engine)
    if fault:
        return fail(f"{words}; {fault}", do)
    if numbers(seen.engine.version) < ENGINE_LEAST or numbers(seen.engine.compose) < COMPOSE_LEAST:
        return fail(words, "update Docker to engine 25 and compose 2.24.4 or newer")
    if seen.engine.driver == "vfs":
        return warn(
            f"{words}; vfs copies every layer",
            "use overlay2: see storage-driver in /etc/docker/daemon.json",
        )
    if seen.engine.address not in (SYSTEM_SOCKET, "unix:///run/docker.sock"):
        return warn(
            f"{words}; DOCKER_HOST is {seen.engine.address}, which timers do not know",
            "unset DOCKER_HOST",
        )
    if seen.engine.context:
        return warn(
            f"{words}{seen.engine.context}", "docker context use default; unset DOCKER_CONTEXT"
        )
    return ok(words)


def toolkit(seen: Host) -> View:
    if not seen.engine.gpus:
        return fail(
            "Docker gives no GPU to a container",
            "install nvidia-container-toolkit, sudo nvidia-ctk runtime configure --runtime=docker,"
            " sudo systemctl restart docker",
        )
    return ok("containers can have the GPU")


def images(seen: Host, night: bool = False) -> View:
    trainer = seen.settings.image("TRAINER_IMAGE")
    missing = [
        reference for reference in seen.engine.missing_images if (reference == trainer) == night
    ]
    return (
        fail(f"not on this machine: {', '.join(missing)}", "make setup")
        if missing
        else ok("on this machine")
    )


def volumes(seen: Host, night: bool = False) -> View:
    """The day makes its cache again; the others hold what only setup, or a restore, brings back."""
    if seen.chat_lost and not night:
        return fail(seen.chat_lost, seen.chat_way_back)
    missing = [
        name for name in seen.engine.missing_volumes if name.endswith("trainer-cache") == night
    ]
    words = f"not there: {', '.join(missing)}"
    if all(name.endswith("serving-cache") for name in missing):
        return (
            warn(f"{words}; the next start is a slow one", "make day") if missing else ok("there")
        )
    return fail(words, "make setup")


def documents(seen: Host) -> View:
    """Never a failure: a chat without documents is better than none."""
    return (
        warn(seen.documents_fault, INGEST)
        if seen.documents_fault
        else ok("the collection is there")
    )


def backups(seen: Host) -> View:
    """Never a failure: a chat without a backup is better than none."""
    if seen.backup_fault:
        return warn(
            seen.backup_fault, "mount the disk of BACKUP_DIR, or set another one in env/site.env"
        )
    if seen.backups_on_own_disk:
        return warn(
            "BACKUP_DIR is on the chat's own disk, and is lost with it",
            "set BACKUP_DIR to another disk in env/site.env",
        )
    return ok(seen.settings["BACKUP_DIR"])


def model(seen: Host, key: str) -> View:
    wrong = seen.wrong_files.get(seen.settings[key], ())
    words = f"{seen.settings[key]}: not whole: {', '.join(wrong[:5])}{' ...' if wrong[5:] else ''}"
    if key == "SERVED_MODEL" and seen.settings[key] in seen.unseen:
        return warn(
            words, "see that: df -h, make setup"
        )  # a day may start all the same; a night, which stops one, asks for both
    return (
        fail(words, "make setup")
        if wrong
        else ok(f"{seen.settings[key]}: whole, and starts without a network")
    )


def answer(seen: Host) -> View:
    if seen.answer_fault is None:
        return ok("not asked: vLLM does not run, or is starting")
    if seen.answer_fault:
        do = "make day restarts it; why: make logs SERVICE=vllm"
        return fail(f"vLLM runs, and no token comes: {seen.answer_fault}", do)
    return ok("vLLM writes tokens")


def embedding(seen: Host) -> View:
    name = seen.settings["EMBEDDING_MODEL"]
    if name != BUNDLED_EMBEDDING and not name.startswith("/"):
        return fail(
            f"{name} is not in Open WebUI's image",
            f"EMBEDDING_MODEL={BUNDLED_EMBEDDING}, or a folder in that image",
        )
    return ok(name)


# ---------------------------------------------------------------------- the site


def repository(seen: Host) -> View:
    """Day and setup open what they may."""
    if seen.closed_files:
        saw = f"containers cannot read {names(seen.closed_files)}: a umask of 027 or 077"
        return warn(saw, f"make setup, or: {open_line(MOUNTED)}")
    return ok("containers can read their files")


def state_folder(seen: Host) -> View:
    state = seen.settings.state
    if seen.disk_fault:
        return fail(
            seen.disk_fault,
            LOCAL_DISK if "lock" in seen.disk_fault else "see why: sudo dmesg | tail",
        )
    if seen.foreign_files:
        return warn(
            f"of another user than {state}: {names(seen.foreign_files)}", seen.foreign_remedy
        )
    return ok(str(state))


def state_files(seen: Host) -> View:
    """An empty file, or half of one, is what a power cut leaves on some disks."""
    if seen.damaged_files:
        do = (
            "put them back from the newest backup (docs/administrator.md), or remove them; what"
            " they hold is then lost"
        )
        return warn(f"damaged: {names(seen.damaged_files)}", do)
    return ok("all can be read")


def names(paths: Iterable[Path]) -> str:
    shown = [str(path) for path in paths]
    return ", ".join(shown[:3]) + (f" and {len(shown) - 3} more" if len(shown) > 3 else "")


def secrets(seen: Host) -> View:
    missing = [key for key in SECRETS if key not in seen.settings.values]
    if missing and not any(name.endswith("webui-data") for name in seen.engine.missing_volumes):
        do = (
            "see that the disk of STATE_DIR is mounted; after that, or on a new machine: make setup"
        )
        return fail(f"not there: {', '.join(missing)}", do)
    if missing:
        return fail(f"not there: {', '.join(missing)}", "make setup")
    if seen.secrets_mode is not None and seen.secrets_mode & 0o077:
        return warn(
            f"others can read them: mode {seen.secrets_mode:o}",
            f"chmod 600 {seen.settings.secrets_file}",
        )
    return ok(
        "there, and their owner's alone"
        if seen.secrets_mode is not None
        else "given by the environment"
    )


def port(seen: Host) -> View:
    address = f"{seen.settings['CHAT_ADDRESS']}:{seen.settings['CHAT_PORT']}"
    chat = seen.engine.services.get("open-webui")
    if chat and chat.state in ("running", "restarting"):
        return ok(f"{address}, the chat's own")
    return (
        ok(f"{address}, free")
        if seen.port_free
        else fail(f"{address} is taken", "set CHAT_PORT in env/site.env")
    )


def certificate(seen: Host) -> View:
    """Never a failure: a chat with an old certificate is better than none."""
    if seen.certificate_fault:
        return warn(seen.certificate_fault, "a newer one into HTTPS_CERTIFICATE, then make https")
    return ok(
        f"good for {', '.join(seen.settings.https_origins)}"
        if seen.settings.https_origins
        else "no HTTPS was asked for"
    )


def time_zone(seen: Host) -> View:
    zone, at = seen.machine.time_zone, seen.settings["DAY_AT"]
    if zone.rpartition("/")[2] in ("UTC", "UCT", "Zulu", "Universal", ""):
        return warn(
            f"{zone or 'none'}: the day starts at {at} UTC",
            "if that is not meant: sudo timedatectl set-timezone Europe/Berlin",
        )
    return ok(f"{zone}: the day starts at {at} by its clock, in summer and in winter")


def replay(seen: Host) -> View:
    """General examples that keep a model from forgetting."""
    if seen.recipe is None or not seen.recipe.replay_file:
        return ok("the recipe asks for no general examples")
    path = seen.settings.state / seen.recipe.replay_file
    if seen.replay_there:
        return ok(str(path))
    do = (
        'make setup writes a few there; or put your own, a JSON line each; or set replay_file = ""'
        " in a recipe of your own"
    )
    return warn(f"{path} is not there, and no night begins without it", do)
