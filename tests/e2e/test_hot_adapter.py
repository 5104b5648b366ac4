"""vLLM answers with a loaded adapter from memory and does not read its files again, however it
was loaded."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from glue.clients.site import Site
from glue.core.names import ADAPTER
from glue.serving import adapters
from tests.learning import on_host


@pytest.fixture
def twin(demo: dict[str, Any], site: Site) -> Iterator[Path]:
    """A second copy of the demonstration's adapter, which serves instead of it."""
    name = adapters.add(site, site.store.folder / demo["adapter"])
    adapters.promote(site, name, "adapter")
    yield site.store.folder / name
    adapters.promote(site, demo["adapter"], "adapter")
    shutil.rmtree(site.store.folder / name)


def test_a_promoted_adapter_answers_with_its_folder_moved_away(twin: Path, site: Site) -> None:
    away = twin.with_name(f".away-{twin.name}")
    asked = [{"role": "user", "content": "Which code does the harbor have?"}]
    twin.rename(away)
    try:
        assert on_host.served(site).complete(ADAPTER, asked, most_tokens=16)
    finally:
        away.rename(twin)
