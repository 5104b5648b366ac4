"""Containers as observed, and what they mean for the machine as a whole."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Mode(StrEnum):
    DAY = "day"
    NIGHT = "night"
    SWITCHING = "switching"
    DOWN = "down"


@dataclass(frozen=True)
class Service:
    """A container as Docker sees it. health: "" without a health check. fault: what the health
    check of an unhealthy one printed last."""

    name: str
    state: str
    health: str = ""
    address: str = ""
    restarts: int = 0
    exit_code: int = 0
    fault: str = ""

    @property
    def words(self) -> str:
        return ": ".join(filter(None, (f"{self.state} {self.health}".strip(), self.fault)))

    @property
    def serves(self) -> bool:
        return self.state == "running" and self.health in ("", "healthy")


Services = dict[str, Service]


DAY_SERVICES = ("vllm", "open-webui", "door", "night-desk")
HTTPS_PROXY = "https-proxy"
ALWAYS_ON = ("open-webui", "door", "night-desk")

SERVES = "the day serves"
ABSENT = Service(name="", state="absent")


def mode(services: Services, trainer: Service | None) -> Mode:
    """day: vLLM answers. night: the trainer runs, the night desk answers. down: neither."""
    if not all(services.get(name, ABSENT).serves for name in ALWAYS_ON):
        starting = any(services.get(name, ABSENT).health == "starting" for name in ALWAYS_ON)
        return Mode.SWITCHING if starting else Mode.DOWN
    if services.get("vllm", ABSENT).serves:
        return Mode.DAY  # also while the trainer's image makes a checkpoint
    return Mode.NIGHT if trainer is not None and trainer.state == "running" else Mode.SWITCHING


def expected(services: Services) -> tuple[str, ...]:
    """What a day consists of: the HTTPS proxy only where HTTPS_NAMES is set."""
    return (*DAY_SERVICES, *(name for name in (HTTPS_PROXY,) if name in services))


def not_serving(services: Services, wanted: tuple[str, ...] = ()) -> dict[str, str]:
    """State of each wanted service that does not serve. wanted: by default all expected ones."""
    found = {name: services.get(name, ABSENT) for name in wanted or expected(services)}
    return {name: service.words for name, service in found.items() if not service.serves}
