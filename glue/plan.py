"""What is going on. Pure: Docker's view in, words out."""

from __future__ import annotations

from glue.types import Mode, Service, Services

DAY_SERVICES = ("vllm", "open-webui", "door", "night-desk")
ALWAYS_ON = ("open-webui", "door", "night-desk")

ABSENT = Service(name="", state="absent")


def mode(services: Services, trainer: Service | None) -> Mode:
    """day: chat is answered by the model. night: the trainer runs, the desk answers. down: nobody would answer."""
    if not all(services.get(name, ABSENT).serves for name in ALWAYS_ON):
        starting = any(services.get(name, ABSENT).health == "starting" for name in ALWAYS_ON)
        return Mode.MOVING if starting else Mode.DOWN
    if services.get("vllm", ABSENT).serves:
        return Mode.DAY  # also while the trainer's image makes a checkpoint
    return Mode.NIGHT if trainer is not None and trainer.state == "running" else Mode.MOVING


def not_serving(services: Services, wanted: tuple[str, ...] = DAY_SERVICES) -> dict[str, str]:
    """For each wanted service that does not serve, what it is instead."""
    found = {name: services.get(name, ABSENT) for name in wanted}
    return {name: " ".join(filter(None, (s.state, s.health))) for name, s in found.items() if not s.serves}
