"""The next step of the watch, in pure code."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from glue.core.desired_state import DesiredState, Wanted
from glue.core.services import ABSENT, SERVES, Service, Services, not_serving

STAYS_DOWN = "Stopped by make stop. Run make day to start."
# The watch looks every RECONCILE_MINUTES (glue/machine/schedule.py). It makes the first attempt at
# once, the second this long after it, and doubles each further pause, until MOST_ATTEMPTS.
PAUSE_AFTER_FIRST_ATTEMPT_SECONDS = 300
MOST_ATTEMPTS = 4
ATTEMPTS_COUNT_SECONDS = 6 * 3600
# Docker's own restarts since glue last started the container: one that dies while it loads stays
# "starting" without end
MOST_RESTARTS = 2


class Step(StrEnum):
    NOTHING = "nothing"
    DAY = "bring up the day"
    RESTART = "restart what is unhealthy"
    GIVE_UP = "give up"


@dataclass(frozen=True)
class Observed:
    """night_alive: the training lock is held. attempts: Unix times of the latest attempts.
    day_failed: why the last start of the day failed, or empty; its containers may be healthy."""

    services: Services
    trainer: Service | None = None
    night_alive: bool = False
    attempts: tuple[float, ...] = ()
    day_failed: str = ""


def next_step(desired: DesiredState | None, observed: Observed, now: float) -> tuple[Step, str]:
    """The step towards the desired state, and why."""
    if desired is None:
        return Step.NOTHING, "the day was never started. Run make day to start."
    if desired.wanted is Wanted.DOWN:
        return Step.NOTHING, STAYS_DOWN
    if desired.night:
        return night_step(desired, observed, now)
    # setup tests kernels in the trainer's image under the training lock, without a night
    running = observed.trainer is not None and observed.trainer.state == "running"
    if running and not observed.night_alive:
        return Step.DAY, "a trainer runs by day"
    return day_step(observed, now)


def night_step(desired: DesiredState, observed: Observed, now: float) -> tuple[Step, str]:
    if not observed.night_alive:
        return Step.DAY, f"night {desired.night} died"
    if now < desired.until_time:
        return Step.NOTHING, f"night {desired.night} runs"
    if desired.wanted is Wanted.JUDGING and not not_serving(observed.services):
        return Step.NOTHING, f"the day serves, and night {desired.night} works beside it"
    return Step.DAY, f"night {desired.night} is late"


def day_step(observed: Observed, now: float) -> tuple[Step, str]:
    """Starts services that neither serve nor start, with growing pauses."""
    late = not_serving(observed.services)
    if not late and not observed.day_failed:
        return Step.NOTHING, SERVES
    words = ", ".join(f"{name} {state}" for name, state in late.items())
    words = words or f"the day did not start completely: {observed.day_failed}"
    found = [observed.services.get(name, ABSENT) for name in late]
    sick = must_restart(observed.services)
    if late and not sick and all(service.health == "starting" for service in found):
        return Step.NOTHING, f"starting: {words}"
    recent = [moment for moment in observed.attempts if 0 <= now - moment < ATTEMPTS_COUNT_SECONDS]
    if len(recent) >= MOST_ATTEMPTS:
        return Step.GIVE_UP, f"{words}, after {len(recent)} attempts"
    if recent and now < max(recent) + PAUSE_AFTER_FIRST_ATTEMPT_SECONDS * 2 ** (len(recent) - 1):
        return Step.NOTHING, f"{words}; the next attempt comes later"
    return (Step.RESTART if sick else Step.DAY), words


def must_restart(services: Services) -> tuple[str, ...]:
    """Services that are unhealthy, or that Docker restarts again and again."""
    late = [services.get(name, ABSENT) for name in not_serving(services)]
    sick = [s for s in late if s.health == "unhealthy" or s.restarts > MOST_RESTARTS]
    return tuple(service.name for service in sick)
