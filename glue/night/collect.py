"""Steps 1 and 2, while the day serves: collect a data set and check what the night needs."""

from __future__ import annotations

from glue.clients import host
from glue.core import files, services
from glue.core.errors import PreconditionFailed
from glue.core.settings import BASE_FACTS
from glue.machine import doctor, hours
from glue.machine.hardware_checks import NO_NIGHTS
from glue.night.tonight import Night, NothingNew
from glue.operations import dataset


def collect(night: Night) -> None:
    """Builds the data set from the ratings. Raises NothingNew if too little of it is new."""
    found = dataset.build_in(night.site, night.recipe, night.folder / "dataset", night.name)
    card = found["card"]
    night.site.tell(
        f"{card['examples']} examples, {found['new']} of them new; left out:"
        f" {card['rejected'] or 'none'}"
    )
    if found["too_little"]:
        raise NothingNew(found["too_little"])
    night.dataset = found


def check(night: Night) -> None:
    """Raises PreconditionFailed if anything is missing. Reserves the disk space for the adapter."""
    require_trainable(night)
    hours.of(night.site.settings)
    if late := services.not_serving(night.site.stacks.services("day")):
        what = "cannot start a night: the day's services are not all up"
        saw = ", ".join(map(": ".join, late.items()))
        raise PreconditionFailed(what, saw, "run make day, then make night")


def require_trainable(night: Night) -> None:
    """What the machine that trains needs: this one, or the peer."""
    site = night.site
    doctor.require(site, doctor.NIGHT)
    if why := site.settings.untrainable(night.recipe.base):  # with NIGHT_DAYS= it is no fault
        raise PreconditionFailed("no night can train this model", why, NO_NIGHTS)
    if "quantisation" not in site.settings.base_facts:
        what = "the base model's facts are missing"
        saw = f"no quantisation of {site.settings['SERVED_MODEL']} in {BASE_FACTS}"
        raise PreconditionFailed(what, saw, "make setup")
    size = site.settings.model.adapter_bytes_per_rank * night.recipe.largest_rank
    try:
        files.reserve(night.reserve, size)
    except OSError as error:
        what = "the disk has no room for a night's adapter"
        saw = f"{error.strerror}: {host.readable(size)} wanted in {night.folder}"
        raise PreconditionFailed(what, saw, "free space there") from error
