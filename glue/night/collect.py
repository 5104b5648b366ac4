"""Steps 1 and 2, while the day still serves: a dataset from what the team taught, and a look at all
that will be needed."""

from __future__ import annotations

from glue.clients import host
from glue.core import files, services
from glue.core.errors import PreconditionFailed
from glue.machine import checks, doctor, hours
from glue.night.tonight import Night, NothingNew
from glue.operations import dataset


def collect(night: Night) -> None:
    """What the team taught becomes a data set. Raises NothingNew if there is too little that no
    earlier night has had."""
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
    """Everything that the night and the morning will need is there. Raises PreconditionFailed;
    nothing was stopped yet."""
    site = night.site
    doctor.require(site, doctor.NIGHT)
    hours.of(site.settings)
    if not (site.state / "base_model.json").exists():
        raise PreconditionFailed(
            "the base model's facts are not there", "no base_model.json", "make setup"
        )
    late = services.not_serving(site.stacks.services("day"))
    if late:
        raise PreconditionFailed("the day is not whole, so no night begins", str(late), "make day")
    reserve_disk(night)


def reserve_disk(night: Night) -> None:
    """Room for the release is kept from whatever else fills the disk meanwhile."""
    size = int(checks.RELEASE_BYTES_A_RANK * night.recipe.rank)
    try:
        files.reserve(night.reserve, size)
    except OSError as error:
        saw = f"{error.strerror}: {host.readable(size)} wanted in {night.folder}"
        raise PreconditionFailed(
            "the disk has no room for a night's adapter", saw, "make room there"
        ) from error
