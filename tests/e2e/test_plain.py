"""The running chat without HTTPS_NAMES: no HTTPS proxy, and a browser gets answers."""

import secrets
import subprocess
from collections.abc import Iterator

import pytest

from glue.clients.site import Site
from glue.core.settings import REPOSITORY
from glue.serving import day
from tests.e2e import browser as hands
from tests.e2e.browser import Member
from tests.e2e.conftest import Glue

pytestmark = pytest.mark.long  # the chat is started anew, twice


@pytest.fixture
def plain(site: Site, glue: Glue, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    names = site.settings["HTTPS_NAMES"]
    monkeypatch.delenv("GLUE_HTTPS_NAMES")
    assert glue("day").returncode == 0
    yield site
    monkeypatch.setenv("GLUE_HTTPS_NAMES", names)
    day.start(site)


def test_without_https_names_a_browser_is_answered_without_a_proxy(plain: Site) -> None:
    assert "https-proxy" not in plain.stacks.services("day")
    password, email = secrets.token_urlsafe(24), "pia@rehearsal.local"
    plain.administrator().ensure_user("Pia", email, password)
    script = ["bash", str(REPOSITORY / "scripts" / "install-browser.sh")]
    path = subprocess.run(
        script, check=True, stdout=subprocess.PIPE, text=True, timeout=900
    ).stdout.strip()
    with hands.chromium(path) as browser:
        pia = Member.sign_in(browser, plain.settings.chat_url, email, password)
        pia.ask("What is the code of the lathe?")
        assert pia.text()
