"""Opens pages in the distribution's Chromium, without a network."""

import io
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy
from PIL import Image
from playwright.sync_api import Page, sync_playwright

from glue.core.settings import REPOSITORY


@dataclass(frozen=True)
class Shown:
    """What a person sees of a page. figures: their texts. asked: every address that the page
    requested."""

    figures: list[str]
    headings: list[str]
    asked: list[str]
    scroll_width: int


def opened(file: Path) -> Shown:
    """Fails if a picture is not decoded, is small, or has one colour only."""
    found = subprocess.run(
        ["bash", str(REPOSITORY / "scripts" / "install-browser.sh")],
        capture_output=True,
        text=True,
        check=True,
    )
    asked: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=found.stdout.strip(), args=["--no-sandbox"]
        )
        page = browser.new_context(offline=True, viewport={"width": 1280, "height": 900}).new_page()
        page.on("request", lambda request: asked.append(request.url))
        page.goto(file.as_uri())
        width = page.evaluate("document.documentElement.scrollWidth")
        shown = Shown(figures(page), page.locator("h2, h3").all_inner_texts(), asked, width)
        browser.close()
    return shown


def figures(page: Page) -> list[str]:
    found = []
    for shot in page.locator("img").all():
        words = shot.get_attribute("alt") or ""
        assert shot.evaluate("image => image.complete && image.naturalWidth > 600"), words
        seen = numpy.asarray(Image.open(io.BytesIO(shot.screenshot())).convert("L"))
        assert seen.shape[0] > 100 and seen.std() > 5, words
        found.append(words)
    return found


def of_elsewhere(shown: Shown) -> list[str]:
    """Addresses that the page requested outside its own file."""
    return [url for url in shown.asked if not url.startswith(("file:", "data:"))]
