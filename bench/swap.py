"""`python -m bench swap`: each phase of day to night to day, cold and warm, and hot promotion,
compared with its floor.

The floor of a stop or a start is the container's own time, from Docker's clock and vLLM's first
healthy answer in the same run. What is above it is glue's: switching the door, waiting for health
checks, setting up the assistant.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from bench import containers, environment, promotion
from glue.clients import host
from glue.clients.compose import DAY
from glue.clients.site import Site
from glue.clients.vllm import Vllm
from glue.core import commands, desired_state, lock, waiting
from glue.core.desired_state import DesiredState, Wanted
from glue.core.errors import DayNotServing, GlueError
from glue.night import train
from glue.serving import day, model

Row = dict[str, Any]
MODEL = "vllm"
BENCH_NIGHT = "bench"  # the night's name while the model is stopped; no real night has this name
TURN_SECONDS = 300  # longer than switching the door, the last answers and a stop together
ADDRESS_LOOK_SECONDS = 0.5  # more often, its looks would slow the start
HEALTH_LOOK_SECONDS = 0.05
# reads the largest file of weights past the page cache; prints bytes a second and total bytes of
# weights
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
    """Afterwards the day serves what it served before. Until then the night desk answers, for the
    length of one or two model starts.

    keep: gets the results so far after each phase, so that a failed start does not lose them. They
    are "whole" only after the last. Raises DayNotServing if the day does not come back.
    """
    day.start(site)
    disk = disk_floor(site)
    caches, left_out = starts(site)
    result: Row = {
        "kind": "swap",
        "simulated": False,
        "command": command,
        "rows": [],
        "disk": disk,
        **environment.describe(site),
    }
    result |= {"whole": False, "left_out": left_out}

    def add(rows: list[Row]) -> None:
        result["rows"] += rows
        keep(result | {"load_after": environment.load()})

    with the_day_after(site):
        add(promotion.measure(site))
        for number, cache in enumerate(caches):
            add(to_night(site, ", again" if number else ""))
            add(to_day(site, cache, disk))
    result["whole"] = True
    add([])
    return result


def starts(site: Site) -> tuple[tuple[str, ...], str]:
    """The state of the page cache for each start that is measured, and a note on starts that are
    not.

    Outside a rehearsal glue drops the page cache before every start if it may, so there is no warm
    start.
    """
    if not host.observe().may_drop_cache:
        return ("warm",), "no cold start: only root may drop the page cache"
    if not site.settings.rehearsal:
        return (
            "cold",
        ), "no warm start: the page cache is dropped before every start of the model here"
    return ("warm", "cold"), ""


@contextmanager
def the_day_after(site: Site) -> Iterator[None]:
    """Brings the day back however the block ends, unless a person has stopped everything."""
    try:
        yield
    except BaseException as reason:
        with commands.uninterrupted():
            try:
                day.start(site, day.Caller.NIGHT, BENCH_NIGHT)
            except Exception as error:
                saw = f"{error}; the bench: {type(reason).__name__}: {reason}"
                raise DayNotServing(
                    "the day did not start after the bench", saw, "make day"
                ) from error
        raise


# ---------------------------------------------------------------------- the floor


def disk_floor(site: Site) -> Row:
    """Bytes of weights divided by the measured speed of their disk."""
    served = site.settings["SERVED_MODEL"]
    pattern = (
        f"{served}/*.safetensors"
        if served.startswith("/")
        else f"/models/**/models--{served.replace('/', '--')}/**/*.safetensors"
    )
    code, output = containers.run_in(site.stacks, DAY, MODEL, ["python3", "-c", DISK, pattern])
    if code != 0:
        raise GlueError(
            "the disk's speed could not be measured",
            output[-400:],
            "look at the model's files in its volume",
        )
    speed, total = map(float, output.split())
    return {
        "bytes_per_second": round(speed),
        "weights_bytes": int(total),
        "seconds": round(total / speed, 3),
    }


# ---------------------------------------------------------------------- night and day


def to_night(site: Site, words: str) -> list[Row]:
    """The start of a night: the door leads to the desk, running answers end, the model stops.
    The stop itself is the floor."""
    with lock.hold(site.state, lock.SWITCH, "bench the swap", model.SWITCH_WAIT_SECONDS):
        began = time.time()
        take_turn(site)
        model.write_notice(site, "night", back_at(site))
        model.wait_for_door(site, "night-desk")
        moved = time.time()
        train.drain(site)
        sent = time.time()
        site.stacks.stop(DAY, MODEL)
        ended = time.time()
    floor = containers.state_time(site.stacks, DAY, MODEL, "FinishedAt") - sent
    return [
        {"phase": f"the door to the desk{words}", "seconds": round(moved - began, 3)},
        {
            "phase": f"day to night{words}",
            "seconds": round(ended - began, 3),
            "floor_seconds": round(floor, 3),
            "added_seconds": round(ended - began - floor, 3),
            "floor": "the same stop, until the container had ended",
        },
    ]


def take_turn(site: Site) -> None:
    """Under the lock. The model is stopped by a desired state with an end: if the bench is killed
    here, the watch brings the day back.

    Raises Preempted if a person has stopped everything.
    """
    until_time = time.time() + TURN_SECONDS
    desired_state.begin(
        site.state,
        DesiredState(Wanted.NIGHT, BENCH_NIGHT, until_time),
        "make day, then the bench again",
    )


def back_at(site: Site) -> str:
    """The time of day that people see: the latest at which the model serves again."""
    latest = time.time() + TURN_SECONDS + site.settings.number("DAY_DEADLINE_SECONDS")
    return datetime.fromtimestamp(latest).strftime("%H:%M")


def to_day(site: Site, cache: str, disk: Row) -> list[Row]:
    """`make day` with the model stopped, until it answers people again."""
    if cache == "cold" and not host.drop_page_cache():
        cache = "page cache not dropped: only root may"
    with watching(site) as healthy:
        began = time.time()
        day.start(site, day.Caller.NIGHT, BENCH_NIGHT)
        ended = time.time()
    if not healthy:
        raise GlueError(
            "vLLM's first healthy answer was not seen",
            "no answer from /health",
            "make status, then the bench again",
        )
    load = healthy[0] - containers.state_time(site.stacks, DAY, MODEL, "StartedAt")
    above = round(ended - began - load, 3)
    whole = {
        "phase": f"night to day, {cache}",
        "seconds": round(ended - began, 3),
        "floor_seconds": round(load, 3),
    }
    return [
        {
            "phase": f"the container's start to health, {cache}",
            "seconds": round(load, 3),
            "floor_seconds": disk["seconds"],
            "floor": "bytes of weights / measured disk speed",
        },
        whole | {"added_seconds": above, "floor": "the container's start to health"},
    ]


@contextmanager
def watching(site: Site) -> Iterator[list[float]]:
    """Looks for vLLM's first healthy answer. The list gets its Unix time, or stays empty."""
    healthy: list[float] = []

    def look(over: threading.Event) -> None:
        served: Vllm | None = None
        while not over.wait(HEALTH_LOOK_SECONDS if served else ADDRESS_LOOK_SECONDS):
            served = served or addressed(site)
            if served and served.answers():
                return healthy.append(time.time())
        return None

    with waiting.beside(look, end_seconds=15):
        yield healthy


def addressed(site: Site) -> Vllm | None:
    """vLLM, once its container has an address. Docker's own errors are OSErrors; the next look
    may succeed."""
    try:
        return site.vllm()
    except (GlueError, OSError):
        return None
