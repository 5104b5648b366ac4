"""Steps 1 and 2, while the day still serves: a dataset from what the team taught, and a look at all
that will be needed."""

from __future__ import annotations

from glue.clients import host
from glue.core import files, services
from glue.core.errors import PreconditionFailed
from glue.machine import checks, doctor, hours
from glue.night.tonight import Night, NothingNew
from learning.dataset import build
from learning.evaluation import evaluate, golden, measurements


def collect(night: Night) -> None:
    """What the team taught becomes a dataset. Raises NothingNew if there is too little that no
    earlier night has had."""
    found = build.gather(night.site, night.recipe)
    night.site.tell(
        f"{len(found.prepared.examples)} examples, {found.new} of them new; left out:"
        f" {found.card['rejected'] or 'none'}"
    )
    if found.new < night.recipe.fewest_new_examples:
        raise NothingNew(
            f"{found.new} new examples, a night wants {night.recipe.fewest_new_examples}"
        )
    if not found.dataset.held_out:
        raise NothingNew(
            "no rated answer can be held out to judge by; two conversations are the least"
        )
    units = len(set(measurements.units(found.dataset.held_out)))
    if units < night.recipe.fewest_units:
        raise NothingNew(
            f"{units} facts can be held out to judge by, the gate wants {night.recipe.fewest_units}"
        )
    night.dataset = found.dataset
    build.write(found, night.folder / "dataset", night.name)


def check(night: Night) -> None:
    """Everything that the night and the morning will need is there. Raises PreconditionFailed;
    nothing was stopped yet."""
    site = night.site
    doctor.require(site, doctor.NIGHT)
    golden.load(
        evaluate.golden_file(site)
    )  # one that cannot be read is better known before the night than after it
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
