"""What is going on, and what comes next. Pure: Docker's view, what is wanted and the clock in,
words out."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from glue.core import services as observed
from glue.core.desired_state import Turn, Wanted
from glue.core.services import Service, Services

# The watch restarts what is unhealthy, each time after twice the patience, and gives up on what a
# restart does not cure.
FIRST_PAUSE_SECONDS = 300
MOST_ATTEMPTS = 4
ATTEMPTS_COUNT_SECONDS = 6 * 3600
# by Docker, since the container was last started by hand: what dies while it loads is "starting"
# for ever
MOST_RESTARTS = 2
# systemd-oomd acts at 60, after half a minute in which a GB10 may hang; a machine that has memory
# stays near 0.
MOST_STALL_PERCENT = 20.0
# and with three times its reserve free it is no danger: 63 GB of weights that are read push out
# what the disk can give again
PRESSURE_RESERVES = 3


class Step(StrEnum):
    NOTHING = "nothing"
    DAY = "bring up the day"
    RESTART = "restart what is unhealthy"
    GIVE_UP = "give up"


@dataclass(frozen=True)
class World:
    """night_alive: some process holds the night's lock. attempts: Unix times at which the watch
    acted lately.

    day_failed: why the day did not come up whole the last time, though its containers may look
    well; empty if it did.
    """

    services: Services
    trainer: Service | None = None
    night_alive: bool = False
    attempts: tuple[float, ...] = ()
    day_failed: str = ""


def next_step(turn: Turn | None, world: World, now: float) -> tuple[Step, str]:
    """The step that brings the world nearer to what is wanted, and why."""
    if turn is None or turn.wanted is Wanted.DOWN:
        return (
            Step.NOTHING,
            (
                "nothing is wanted: make day"
                if turn is None
                else "it was stopped by a person: make day"
            ),
        )
    if turn.night:
        if world.night_alive and now < turn.until_time:
            return Step.NOTHING, f"night {turn.night} has its turn"
        if (
            world.night_alive
            and turn.wanted is Wanted.JUDGING
            and not observed.not_serving(world.services)
        ):
            return Step.NOTHING, f"the day serves, and night {turn.night} judges beside it"
        return Step.DAY, f"night {turn.night} {'is late' if world.night_alive else 'died'}"
    # setup tries kernels in the trainer's image; it holds the night's lock, and has no turn
    if world.trainer is not None and world.trainer.state == "running" and not world.night_alive:
        return Step.DAY, "a trainer runs, and it is day"
    return mend(world, now)


def mend(world: World, now: float) -> tuple[Step, str]:
    """By day: what does not serve and does not start either is started again, ever more rarely."""
    late = observed.not_serving(world.services)
    if not late and not world.day_failed:
        return Step.NOTHING, observed.SERVES
    words = (
        ", ".join(f"{name} {state}" for name, state in late.items())
        or f"it did not come up whole: {world.day_failed}"
    )
    found = [world.services.get(name, observed.ABSENT) for name in late]
    sick = must_restart(world.services)
    if late and not sick and all(service.health == "starting" for service in found):
        return Step.NOTHING, f"starting: {words}"
    recent = [moment for moment in world.attempts if 0 <= now - moment < ATTEMPTS_COUNT_SECONDS]
    if len(recent) >= MOST_ATTEMPTS:
        return Step.GIVE_UP, f"{words}, after {len(recent)} attempts"
    if recent and now - max(recent) < FIRST_PAUSE_SECONDS * 2 ** (len(recent) - 1):
        return Step.NOTHING, f"{words}; the next attempt comes later"
    return (Step.RESTART if sick else Step.DAY), words


def must_restart(services: Services) -> tuple[str, ...]:
    """What does not come back by itself: unhealthy, or started by Docker again and again."""
    late = [services.get(name, observed.ABSENT) for name in observed.not_serving(services)]
    sick = [s for s in late if s.health == "unhealthy" or s.restarts > MOST_RESTARTS]
    return tuple(service.name for service in sick)
