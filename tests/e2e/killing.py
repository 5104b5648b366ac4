"""Deaths on the real stack: glue, trainer, vLLM, Open WebUI or dockerd killed at a step of a night,
then the morning's command.

    python -m tests.e2e.killing [--victims glue,trainer,...] [--steps train,judge,...] [--minutes
    600] [--again]

is `make kill-study`: every point, on the day that `make demo` left, written to
docs/measurements/kill-study.json after each;
points that are in there already are left out, unless --again. Nights train fewer steps than a night
of the rehearsal does.
dockerd is killed only if it is named among the victims: where other things run on it, that is not
ours to do.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from glue.clients import host
from glue.clients.docker import Stacks
from glue.clients.site import Site
from glue.core import files, lock, settings, waiting
from glue.core.errors import GlueError, PreconditionFailed
from glue.core.names import ADAPTER, MARK
from glue.core.settings import REPOSITORY
from glue.core.waiting import Seen
from glue.night import night
from glue.operations import dataset
from learning.dataset import build
from rehearsal import team
from tests.learning import on_host
from training import world as worlds

REPORT = REPOSITORY / "docs" / "measurements" / "kill-study.json"
WHEN = ("before", "during", "after")
DEATHS_OF_OTHERS = {
    "trainer": ("train",),
    "vllm": ("start day", "judge", "promote", "smoke"),
    "open-webui": ("train", "judge", "promote", "smoke"),
    "dockerd": ("train", "judge"),
}
DURING_SECONDS = {
    "collect": 0.2,
    "hand over": 1.0,
    "train": 15.0,
    "publish": 0.05,
    "start day": 5.0,
    "judge": 2.0,
    "promote": 0.3,
}
NIGHT_SECONDS = 900
TRAINING_STEPS = {
    "publish": 8,
    "start day": 8,
    "judge": 8,
}  # where it is of no account what the night learned
ENOUGH_TO_PROMOTE = 40
FACTS = 10  # the fewest of which the gate has enough held out

# glue itself, with two changes: it trains a given number of steps, and it dies at the named moment
# of the named step
DYING = """
import os, signal, sys, threading
from dataclasses import replace
from glue.cli import main
from glue.core import journal
from glue.clients.site import Site
step, when, seconds, steps = sys.argv[1], sys.argv[2], float(sys.argv[3]), int(sys.argv[4])
recipe = Site.recipe
Site.recipe = lambda *arguments: replace(recipe(*arguments), steps=steps)
write = journal.record
def die(): os.kill(os.getpid(), signal.SIGKILL)
def record(state, **event):
    phase = event.get("phase") if event.get("step") == step and "night" in event else None
    if (when, phase) == ("before", "begin"): die()
    write(state, **event)
    if (when, phase) == ("after", "done"): die()
    if (when, phase) == ("during", "begin"): threading.Timer(seconds, die).start()
journal.record = record
sys.argv = ["glue", "night", "--json"]
main.main()
"""


@dataclass(frozen=True)
class Point:
    victim: str
    step: str
    when: str = "during"

    def __str__(self) -> str:
        return f"{self.victim} {self.when} {self.step}"


@dataclass(frozen=True)
class Found:
    """The state on the morning after a kill."""

    point: Point
    died: bool
    day_serving: bool
    day_seconds: float
    half_published: int
    stale_locks: int
    adapter_before: str | None
    adapter_after: str | None
    saw: str = ""


def points(victims: list[str], steps: list[str]) -> Iterator[Point]:
    for step in steps:
        yield from (Point("glue", step, when) for when in WHEN if "glue" in victims)
        yield from (
            Point(victim, step) for victim in victims if step in DEATHS_OF_OTHERS.get(victim, ())
        )


def morning_after(site: Site, point: Point, seed: int) -> Found:
    """Adds new examples, kills a process during a night, runs `glue day`, and checks everything."""
    something_to_learn(site, seed)
    before = site.store.current()
    died = night_with_a_death(site, point)
    started = time.monotonic()
    day = glue("day")
    seconds = round(time.monotonic() - started, 1)
    saw = day.stderr[-500:] if day.returncode else why_not_serving(site)
    return Found(
        point=point,
        died=died,
        day_serving=not saw,
        day_seconds=seconds,
        half_published=len(half(site)),
        stale_locks=sum(lock.held(site.state, name) for name in (lock.TRAINING, lock.SWITCH)),
        adapter_before=before,
        adapter_after=site.store.current(),
        saw=saw,
    )


def something_to_learn(site: Site, seed: int) -> None:
    """The examples of a night that died are still new; otherwise the team corrects other facts."""
    order = dataset.order_for(site, site.recipe())
    if build.gather(on_host.job(site, order)).new >= FACTS:
        return
    world = worlds.load(REPOSITORY / "env" / "practice-world.toml")
    team.teach(site, team.team_members(site), world, team.corrections(world, FACTS, seed))


def glue(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "glue", "--profile", "rehearsal", *arguments]
    return subprocess.run(
        command, cwd=REPOSITORY, capture_output=True, text=True, timeout=NIGHT_SECONDS, check=False
    )


def night_with_a_death(site: Site, point: Point) -> bool:
    """Whether the victim died; a night without work at that step has no such kill."""
    seconds = str(DURING_SECONDS.get(point.step, 0.2))
    steps = str(TRAINING_STEPS.get(point.step, ENOUGH_TO_PROMOTE))
    command = [
        sys.executable,
        "-c",
        DYING,
        point.step,
        point.when if point.victim == "glue" else "never",
        seconds,
        steps,
    ]
    lines = len(files.read_lines(site.state / "journal.jsonl"))
    environment = os.environ | {"GLUE_PROFILE": "rehearsal"}
    with subprocess.Popen(
        command,
        cwd=REPOSITORY,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        if point.victim == "glue":
            return process.wait(NIGHT_SECONDS) == -signal.SIGKILL
        died = step_begins(site, point.step, lines, process) and kill(site, point, float(seconds))
        process.wait(NIGHT_SECONDS)
    return died


def step_begins(site: Site, step: str, known: int, process: subprocess.Popen[bytes]) -> bool:
    def look() -> Seen[bool]:
        rows = files.read_lines(site.state / "journal.jsonl")[known:]
        begun = any(row.get("step") == step and row["phase"] == "begin" for row in rows)
        return Seen(begun or process.poll() is not None, "not yet", begun)

    return bool(waiting.until(f"step {step}", look, NIGHT_SECONDS, 0.1).value)


def kill(site: Site, point: Point, seconds: float) -> bool:
    time.sleep(seconds)  # not a wait for anything: the moment of the death
    if point.victim == "dockerd":
        daemon = Path("/proc") / Path("/var/run/docker.pid").read_text().strip()
        os.kill(int(daemon.name), signal.SIGKILL)
        # the next one refuses to start beside what is left of it
        waiting.until(
            "dockerd's end", lambda: Seen(not daemon.exists(), "it is still there"), 60, 0.1
        )
        return (
            subprocess.run(
                ["bash", str(REPOSITORY / "scripts" / "install-docker.sh")],
                check=False,
                timeout=120,
            ).returncode
            == 0
        )
    container = site.stacks.container("night" if point.victim == "trainer" else "day", point.victim)
    if container is None or container.status != "running":
        return False
    container.kill()
    return True


def half(site: Site) -> list[str]:
    """Names of incomplete adapters in the list."""
    found = []
    for name in site.store.names():
        try:
            site.store.verify(name)
        except (PreconditionFailed, OSError):
            found.append(name)
    return found


def why_not_serving(site: Site) -> str:
    """Empty if the model, not the desk, answers through the chat with the adapter that the files
    name."""
    try:
        current, loaded = site.store.current(), site.vllm().models()
        if loaded.get(ADAPTER) != (f"/adapters/{current}" if current else None):
            return f"vLLM runs {loaded}, and {current} is to serve"
        answer = site.administrator().ask(
            [{"role": "user", "content": "What is the code of the lathe?"}]
        )
    except GlueError as error:
        return str(error)
    return (
        ""
        if answer.text.strip() and not answer.text.startswith(MARK) and answer.sources
        else repr(answer.text[:200])
    )


def good(row: Found, deadline_seconds: int) -> bool:
    """Whether the victim died and the day then served in time, with no incomplete adapter and no
    held lock."""
    in_time = row.day_serving and row.day_seconds < deadline_seconds
    return row.died and in_time and not row.half_published and not row.stale_locks


def report(
    found: list[Found], versions: Mapping[str, str], deadline_seconds: int
) -> dict[str, Any]:
    return {
        "what": "kill -9 at a step of a night on the real stacks of the rehearsal, then `glue day`",
        "points": len({row.point for row in found}),
        "runs": len(found),
        "died": sum(row.died for row in found),
        "day_serving": sum(row.day_serving for row in found),
        "half_published": sum(row.half_published for row in found),
        "stale_locks": sum(row.stale_locks for row in found),
        "deadline_seconds": deadline_seconds,
        "slowest_day_seconds": max((row.day_seconds for row in found), default=None),
        "good": sum(good(row, deadline_seconds) for row in found),
        "date": f"{datetime.now(UTC):%F}",
        "machine": f"{host.system()}, {platform.machine()}, {os.cpu_count()} cores, no GPU",
        "versions": dict(versions),
        "profile": "rehearsal",
        "command": "make kill-study",
        "rows": [asdict(row) for row in found],
    }


def already_there() -> list[Found]:
    if not REPORT.exists():
        return []
    rows = json.loads(REPORT.read_text(encoding="utf-8"))["rows"]
    return [Found(**row | {"point": Point(*row["point"].values())}) for row in rows]


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Kill everything at every step, and see whether the office opens."
    )
    parser.add_argument("--victims", default="glue,trainer,vllm,open-webui")
    parser.add_argument("--steps", default=",".join(night.STEPS))
    parser.add_argument(
        "--minutes", type=float, default=600, help="no new point begins after these"
    )
    parser.add_argument("--again", action="store_true", help="also the points that the report has")
    chosen = parser.parse_args()
    loaded = settings.load("rehearsal")
    site = Site(loaded, Stacks(loaded), lambda line: None)
    versions = {key: loaded.image(key) for key in settings.IMAGES}
    found = [] if chosen.again else already_there()
    done, deadline_seconds = {row.point for row in found}, loaded.number("DAY_DEADLINE_SECONDS")
    until = time.monotonic() + chosen.minutes * 60
    for point in points(chosen.victims.split(","), chosen.steps.split(",")):
        if point not in done and time.monotonic() < until:
            found.append(morning_after(site, point, seed=1000 + int(time.time())))
            print(f"{len(found)}: {found[-1]}", flush=True)
            files.write_json(REPORT, report(found, versions, deadline_seconds))
    return 0 if found and all(good(row, deadline_seconds) for row in found) else 1


if __name__ == "__main__":
    sys.exit(main())
