"""The night's page and the data set's, on the real Open WebUI: who can read them, and how."""

import secrets
from collections.abc import Iterator

import pytest
import requests

from glue.clients import open_webui
from glue.clients import pages as in_chat
from glue.clients.open_webui import WebUI
from glue.clients.site import Site
from glue.serving import pages

EMAIL = "pat@rehearsal.local"


@pytest.fixture
def member(site: Site) -> WebUI:
    password = secrets.token_urlsafe(24)
    site.administrator().ensure_user("Pat", EMAIL, password)
    return open_webui.sign_in(site.settings.chat_url, EMAIL, password)


@pytest.fixture
def address(site: Site) -> Iterator[str]:
    """The note's path in the chat. As the site had it afterwards."""
    yield pages.ensure(site).removeprefix(site.settings.people_url)
    pages.ensure(site)


def get(person: WebUI, path: str) -> requests.Response:
    return person.session.get(person.url + path, timeout=30)


def test_administrators_read_the_pages_and_members_do_not(
    site: Site, member: WebUI, address: str
) -> None:
    person, shown = site.administrator(), []
    for one in in_chat.uploaded(person):
        path = f"/api/v1/files/{one}/content/html"
        assert path in (in_chat.read_note(person, address) or "")
        page = get(person, path)
        assert page.headers["content-type"].startswith("text/html")
        assert "attachment" not in page.headers.get("content-disposition", "")
        shown.append(page.text)
        assert get(member, path).status_code == 404
        assert get(WebUI(person.url), path).status_code == 401
    assert shown and sorted(shown) == sorted(
        page.path.read_text() for page in pages.wanted(site.state)
    )
    assert get(member, f"/api/v1{address}").status_code in (401, 403)
    assert not get(member, "/api/v1/notes/search").json().get("items")


def test_pages_are_sent_once_and_nothing_is_left_of_one_that_is_gone(
    site: Site, address: str
) -> None:
    person = site.administrator()
    before = in_chat.uploaded(person)
    assert pages.ensure(site).endswith(address) and in_chat.uploaded(person) == before
    in_chat.ensure(person, site.state, [])
    assert in_chat.uploaded(person) == {}
    assert get(person, f"/api/v1/files/{next(iter(before))}/content/html").status_code == 404


def test_a_note_that_people_renamed_or_deleted_is_found_or_made_anew(
    site: Site, address: str
) -> None:
    person = site.administrator()
    person.call("POST", f"/api/v1{address}/update", json={"title": "Mornings"})
    assert pages.ensure(site).endswith(address)
    person.call("DELETE", f"/api/v1{address}/delete")
    new = pages.ensure(site)
    assert not new.endswith(address) and in_chat.kept_path(site.state) in new
