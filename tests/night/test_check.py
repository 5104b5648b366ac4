"""What ends a night while the day still serves."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from glue.clients.docker import Stacks
from glue.clients.site import Site
from glue.core import files, recipes, settings
from glue.core.errors import PreconditionFailed
from glue.machine import doctor
from glue.night import collect
from glue.night.tonight import Night

KIND = {"configuration": {"model_type": "nemotron_h"}}


@pytest.fixture
def night(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Night:
    monkeypatch.setattr(doctor, "require", lambda *_: None)
    loaded = settings.load("spark")
    chosen = replace(loaded, values=loaded.values | {"STATE_DIR": str(tmp_path)})
    site = Site(chosen, Stacks(chosen), lambda line: None)
    recipe = recipes.load(settings.REPOSITORY / "env" / "recipes", "team")
    return Night(site, "tonight", recipe, deadline_time=0)


def check(night: Night, facts: dict[str, Any]) -> str:
    files.write_json(night.site.state / "base_model.json", facts)
    with pytest.raises(PreconditionFailed) as error:
        collect.check(night)
    return str(error.value)


def test_a_checkpoint_that_the_trainer_cannot_load_ends_it(night: Night) -> None:
    facts = KIND | {"name": night.site.settings["SERVED_MODEL"], "quantisation": "MIXED_PRECISION"}
    assert "it is nemotron_h in MIXED_PRECISION" in check(night, facts)


@pytest.mark.parametrize("facts", [{}, KIND | {"name": "maker/other", "quantisation": ""}])
def test_a_checkpoint_that_make_setup_has_not_read_ends_it(
    facts: dict[str, Any], night: Night
) -> None:
    assert "no quantisation of nvidia/NVIDIA-Nemotron-3-Nano" in check(night, facts)
