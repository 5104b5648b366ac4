"""NIGHT=beside: while a night trains beside the day that serves, the day comes first."""

from __future__ import annotations

from glue.clients.site import Site
from glue.core import beside_plan, desired_state, files, services
from glue.core.errors import GlueError
from glue.night.tonight import Night
from training.places import PAUSE

METRICS_SECONDS = 1  # the look for memory must not wait for longer


def day_fault(night: Night) -> str:
    """Why the trainer must leave the machine to the day; empty if it may go on. A start of vLLM
    needs the memory for itself, and must not wait for the opening. Raises Preempted if somebody
    stopped the day."""
    site = night.site
    if not beside_plan.chosen(site.settings):
        return ""
    late = services.not_serving(site.stacks.services("day"))
    if not late:
        return ""
    desired_state.require(site.state, night.name)
    return f"the day does not serve: {', '.join(map(': '.join, late.items()))}"


def let_people_first(night: Night, ended: bool) -> None:
    """Renews the file that pauses the trainer while vLLM answers somebody, and removes it else."""
    if not beside_plan.chosen(night.site.settings):
        return
    file = night.folder / PAUSE
    if not ended and somebody_is_answered(night.site):
        file.touch()
        files.take_over(file, 0o644)
    else:
        file.unlink(missing_ok=True)


def somebody_is_answered(site: Site) -> bool:
    """A vLLM that is too busy to tell counts as one that answers."""
    try:
        return site.vllm().running_requests(METRICS_SECONDS) > 0
    except GlueError:
        return True
