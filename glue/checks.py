"""Each thing that a day, a night or a setup needs, judged from what was seen of this machine. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from re import findall

from glue.host import Machine, readable
from glue.recipes import Recipe
from glue.settings import SECRETS, Settings
from glue.stacks import Engine

ENGINE_LEAST = (25,)  # health checks with start_interval
COMPOSE_LEAST = (2, 24, 4)  # `!override` in the rehearsal's files; start_interval came before, with 2.20
DRIVER_LEAST, DRIVER_DEADLOCKS = 580, 590  # CUDA 13 needs 580 (CUDA toolkit release notes, table 2)
BUNDLED_EMBEDDING = "sentence-transformers/all-MiniLM-L6-v2"  # what the stock Open WebUI image carries
# Bytes on disk: the models' computed from their shapes, the images' guessed; no hub and no registry was asked.
MODEL_BYTES = {"SERVED_MODEL": 19_300_000_000, "TRAINED_MODEL": 63_200_000_000}
IMAGE_BYTES = {"VLLM_IMAGE": 30e9, "OPEN_WEBUI_IMAGE": 5e9, "DOOR_IMAGE": 0.2e9, "NIGHT_DESK_IMAGE": 0.2e9, "TRAINER_IMAGE": 30e9}
REHEARSAL_IMAGE_BYTES = 2e9
RELEASES_KEPT = 3
RELEASE_BYTES_A_RANK = 0.9e9 / 16
PINNED_MHZ, BUSY_PERCENT = 900, 50  # the fault pins the clock at 500 to 850 MHz; an idle GPU is as slow


class Grade(StrEnum):
    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True)
class Host:
    """All that the checks look at. recipe: None where no night is asked about. model_bytes: held on disk, by model.

    wrong_files: by model of the hub; a model that was never fetched has one line that says so, and so has each of unseen,
    which nobody could look at.
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
        return fail(f"{words}, and no GPU answers nvidia-smi", "install the driver, or set PROFILE=rehearsal in env/site.env")
    words += f", {gpu.name}, compute capability {gpu.capability}"
    if (machine.architecture, gpu.capability) != ("aarch64", "12.1"):
        return warn(words, "nothing: but sizes and flags are chosen for a GB10, aarch64 and 12.1")
    return ok(words)


def driver(seen: Host) -> View:
    version = seen.machine.gpu.driver if seen.machine.gpu else "none"
    major = numbers(f"{version} 0")[0]
    if major < DRIVER_LEAST:
        return fail(version, f"install driver {DRIVER_LEAST} or newer: the images are built for CUDA 13")
    if major == DRIVER_DEADLOCKS:
        return warn(f"{version}, reported to deadlock in CUDA graphs on a GB10", f"use {DRIVER_LEAST}, or a newer one than this")
    return ok(f"{version}, new enough for CUDA 13; make setup runs a kernel of the night's CUDA on it")


def clocks(seen: Host) -> View:
    """A fault of the power supply's negotiation pins a GB10 at a fraction of its clock until it is unplugged."""
    gpu = seen.machine.gpu
    if gpu is None or gpu.clock_mhz is None:
        return warn("nvidia-smi tells no clock", "see nvidia-smi")
    words = f"{gpu.clock_mhz:.0f} of {gpu.largest_clock_mhz or 0:.0f} MHz, {gpu.power_watts or 0:.0f} W"
    busy = gpu.busy_percent is not None and gpu.busy_percent >= BUSY_PERCENT
    if busy and gpu.clock_mhz < PINNED_MHZ:
        return fail(f"{words} at work: pinned", "shut down, unplug the power supply for a minute, start again")
    if gpu.slowed_by:
        return warn(f"{words}, slowed by {' and '.join(gpu.slowed_by)}", "see its air and its power supply")
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
    return ok(words) if free + day >= night else warn(f"{words}; a night wants {readable(night)}", do)


def page_cache(seen: Host) -> View:
    words = f"{readable(seen.machine.cached_bytes)} of files"
    if seen.machine.may_drop_cache:
        return ok(f"{words}, dropped before every start")
    return warn(f"{words}, and this user may not drop it", "before a start: sudo sysctl vm.drop_caches=3, or run glue as root")


def disk(seen: Host) -> View:
    """What is still to come, on Docker's disk and on the state folder's."""
    for_engine, for_state = missing_image_bytes(seen) + missing_model_bytes(seen), missing_state_bytes(seen)
    wants = [(seen.engine.folder, seen.engine_free_bytes, for_engine), (seen.settings.state, seen.state_free_bytes, for_state)]
    if seen.one_disk:
        wants = [(seen.settings.state, seen.state_free_bytes, for_engine + for_state)]
    words = "; ".join(f"{readable(free)} free, {readable(wanted)} still to come" for _, free, wanted in wants)
    tight = [str(folder) for folder, free, wanted in wants if free < wanted]
    return fail(words, f"make room on the disk of {' and '.join(tight)}") if tight else ok(words)


def missing_image_bytes(seen: Host) -> float:
    settings = seen.settings
    sizes = {settings.image(key): REHEARSAL_IMAGE_BYTES if settings.rehearsal else size for key, size in IMAGE_BYTES.items()}
    return sum(sizes[reference] for reference in seen.engine.missing_images)


def missing_model_bytes(seen: Host) -> float:
    sizes = {seen.settings[key]: size for key, size in MODEL_BYTES.items()}
    return sum(max(0, sizes[name] - seen.model_bytes.get(name, 0)) for name, wrong in seen.wrong_files.items() if wrong)


def missing_state_bytes(seen: Host) -> float:
    """A night's own files, and the releases that are kept."""
    own = seen.settings.number("DISK_FREE_BYTES")
    if seen.recipe is None or not seen.wrong_files:
        return own
    merged = seen.recipe.serve == "merged"
    each = MODEL_BYTES["SERVED_MODEL"] if merged else RELEASE_BYTES_A_RANK * seen.recipe.rank
    return own + each * max(0, RELEASES_KEPT - seen.releases)


# ---------------------------------------------------------------------- Docker


def docker(seen: Host) -> View:
    words = f"engine {seen.engine.version}, compose {seen.engine.compose or 'none'}"
    if numbers(seen.engine.version) < ENGINE_LEAST or numbers(seen.engine.compose) < COMPOSE_LEAST:
        return fail(words, "update Docker to engine 25 and compose 2.24.4 or newer")
    return ok(words)


def toolkit(seen: Host) -> View:
    if not seen.engine.gpus:
        return fail(
            "Docker gives no GPU to a container",
            "install nvidia-container-toolkit, sudo nvidia-ctk runtime configure --runtime=docker, sudo systemctl restart docker",
        )
    return ok("containers can have the GPU")


def images(seen: Host, night: bool = False) -> View:
    trainer = seen.settings.image("TRAINER_IMAGE")
    missing = [reference for reference in seen.engine.missing_images if (reference == trainer) == night]
    return fail(f"not on this machine: {', '.join(missing)}", "make setup") if missing else ok("on this machine")


def volumes(seen: Host) -> View:
    missing = ", ".join(seen.engine.missing_volumes)
    return warn(f"not there: {missing}; what they held starts empty", "make setup") if missing else ok("there")


def model(seen: Host, key: str) -> View:
    wrong = seen.wrong_files.get(seen.settings[key], ())
    words = f"{seen.settings[key]}: not whole: {', '.join(wrong[:5])}{' ...' if wrong[5:] else ''}"
    if key == "SERVED_MODEL" and seen.settings[key] in seen.unseen:
        return warn(words, "make room on Docker's disk")  # a day may start all the same; a night, which stops one, asks for both
    return fail(words, "make setup") if wrong else ok(f"{seen.settings[key]}: whole, and starts without a network")


def embedding(seen: Host) -> View:
    name = seen.settings["EMBEDDING_MODEL"]
    if name != BUNDLED_EMBEDDING and not name.startswith("/"):
        return fail(f"{name} is not in Open WebUI's image", f"EMBEDDING_MODEL={BUNDLED_EMBEDDING}, or a folder in that image")
    return ok(name)


# ---------------------------------------------------------------------- the site


def secrets(seen: Host) -> View:
    missing = [key for key in SECRETS if key not in seen.settings.values]
    if missing:
        return fail(f"not there: {', '.join(missing)}", "make setup")
    if seen.secrets_mode is not None and seen.secrets_mode & 0o077:
        return warn(f"others can read them: mode {seen.secrets_mode:o}", f"chmod 600 {seen.settings.secrets_file}")
    return ok("there, and their owner's alone" if seen.secrets_mode is not None else "given by the environment")


def port(seen: Host) -> View:
    address = f"{seen.settings['CHAT_ADDRESS']}:{seen.settings['CHAT_PORT']}"
    chat = seen.engine.services.get("open-webui")
    if chat and chat.state in ("running", "restarting"):
        return ok(f"{address}, the chat's own")
    return ok(f"{address}, free") if seen.port_free else fail(f"{address} is taken", "set CHAT_PORT in env/site.env")


def certificate(seen: Host) -> View:
    """Never a failure: a chat with an old certificate is better than none."""
    if seen.certificate_fault:
        return warn(seen.certificate_fault, "a newer one into HTTPS_CERTIFICATE, then make https")
    return ok(f"good for {', '.join(seen.settings.https_origins)}" if seen.settings.https_origins else "no HTTPS was asked for")


def time_zone(seen: Host) -> View:
    zone, at = seen.machine.time_zone, seen.settings["DAY_AT"]
    if zone.rpartition("/")[2] in ("UTC", "UCT", "Zulu", "Universal", ""):
        return warn(
            f"{zone or 'none'}: the day starts at {at} UTC", "if that is not meant: sudo timedatectl set-timezone Europe/Berlin"
        )
    return ok(f"{zone}: the day starts at {at} by its clock, in summer and in winter")


def replay(seen: Host) -> View:
    """General examples that keep a model from forgetting."""
    if seen.recipe is None or not seen.recipe.replay_file:
        return ok("the recipe asks for no general examples")
    path = seen.settings.state / seen.recipe.replay_file
    if seen.replay_there:
        return ok(str(path))
    do = 'make setup writes a few there; or put your own, a JSON line each; or set replay_file = "" in a recipe of your own'
    return warn(f"{path} is not there, and no night begins without it", do)
