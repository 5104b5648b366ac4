"""Versions as engines, drivers and image tags write them."""

import pytest

from glue.core import image_tags


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("580.95.05", (580, 95, 5)),
        ("v2.40.3-desktop.1", (2, 40, 3)),
        ("28.5.1+dfsg1", (28, 5, 1)),
        ("ghcr.example:5000/open-webui:v0.12.4@sha256:0123", (0, 12, 4)),
        ("dual-use/open-webui:2", (2,)),
        ("dual-use/open-webui:3fa9bc01d2e4", ()),
        ("[N/A]", ()),
        ("", ()),
    ],
)
def test_a_version_is_its_numbers(text: str, expected: tuple[int, ...]) -> None:
    assert image_tags.version(text) == expected


@pytest.mark.parametrize(
    ("one", "other", "older"),
    [("1.9", "1.10", True), ("1.10", "1.9", False), ("main", "1.9", False), ("1.9", "main", False)],
)
def test_a_text_that_is_not_a_version_is_not_older(one: str, other: str, older: bool) -> None:
    assert image_tags.is_older(f"x/y:{one}", f"x/y:{other}") is older
