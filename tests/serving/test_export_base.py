"""Which model an export fetches first; the fetch itself is tested in tests/operations."""

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, cast

import pytest

from glue.clients.site import Site
from glue.core import settings
from glue.machine import models
from glue.serving import export

BF16 = settings.load("spark")["TRAINED_MODEL"]


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
    site = SimpleNamespace(
        settings=settings.load(profile),
        store=SimpleNamespace(verify=lambda release: None),
        tell=told.append,
    )
    export.ensure_base(cast(Site, site), "an adapter", form)
    assert asked == ([{BF16: "main"}] if fetched else [])
    assert all(BF16 in line and fetched in line for line in told) and len(told) == len(asked)
