"""HTTPS on the running stack: a client that trusts the authority gets the chat and complete
streams."""

import json
import ssl
import subprocess
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests

from glue.clients import webui_accounts
from glue.clients.compose import docker_cli
from glue.clients.open_webui import WebUI
from glue.clients.site import Site
from glue.core.settings import REPOSITORY
from glue.machine import certificates
from tests.e2e.conftest import Glue
from tests.machine import certificate_cases

LOAD_EACH = """
sed 's#/tls/chat.pem#/tmp/chat.pem#' /etc/https-proxy/haproxy.cfg > /tmp/proxy.cfg
for file in /files/*; do
  cp "$file" /tmp/chat.pem
  if haproxy -c -f /tmp/proxy.cfg </dev/null >/dev/null 2>&1; then basename "$file"; fi
done
"""
QUESTION = [{"role": "user", "content": "What is the code of the lathe?"}]


@pytest.fixture(scope="module")
def proxy(site: Site, glue: Glue) -> tuple[str, Path]:
    done = glue("https", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    return found["urls"][0], Path(found["trust"])


@pytest.fixture
def person(proxy: tuple[str, Path], site: Site) -> WebUI:
    url, trust = proxy
    found = webui_accounts.administrator(site.settings)
    found.url, found.session.verify = url, str(trust)
    found.session.trust_env = (
        False  # or a CA bundle named in the environment goes before the one named here
    )
    return found


def test_a_client_that_does_not_trust_the_authority_is_refused(proxy: tuple[str, Path]) -> None:
    with pytest.raises(requests.exceptions.SSLError):
        requests.get(proxy[0], timeout=30)
    old = ssl.create_default_context(cafile=str(proxy[1]))
    # as lenient as a client can be, so that it is the proxy that refuses
    old.set_ciphers("ALL:@SECLEVEL=0")
    old.minimum_version, old.maximum_version = (
        ssl.TLSVersion.MINIMUM_SUPPORTED,
        ssl.TLSVersion.TLSv1_1,
    )
    with pytest.raises(OSError, match="protocol version"):
        urllib.request.urlopen(proxy[0], context=old, timeout=30)


def test_streams_are_complete_with_their_sources(person: WebUI) -> None:
    def ask(_: int) -> bool:
        answer = person.ask(QUESTION)
        return bool(answer.text.strip() and answer.sources)

    with ThreadPoolExecutor(4) as several:
        assert all(several.map(ask, range(24)))


def test_the_page_s_web_socket_opens(proxy: tuple[str, Path]) -> None:
    upgrade = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Origin": proxy[0],
    }
    key = {"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}  # RFC 6455's own example
    url = f"{proxy[0]}/ws/socket.io/?EIO=4&transport=websocket"
    with requests.get(
        url, headers=upgrade | key, verify=str(proxy[1]), timeout=30, stream=True
    ) as answer:
        assert answer.status_code == 101


def test_cookies_travel_by_https_only_and_too_large_a_document_is_not_read(
    proxy: tuple[str, Path], site: Site
) -> None:
    url, trust = proxy
    form = {
        "email": site.settings["WEBUI_ADMIN_EMAIL"],
        "password": site.settings["WEBUI_ADMIN_PASSWORD"],
    }
    answer = requests.post(f"{url}/api/v1/auths/signin", json=form, verify=str(trust), timeout=30)
    assert answer.status_code == 200 and "secure" in answer.headers["Set-Cookie"].lower()
    assert (
        answer.headers["Strict-Transport-Security"] == "max-age=0"
    )  # HTTP on other ports of this name stays reachable
    with requests.Session() as session:
        request = requests.Request("POST", f"{url}/api/v1/files/", data=b"x").prepare()
        request.headers["Content-Length"] = "200000000"
        assert session.send(request, verify=str(trust), timeout=30).status_code == 413


def test_glue_loads_exactly_the_certificates_that_the_proxy_loads(
    site: Site, tmp_path: Path
) -> None:
    files, kinds = (
        certificate_cases.make(tmp_path),
        (*certificate_cases.SERVED, *certificate_cases.REFUSED),
    )
    for path in files.iterdir():
        if path.name not in kinds:
            path.unlink()
    mounts = (
        f"--volume={files}:/files:ro",
        f"--volume={REPOSITORY}/images/https-proxy:/etc/https-proxy:ro",
    )
    command = [
        docker_cli(),
        "run",
        "--rm",
        "--network=none",
        "--pull=never",
        *mounts,
        "--entrypoint=sh",
    ]
    done = subprocess.run(
        [*command, site.settings.image("DOOR_IMAGE"), "-c", LOAD_EACH],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert {kind for kind in kinds if loads(files / kind)} == set(done.stdout.splitlines())


def loads(certificate: Path) -> bool:
    try:
        certificates.loaded(certificate)
    except certificates.Unusable:
        return False
    return True
