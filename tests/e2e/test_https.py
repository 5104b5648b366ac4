"""HTTPS on the running stack: who trusts the authority gets the chat and whole streams."""

import json
import ssl
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests

from glue import webui
from glue.site import Site
from glue.webui import WebUI
from tests.e2e.conftest import Glue

QUESTION = [{"role": "user", "content": "What is the code of the lathe?"}]


@pytest.fixture(scope="module")
def gate(site: Site, glue: Glue) -> tuple[str, Path]:
    done = glue("https", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    return found["urls"][0], Path(found["trust"])


@pytest.fixture
def person(gate: tuple[str, Path], site: Site) -> WebUI:
    url, trust = gate
    found = webui.administrator(site.settings)
    found.url, found.session.verify = url, str(trust)
    found.session.trust_env = False  # or a CA bundle named in the environment goes before the one named here
    return found


def test_who_does_not_trust_the_authority_gets_nothing(gate: tuple[str, Path]) -> None:
    with pytest.raises(requests.exceptions.SSLError):
        requests.get(gate[0], timeout=30)
    old = ssl.create_default_context(cafile=str(gate[1]))
    # as lenient as a client can be, so that it is the gate that refuses
    old.set_ciphers("ALL:@SECLEVEL=0")
    old.minimum_version, old.maximum_version = ssl.TLSVersion.MINIMUM_SUPPORTED, ssl.TLSVersion.TLSv1_1
    with pytest.raises(OSError, match="protocol version"):
        urllib.request.urlopen(gate[0], context=old, timeout=30)


def test_streams_come_through_whole_with_their_sources(person: WebUI) -> None:
    def ask(_: int) -> bool:
        answer = person.ask(QUESTION)
        return bool(answer.text.strip() and answer.sources)

    with ThreadPoolExecutor(4) as several:
        assert all(several.map(ask, range(24)))


def test_the_pages_own_socket_opens(gate: tuple[str, Path]) -> None:
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Origin": gate[0]}
    key = {"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}  # RFC 6455's own example
    url = f"{gate[0]}/ws/socket.io/?EIO=4&transport=websocket"
    with requests.get(url, headers=upgrade | key, verify=str(gate[1]), timeout=30, stream=True) as answer:
        assert answer.status_code == 101


def test_cookies_travel_by_https_only_and_too_large_a_document_is_not_read(gate: tuple[str, Path], site: Site) -> None:
    url, trust = gate
    form = {"email": site.settings["WEBUI_ADMIN_EMAIL"], "password": site.settings["WEBUI_ADMIN_PASSWORD"]}
    answer = requests.post(f"{url}/api/v1/auths/signin", json=form, verify=str(trust), timeout=30)
    assert answer.status_code == 200 and "secure" in answer.headers["Set-Cookie"].lower()
    assert answer.headers["Strict-Transport-Security"] == "max-age=0"  # HTTP on other ports of this name stays reachable
    with requests.Session() as session:
        request = requests.Request("POST", f"{url}/api/v1/files/", data=b"x").prepare()
        request.headers["Content-Length"] = "200000000"
        assert session.send(request, verify=str(trust), timeout=30).status_code == 413
