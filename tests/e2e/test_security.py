"""Who can reach what on the running stack."""

import json
import subprocess
from typing import Any

import pytest
import requests

from glue.clients.compose import docker_cli
from glue.clients.open_webui import WebUI
from glue.clients.site import Site
from glue.core import services as observed

CHAT_PATHS = (
    *(
        "/api/models",
        "/api/v1/chats/",
        "/api/v1/chats/all/db",
        "/api/v1/users/",
        "/api/v1/users/all",
        "/api/v1/knowledge/",
    ),
    *(
        "/api/v1/files/",
        "/api/v1/functions/",
        "/api/v1/models/export",
        "/api/v1/prompts/",
        "/api/v1/configs/export",
    ),
    *(
        "/api/v1/evaluations/feedbacks/all/export",
        "/api/v1/utils/db/download",
        "/openai/models",
        "/openai/config",
        "/api/usage",
    ),
)
# a scan in plain Python, from a container: host=port,port,... or host=first-last for each
SCAN = """
import asyncio, json, sys
async def knock(host, port, gate):
    async with gate:
        try:
            _, writer = await asyncio.wait_for(asyncio.open_connection(host, port), 5)
        except (OSError, asyncio.TimeoutError):
            return None
        writer.close()
        return port
async def main(asked):
    gate = asyncio.Semaphore(500)
    for host, ports in (part.split("=") for part in asked):
        first, _, last = ports.partition("-")
        listed = map(int, filter(None, ports.split(",")))
        chosen = range(int(first), int(last) + 1) if last else listed
        found = await asyncio.gather(*(knock(host, port, gate) for port in chosen))
        print(json.dumps({host: [port for port in found if port]}), flush=True)
asyncio.run(main(sys.argv[1:]))
"""
SCANNED = "1-9999"


def routes(site: Site) -> list[str]:
    described: dict[str, Any] = site.vllm().call("GET", "/openapi.json").json()
    return sorted(described["paths"])


def test_every_path_of_vllm_requires_the_key_except_health(site: Site) -> None:
    address, paths = site.stacks.address("vllm"), routes(site)
    assert {"/tokenize", "/metrics", "/v1/load_lora_adapter", "/v1/chat/completions"} <= {
        *paths,
        "/metrics",
    }
    for path in [*paths, "/metrics", "/docs", "/openapi.json"]:
        if path != "/health":
            for method in ("GET", "POST", "OPTIONS"):
                answer = requests.request(method, f"http://{address}{path}", json={}, timeout=10)
                assert answer.status_code == 401, f"{method} {path}: {answer.status_code}"


def test_the_night_desk_requires_the_key(site: Site) -> None:
    address = site.stacks.address("night-desk")
    for method, path in (
        ("GET", "/v1/models"),
        ("POST", "/v1/chat/completions"),
        ("POST", "/v1/completions"),
        ("GET", "/"),
    ):
        answer = requests.request(method, f"http://{address}{path}", json={}, timeout=10)
        assert answer.status_code in (401, 404) and "back at" not in answer.text, (
            f"{method} {path}: {answer.status_code}"
        )


def test_a_port_scan_from_outside_finds_only_the_chat(site: Site) -> None:
    """From outside only ports that are open inside are tried; a closed port answers at once."""
    services = (*observed.DAY_SERVICES, observed.HTTPS_PROXY)
    published = {
        name: {(row["HostIp"], row["HostPort"]) for rows in ports.values() if rows for row in rows}
        for name in services
        if (container := site.stacks.container("day", name))
        and (ports := container.attrs["NetworkSettings"]["Ports"])
    }
    chat, proxy = (
        (site.settings[f"{key}_ADDRESS"], site.settings[f"{key}_PORT"]) for key in ("CHAT", "HTTPS")
    )
    assert {name: rows for name, rows in published.items() if rows} == {
        "open-webui": {chat},
        "https-proxy": {proxy},
    }
    inside = scanned(site, f"{site.settings['PROJECT']}-daynight", dict.fromkeys(services, SCANNED))
    assert (
        8000 in inside["vllm"] and 8000 in inside["night-desk"] and 8080 in inside["open-webui"]
    ), "the scan sees nothing"
    outside = scanned(
        site, "bridge", {name: ",".join(map(str, ports)) for name, ports in inside.items()}
    )
    assert outside.keys() == set(services)
    assert {
        name: ports
        for name, ports in outside.items()
        if ports and name not in ("open-webui", "https-proxy")
    } == {}


def scanned(site: Site, network: str, ports: dict[str, str]) -> dict[str, list[int]]:
    """Service -> its open ports among these, as seen from a container in that network."""
    there = site.stacks.services("day")
    hosts = {there[name].address: name for name in ports}
    command = [docker_cli(), "run", "--rm", f"--network={network}", "--entrypoint=python3"]
    command += [
        site.settings.image("NIGHT_DESK_IMAGE"),
        "-c",
        SCAN,
        *(f"{host}={ports[name]}" for host, name in hosts.items()),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=True)
    return {
        hosts[host]: found
        for line in done.stdout.splitlines()
        for host, found in json.loads(line).items()
    }


@pytest.mark.parametrize("path", CHAT_PATHS)
def test_the_chat_shows_nothing_without_sign_in(path: str, site: Site) -> None:
    answer = requests.get(site.settings.chat_url + path, timeout=30)
    # 401 and 403, or the page itself, which is the same for everybody and holds nothing
    assert (
        answer.status_code in (401, 403, 404) or "<!doctype html>" in answer.text.lower()[:300]
    ), answer.text[:200]


def test_the_chat_s_public_pages_name_no_person_and_no_document(site: Site, member: WebUI) -> None:
    told = requests.get(f"{site.settings.chat_url}/api/config", timeout=30).text
    for private in (
        site.settings["WEBUI_ADMIN_EMAIL"],
        member.user["email"],
        "site-sheet",
        *site.settings.values["MODEL_API_KEY"].split(),
    ):
        assert private not in told
    assert json.loads(told)["features"]["enable_signup"] is False


def test_signing_up_and_a_wrong_password_are_refused(site: Site) -> None:
    form = {"name": "Eve", "email": "eve@example.org", "password": 4 * site.settings["PROJECT"]}
    assert (
        requests.post(
            f"{site.settings.chat_url}/api/v1/auths/signup", json=form, timeout=30
        ).status_code
        == 403
    )
    wrong = {"email": site.settings["WEBUI_ADMIN_EMAIL"], "password": form["name"]}
    assert requests.post(
        f"{site.settings.chat_url}/api/v1/auths/signin", json=wrong, timeout=30
    ).status_code in (400, 401)
