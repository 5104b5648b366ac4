"""Checks of the machine: GPU, driver, clock, memory."""

from __future__ import annotations

from glue.clients.host import Machine, readable
from glue.core import beside_plan
from glue.core import gpu as gpus
from glue.core.image_tags import version
from glue.core.model_files import COMPUTED
from glue.machine.check_types import Host, View, fail, ok, warn

DRIVER_LEAST, DRIVER_DEADLOCKS = 580, 590  # CUDA 13 needs 580 (CUDA toolkit release notes, table 2)
# the fault holds the clock at 500 to 850 MHz, and an idle GPU is as slow
NO_NIGHTS = (
    "days work as they are; for nights set another MODEL or RECIPE in env/site.env, for none"
    " NIGHT_DAYS=, then sudo make schedule"
)
PINNED_MHZ, BUSY_PERCENT = 900, 50


def system(seen: Host) -> View:
    machine, gpu = seen.machine, seen.machine.gpu
    words = f"{machine.system}, {machine.architecture}"
    if seen.settings.rehearsal:
        return ok(words)
    if gpu is None:
        return fail(f"{words}; {no_gpu(machine)}", gpus.remedy(machine.gpu_fault))
    words += f", {gpu.name}, compute capability {gpu.capability}"
    if (machine.architecture, gpu.capability) != ("aarch64", "12.1"):
        return warn(words, "no action needed; defaults are tuned for a GB10 (aarch64, 12.1)")
    return ok(words)


def no_gpu(machine: Machine) -> str:
    return f"no GPU answers; nvidia-smi: {machine.gpu_fault}"


def driver(seen: Host) -> View:
    if seen.machine.gpu is None:
        return fail(no_gpu(seen.machine), gpus.remedy(seen.machine.gpu_fault))
    found = seen.machine.gpu.driver
    major = (version(found) or (0,))[0]
    if major < DRIVER_LEAST:
        return fail(found, f"install driver {DRIVER_LEAST} or newer: the images need CUDA 13")
    if major == DRIVER_DEADLOCKS:
        saw = f"{found}, which is reported to deadlock in CUDA graphs on a GB10"
        return warn(saw, f"install driver {DRIVER_LEAST}, or one newer than {found}")
    return ok(f"{found}, new enough for CUDA 13; make setup runs a kernel with it")


def clocks(seen: Host) -> View:
    """After a fault of its power supply a GB10 runs at a fraction of its clock."""
    gpu = seen.machine.gpu
    if gpu is None or gpu.clock_mhz is None:
        return warn("nvidia-smi reports no clock speed", "nvidia-smi -q -d CLOCK")
    largest, watts = gpu.largest_clock_mhz or 0, gpu.power_watts or 0
    words = f"{gpu.clock_mhz:.0f} of {largest:.0f} MHz, {watts:.0f} W"
    busy = gpu.busy_percent is not None and gpu.busy_percent >= BUSY_PERCENT
    if busy and gpu.clock_mhz < PINNED_MHZ:
        do = "shut down, unplug the power supply for a minute, start again"
        return fail(f"{words} under load: far too slow", do)
    if gpu.slowed_by:
        saw = f"{words}, slowed by {' and '.join(gpu.slowed_by)}"
        return warn(saw, "check airflow and power supply")
    return ok(words if busy else f"{words}, idle: the clock can only be judged under load")


def model(seen: Host) -> View:
    """Whether a night can train it, and what is planned."""
    settings, found, base = seen.settings, seen.settings.model, seen.base
    day, cache = settings.number("DAY_FREE_BYTES"), settings.number("KV_CACHE_BYTES")
    words = f"{found.name}: a day needs {readable(day)}"
    words += f", with a cache of at most {cache // found.kv_bytes_per_token:,} tokens"
    if why := settings.untrainable(base):
        if not settings["NIGHT_DAYS"]:
            return ok(f"{words}; no nights, as NIGHT_DAYS says: {why}")
        return fail(f"{words}; no night: {why}", NO_NIGHTS)
    if seen.adapter_fault:
        saw = f"{found.name}; the current adapter cannot serve: {seen.adapter_fault}"
        return warn(saw, "make day, which serves the base model then, or set MODEL back")
    words += f"; a night {readable(settings.night_bytes('NIGHT_FREE_BYTES', base))}"
    return warn(f"{words}; {COMPUTED}", "no action needed") if found.computed else ok(words)


def memory(seen: Host) -> View:
    day = seen.settings.number("DAY_FREE_BYTES")
    night = seen.settings.night_bytes("NIGHT_FREE_BYTES", seen.base)
    free, services = seen.machine.available_bytes, seen.engine.services
    words, do = f"{readable(free)} available", "find what uses the memory: docker stats, top"
    if seen.engine.trainer and seen.engine.trainer.state == "running":
        return ok(f"{words}, a night is training")
    if "vllm" not in services or services["vllm"].state != "running":
        return ok(words) if free >= day else fail(f"{words}, a day needs {readable(day)}", do)
    if beside_plan.chosen(seen.settings):
        return ok(words)
    words += f", and about {readable(day)} more when the model stops"
    if free + day < night:
        return warn(f"{words}; a night needs {readable(night)}", do)
    return ok(words)


def night_beside(seen: Host) -> View:
    """With NIGHT=beside: what the day, a night and the reserve take together."""
    assert seen.recipe is not None, "only nights are checked for it"
    free, running = seen.machine.available_bytes, (seen.engine.services, seen.engine.trainer)
    plan = beside_plan.plan(seen.settings, seen.recipe, free, *running, seen.serves_merged)
    return ok(plan.words) if plan.fits else fail(plan.words, beside_plan.REMEDY)


def page_cache(seen: Host) -> View:
    words = f"{readable(seen.machine.cached_bytes)} of files"
    if seen.machine.may_drop_cache:
        return ok(f"{words}, dropped before every start")
    saw = f"{words}, and this user may not drop it"
    return warn(saw, "before a start: sudo sysctl vm.drop_caches=3")
