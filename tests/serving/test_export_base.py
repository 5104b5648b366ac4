"""Which model an export fetches first; the fetch itself is tested in tests/operations."""

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from glue.clients import host
from glue.clients.site import Site
from glue.core import settings
from glue.core.errors import PreconditionFailed
from glue.core.settings import REPOSITORY
from glue.machine import models
from glue.serving import export

BF16 = settings.load("spark")["TRAINED_MODEL"]


def make_site(profile: str, told: list[str]) -> Site:
    site = SimpleNamespace(
        settings=settings.load(profile),
        state=Path("/srv/state"),
        store=SimpleNamespace(
            manifest=lambda release: {},
            verify=lambda release: None,
            checkpoint=lambda release: None,
            current=lambda: None,
            is_merged=lambda release: False,
        ),
        stacks=SimpleNamespace(
            engine=lambda: SimpleNamespace(folder=Path("/var/lib/docker")),
            missing_images=lambda references: (),
            trainer=lambda: None,
        ),
        tell=told.append,
    )
    return cast(Site, site)


@pytest.mark.parametrize(
    ("form", "one_disk", "wanted"),
    [("bf16", True, 126.4e9), ("bf16", False, 63.2e9), ("nvfp4", True, 189.6e9)],
)
def test_no_hour_is_spent_on_fetching_for_a_checkpoint_that_has_no_room(
    form: str, one_disk: bool, wanted: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host, "on_one_disk", lambda *_: one_disk)
    monkeypatch.setattr(host, "free_disk_bytes", lambda folder: int(wanted) + 1)
    export.require_disk(make_site("spark", []), form, 63_200_000_000)
    monkeypatch.setattr(host, "free_disk_bytes", lambda folder: int(wanted) - 1)
    with pytest.raises(PreconditionFailed, match=f"{wanted / 1e9:.1f} GB needed"):
        export.require_disk(make_site("spark", []), form, 63_200_000_000)


@pytest.mark.parametrize(
    ("profile", "form", "wrong", "held", "fetched"),
    [
        ("spark", "bf16", ("never fetched",), 0, "63.2 GB"),
        ("spark", "nvfp4", ("one-of-13",), 60 * 10**9, "3.2 GB"),
        ("spark", "bf16", (), 0, ""),
        ("spark", "merged", (), 0, ""),
        ("rehearsal", "nvfp4", ("never fetched",), 0, ""),
    ],
)
def test_an_export_says_what_it_fetches_and_fetches_only_a_missing_model(
    profile: str,
    form: str,
    wrong: tuple[str, ...],
    held: int,
    fetched: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told: list[str] = []
    asked: list[Mapping[str, str]] = []

    def found(site: Site, names: Mapping[str, str]) -> Any:
        return dict.fromkeys(names, wrong), dict.fromkeys(names, held), frozenset()

    monkeypatch.setattr(models, "models", found)
    monkeypatch.setattr(models, "ensure_models", lambda site, names: asked.append(names))
    monkeypatch.setattr(host, "free_disk_bytes", lambda folder: 200 * 10**9)
    monkeypatch.setattr(host, "on_one_disk", lambda *_: True)
    monkeypatch.setattr(host, "available_bytes", lambda: 108 * 10**9)
    export.ensure_base(make_site(profile, told), "an adapter", form)
    assert [list(names) for names in asked] == ([[BF16]] if fetched else [])
    assert all(BF16 in line and fetched in line for line in told) and len(told) == len(asked)


def test_nothing_is_fetched_for_an_export_that_would_be_refused_or_is_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(models, "models", lambda *_: pytest.fail("it looked at the models"))
    busy = make_site("spark", [])
    monkeypatch.setattr(busy.stacks, "trainer", lambda: SimpleNamespace(state="running"))
    with pytest.raises(PreconditionFailed, match="the trainer is busy"):
        export.ensure_base(busy, "an adapter", "bf16")
    other = make_site("spark", [])
    monkeypatch.setattr(other.store, "manifest", lambda release: {"served_model": "maker/other"})
    for act in (export.ensure_base, export.ensure):
        with pytest.raises(PreconditionFailed, match="made for maker/other"):
            act(other, "an adapter", "bf16")
    monkeypatch.setattr(host, "available_bytes", lambda: 70 * 10**9)
    with pytest.raises(PreconditionFailed, match=r"70.0 GB of memory available, 88.5 GB needed"):
        export.ensure_base(make_site("spark", []), "an adapter", "nvfp4")
    made = {"form": "bf16", "base_model": BF16}
    monkeypatch.setattr(busy.store, "checkpoint", lambda release: made)
    export.ensure_base(busy, "an adapter", "bf16")
    assert export.made_before(busy, "an adapter", "nvfp4") is None


def test_an_export_asks_for_the_memory_that_packing_asks_for() -> None:
    code = REPOSITORY / "images" / "trainer" / "training" / "quantise_checkpoint.py"
    assert f"MEMORY_FACTOR = {export.PACKING_FACTOR} " in code.read_text()
