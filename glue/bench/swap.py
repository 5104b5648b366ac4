"""`glue bench swap`: every phase of day -> night -> day, cold and warm, and hot promotion, each against its floor.

The floor of a stop or a start is the container's own, from Docker's clock and vLLM's first sign of health in the same run;
what is above it is glue's: moving the door, waiting for health checks, setting up the assistant.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from glue import adapters, day, host, lock, waiting
from glue.bench import machine
from glue.releases import Release, Releases
from glue.site import Site
from glue.stacks import DAY
from glue.types import GlueError
from glue.waiting import Seen

Row = dict[str, Any]
MODEL = "vllm"
LOOK_SECONDS = 0.05
# reads the largest file of weights past the page cache, and says bytes a second and bytes of weights in all
DISK = r"""
import glob, os, sys, time
files = [f for f in glob.glob(sys.argv[1], recursive=True)]
largest = max(files, key=os.path.getsize)
handle = os.open(largest, os.O_RDONLY)
os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
began, count = time.perf_counter(), 0
while count < 4 * 2**30 and (part := os.read(handle, 2**24)):
    count += len(part)
print(count / (time.perf_counter() - began), sum(map(os.path.getsize, files)))
"""


def run(site: Site, command: str, keep: Callable[[Row], object]) -> Row:
    """Leaves the day serving what it served. The chat answers with the night desk meanwhile, two starts of the model long.

    keep: gets what is measured so far after each phase, so that a start that fails does not lose the phases before it.
    """
    day.ensure(site)
    disk = disk_floor(site)
    result: Row = {"kind": "swap", "simulated": False, "command": command, "rows": [], "disk": disk, **machine.describe(site)}

    def add(rows: list[Row]) -> None:
        result["rows"] += rows
        keep(result | {"load_after": machine.load()})

    add(hot(site))
    floor_stop = stop_alone(site)
    add(to_day(site, "warm", disk))
    add(to_night(site, floor_stop))
    add(to_day(site, "cold" if host.drop_page_cache() else "page cache not dropped: only root may", disk))
    return result


# ---------------------------------------------------------------------- hot: no restart


def hot(site: Site) -> list[Row]:
    """Promotes the newest good adapter, or else the base model, and rolls it back; nothing restarts, so its floor is nothing."""
    releases = site.releases
    current = releases.current()
    target = next((name for name in reversed(releases.names()) if name != current and harmless(releases, name)), None)
    if target == current or releases.serves_merged():
        site.tell("nothing to promote without a restart: glue night, or glue adapters --add, makes an adapter")
        return []
    try:
        return [
            timed("promote, hot", lambda: adapters.promote(site, target, target and "adapter")),
            timed("roll back, hot", lambda: adapters.rollback(site)),
        ]
    except BaseException:
        put_back(site, current)
        raise


def harmless(releases: Releases, name: str) -> bool:
    """The team works with it for a moment: no gate refused it, no night left it unjudged, and it serves without a restart."""
    found = releases.manifest(name)
    judged_good = found.get("verdict", {"promote": "night" not in found})["promote"]
    return judged_good and found.get("recipe", {}).get("serve") != "merged" and not releases.is_merged(name)


def put_back(site: Site, current: Release) -> None:
    """Whatever moment a promotion was broken off at: the link first, then a vLLM that agrees with it."""
    if site.releases.current() != current:
        adapters.rollback(site)
    adapters.promote(site, current, current and "adapter")


def timed(phase: str, act: Callable[[], object]) -> Row:
    began = time.monotonic()
    act()
    return {"phase": phase, "seconds": round(time.monotonic() - began, 3), "floor_seconds": 0.0, "floor": "nothing restarts"}


# ---------------------------------------------------------------------- the floor


def stop_alone(site: Site) -> float:
    """Docker's own stop of the model's container, with nobody asking and no glue."""
    with lock.hold(site.state, lock.MOVE, "bench the swap", day.MOVE_WAIT_SECONDS):
        day.notice(site, "restart", None)
        began = time.monotonic()
        site.stacks.stop_container(DAY, MODEL)
        return time.monotonic() - began


def disk_floor(site: Site) -> Row:
    """Bytes of weights over the measured speed of the disk that holds them."""
    served = site.settings["SERVED_MODEL"]
    pattern = (
        f"{served}/*.safetensors"
        if served.startswith("/")
        else f"/models/**/models--{served.replace('/', '--')}/**/*.safetensors"
    )
    code, output = site.stacks.run_in(DAY, MODEL, ["python3", "-c", DISK, pattern])
    if code != 0:
        raise GlueError("the disk's speed could not be measured", output[-400:], "look at the model's files in its volume")
    speed, total = map(float, output.split())
    return {"bytes_per_second": round(speed), "weights_bytes": int(total), "seconds": round(total / speed, 3)}


# ---------------------------------------------------------------------- night and day


def to_night(site: Site, floor_stop: float) -> list[Row]:
    """As a night begins: the door to the desk, the running answers' end, the model's stop."""
    with lock.hold(site.state, lock.MOVE, "bench the swap", day.MOVE_WAIT_SECONDS):
        began = time.monotonic()
        day.notice(site, "night", site.settings["DAY_AT"])
        day.wait_for_door(site, "night-desk")
        moved = time.monotonic()
        waiting.until("the last answers", lambda: idle(site), 60)
        site.stacks.stop(DAY, MODEL)
        ended = time.monotonic()
    total = {"phase": "day to night", "seconds": round(ended - began, 3), "floor_seconds": round(floor_stop, 3)}
    above = round(ended - began - floor_stop, 3)
    return [
        {"phase": "the door to the desk", "seconds": round(moved - began, 3)},
        total | {"added_seconds": above, "floor": "the container's stop alone"},
    ]


def idle(site: Site) -> Seen[None]:
    running = site.vllm().running_requests()
    return Seen(running == 0, f"{running} answers still running")


def to_day(site: Site, cache: str, disk: Row) -> list[Row]:
    """`make day` with the model stopped: until people are answered by it again."""
    with watching(site) as healthy:
        began = time.time()
        day.ensure(site)
        ended = time.time()
    started = site.stacks.started(DAY, MODEL)
    load = healthy[0] - started
    above = round(ended - began - load, 3)
    whole = {"phase": f"night to day, {cache}", "seconds": round(ended - began, 3), "floor_seconds": round(load, 3)}
    return [
        {"phase": f"the container's start to health, {cache}", "seconds": round(load, 3), "floor_seconds": disk["seconds"],
         "floor": "bytes of weights / measured disk speed"},
        whole | {"added_seconds": above, "floor": "the container's start to health"},
    ]  # fmt: skip


@contextmanager
def watching(site: Site) -> Iterator[list[float]]:
    """Looks twenty times a second for vLLM's first sign of health; the list gets that moment as a Unix time."""
    healthy: list[float] = []

    def look(over: threading.Event) -> None:
        while not over.wait(LOOK_SECONDS):
            try:
                if site.vllm().answers():
                    return healthy.append(time.time())
            except GlueError:
                continue  # no address yet
        return None

    with waiting.beside(look, end_seconds=15):
        yield healthy
