"""Steps 1 and 2, while the day still serves: builds a data set from the team's ratings and
checks all that the night needs."""

from __future__ import annotations

from glue.clients import host
from glue.core import files, services
from glue.core.errors import PreconditionFailed
from glue.machine import checks, doctor, hours
from glue.night.tonight import Night, NothingNew
from glue.operations import dataset


def collect(night: Night) -> None:
    """Builds a data set from the team's ratings. Raises NothingNew if too little of it is new."""
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
    """Checks all that the night and the morning need. Raises PreconditionFailed; nothing is
    stopped yet."""
    site = night.site
    doctor.require(site, doctor.NIGHT)
    hours.of(site.settings)
    if not (site.state / "base_model.json").exists():
        raise PreconditionFailed(
            "the base model's facts are missing", "no base_model.json", "make setup"
        )
    late = services.not_serving(site.stacks.services("day"))
    if late:
        raise PreconditionFailed("the day is incomplete, so no night starts", str(late), "make day")
    reserve_disk(night)


def reserve_disk(night: Night) -> None:
    """Reserves disk space for the adapter before other files fill the disk."""
    size = int(checks.RELEASE_BYTES_A_RANK * night.recipe.largest_rank)
    try:
        files.reserve(night.reserve, size)
    except OSError as error:
        saw = f"{error.strerror}: {host.readable(size)} wanted in {night.folder}"
        raise PreconditionFailed(
            "the disk has no room for a night's adapter", saw, "make room there"
        ) from error
