"""Three people in real browsers teach in every way that Open WebUI's pages offer, and the data
set has what they taught."""

from __future__ import annotations

import json
import secrets
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser

from glue.clients import knowledge, open_webui, suggestions
from glue.clients.open_webui import WebUI
from glue.clients.site import Site
from glue.core.settings import REPOSITORY
from tests.e2e import browser as hands
from tests.e2e.browser import Member
from tests.e2e.conftest import Glue

NAMES = ("Bea", "Carl", "Dora")
Rows = list[dict[str, Any]]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    script = ["bash", str(REPOSITORY / "scripts" / "install-browser.sh")]
    path = subprocess.run(
        script, check=True, stdout=subprocess.PIPE, text=True, timeout=900
    ).stdout.strip()
    with hands.chromium(path) as browser:
        yield browser


@pytest.fixture(scope="module")
def people(site: Site) -> Iterator[dict[str, tuple[WebUI, str]]]:
    """Name -> (API session, password). Their ratings are deleted, so that no night learns from a
    test."""
    found = {}
    for name in NAMES:
        password, email = secrets.token_urlsafe(24), f"{name.lower()}@rehearsal.local"
        site.administrator().ensure_user(name, email, password)
        found[name] = (open_webui.sign_in(site.settings.chat_url, email, password), password)
    yield found
    for person, _ in found.values():
        person.call("DELETE", "/api/v1/evaluations/feedbacks")


def at_browser(
    chromium: Browser, site: Site, people: dict[str, tuple[WebUI, str]], name: str
) -> Member:
    return Member.sign_in(
        chromium, site.settings.https_origins[0], f"{name.lower()}@rehearsal.local", people[name][1]
    )


def built(glue: Glue, site: Site, users: dict[str, str]) -> tuple[Rows, Rows]:
    """(examples, preferences) of these people in the data set that glue builds now."""
    done = glue("dataset", "build", "--json")
    assert done.returncode == 0, done.stderr
    folder = site.state / "dataset"
    rows = {
        name: [json.loads(line) for line in (folder / f"{name}.jsonl").read_text().splitlines()]
        for name in PARTS
    }
    theirs = {
        name: [row for row in part if row["origin"]["user"] in users] for name, part in rows.items()
    }
    return theirs["train"] + theirs["held_out"], theirs["preferences"]


PARTS = ("train", "held_out", "preferences")


def test_a_member_sees_only_the_team_assistant(chromium: Browser, site: Site, people: Any) -> None:
    assert at_browser(chromium, site, people, "Bea").offered_models() == [
        "Select Team Assistant model"
    ]


def test_a_new_member_sees_the_team_s_name_its_own_suggestions_and_how_to_teach(
    chromium: Browser, site: Site, people: Any
) -> None:
    bea = at_browser(chromium, site, people, "Bea")
    shown, team = bea.first_words(), site.settings["TEAM_NAME"]
    assert team in bea.page.title()
    assert f"{team} Assistant" in shown and "Edit the answer, Save as copy, thumbs up" in shown
    person = site.administrator()
    collection = knowledge.current(person, site.state)
    documents = [one.name for one in knowledge.held(person, collection)]
    ours = [row["content"] for row in suggestions.made(site.state, documents)]
    offered = bea.page.locator("[role=listitem] button").all_inner_texts()
    assert offered and {one.splitlines()[0] for one in offered} == set(ours)


def test_the_data_set_has_what_three_people_taught(
    chromium: Browser, site: Site, glue: Glue, people: Any
) -> None:
    users = {people[name][0].user["id"]: name for name in NAMES}
    expected: list[tuple[str, str, str, str]] = []

    bea = at_browser(chromium, site, people, "Bea")
    bea.ask("What is the code of the lathe?")
    good = bea.text()
    bea.thumb(up=True)
    bea.say_why(9, "Accurate information", "exactly right")
    expected.append(("Bea", "What is the code of the lathe?", good, "rated answer"))
    bea.new_chat()
    bea.ask("What is the code of the crane?")
    crane = bea.text()
    bea.thumb(up=False)
    bea.say_why(2, "Not factually correct", "it is on a new code")
    bea.new_chat()
    bea.ask("Whose forge is that, by the way?")  # nobody rates this one

    carl = at_browser(chromium, site, people, "Carl")
    carl.ask("Tell me the code of the kiln.")
    kiln = carl.text()
    carl.edit("The code of the kiln is A10 since Monday.", copy=True)
    carl.thumb(up=True)
    expected.append(
        (
            "Carl",
            "Tell me the code of the kiln.",
            "The code of the kiln is A10 since Monday.",
            "corrected answer",
        )
    )
    carl.new_chat()
    carl.ask("Which code does the dock have?")
    dock = carl.text()
    carl.thumb(up=False)
    carl.say_why(1, "Not factually correct", "wrong since Monday")
    _, before = built(glue, site, users)
    assert ("disliked", "", dock) in said(before)
    carl.edit("The dock has A11 now.", copy=False)
    carl.thumb(up=True)
    expected.append(
        ("Carl", "Which code does the dock have?", "The dock has A11 now.", "edited answer")
    )

    dora = at_browser(chromium, site, people, "Dora")
    dora.ask("I need the fan code.")
    fan = dora.text()
    dora.thumb(up=False)
    dora.ask_again()
    dora.edit("The fan runs under A12.", copy=False)
    dora.thumb(up=True)
    expected.append(
        ("Dora", "I need the fan code.", "The fan runs under A12.", "regenerated answer")
    )
    dora.ask("Code for the mixer, please?")
    dora.edit("For the mixer it is A13.", copy=True)
    dora.thumb(up=True)
    expected.append(
        ("Dora", "Code for the mixer, please?", "For the mixer it is A13.", "corrected answer")
    )
    dora.new_chat()
    dora.ask("Do you know the code of the tank?")
    dora.thumb(up=True)
    withdrawn_by_herself = dora.chat_id
    feedback = people["Dora"][0].call("GET", "/api/v1/evaluations/feedbacks/user")["items"]
    tank = next(
        row["id"]
        for row in feedback
        if (row.get("meta") or {}).get("chat_id") == withdrawn_by_herself
    )
    people["Dora"][0].call("DELETE", f"/api/v1/evaluations/feedback/{tank}")

    carl.new_chat()
    carl.ask("What is the code of the silo?")
    carl.thumb(up=True)
    withdrawn_by_administrator = carl.chat_id
    settings = site.settings
    origin = settings.https_origins[0]
    hands.delete_newest_rating(
        chromium, origin, settings["WEBUI_ADMIN_EMAIL"], settings["WEBUI_ADMIN_PASSWORD"]
    )

    examples, preferences = built(glue, site, users)
    assert sorted(map(row_of(users), examples)) == sorted(expected)
    assert sorted(said(preferences)) == sorted(
        [
            ("disliked", "", crane),
            ("disliked", "", fan),
            ("corrected answer", "The code of the kiln is A10 since Monday.", kiln),
            ("edited answer", "The dock has A11 now.", dock),
            ("regenerated answer", "The fan runs under A12.", fan),
            ("corrected answer", "For the mixer it is A13.", dora_first(preferences)),
        ]
    )
    noted = {row["prompt"][-1]["content"]: row["origin"]["note"] for row in examples}
    assert noted["What is the code of the lathe?"] == "accurate_information, 9 of 10"
    assert {row["comment"] for row in preferences} >= {"it is on a new code"}
    assert all("<source id=" in row["prompt"][0]["content"] for row in examples), (
        "the passages that the model saw are missing"
    )
    followed = next(
        row for row in examples if row["prompt"][-1]["content"] == "Code for the mixer, please?"
    )
    assert [message["content"] for message in followed["prompt"][1:]] == [
        "I need the fan code.",
        "The fan runs under A12.",
        "Code for the mixer, please?",
    ]
    everything = "".join(path.read_text() for path in (site.state / "dataset").iterdir())
    for gone in (withdrawn_by_herself, withdrawn_by_administrator, "Whose forge"):
        assert gone not in everything


def row_of(users: dict[str, str]) -> Any:
    def row(example: dict[str, Any]) -> tuple[str, str, str, str]:
        origin = example["origin"]
        return (
            users[origin["user"]],
            example["prompt"][-1]["content"],
            example["completion"][0]["content"],
            origin["kind"],
        )

    return row


def said(preferences: Rows) -> list[tuple[str, str, str]]:
    return [
        (
            row["kind"],
            "".join(message["content"] for message in row["chosen"]),
            row["rejected"][0]["content"],
        )
        for row in preferences
    ]


def dora_first(preferences: Rows) -> str:
    """The model's own first answer about the mixer."""
    asked = {
        row["prompt"][-1]["content"]: str(row["rejected"][0]["content"]) for row in preferences
    }
    return asked["Code for the mixer, please?"]
