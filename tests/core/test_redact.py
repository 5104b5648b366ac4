"""Text that must be hidden, in every form in which programs write it."""

import json
from urllib.parse import quote

import pytest

from glue.core import redact, settings
from glue.core.errors import GlueError

WEBHOOK = "https://chat.example.org/services/T0001/B0002/very-private-token"
VALUES = {
    "SMTP_PASSWORD": 'sch"\u00f6n\\\\0123',  # pragma: allowlist secret
    "NOTIFY_WEBHOOK": WEBHOOK,
    "HF_ENDPOINT": "https://mirror:Mirror%21Pass@hub.example.org",  # pragma: allowlist secret
}


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        (
            "https://uma:pass@hub.example.org/x",  # pragma: allowlist secret
            "https://(hidden)@hub.example.org/x",
        ),
        (
            "proxy http://uma:p@ss/w:rd@10.0.0.1:3128 refused",  # pragma: allowlist secret
            "proxy http://(hidden)@10.0.0.1:3128 refused",
        ),
        (
            "rest:https://uma:pass@backup/",  # pragma: allowlist secret
            "rest:https://(hidden)@backup/",
        ),
        ("ssh://git@example.org", "ssh://(hidden)@example.org"),
        (json.dumps("https://u:p@h").replace("/", "\\/"), '"https:\\/\\/(hidden)@h"'),
        ("?next=" + quote("https://u:p@h", safe=""), "?next=https%3A%2F%2F(hidden)%40h"),
        (
            "https://hooks.chat.example/services/T1/abc failed",
            "https://hooks.chat.example/(hidden) failed",
        ),
        ("https://chat.example.org/api/webhooks/12/abc", "https://chat.example.org/(hidden)"),
        ("http://127.0.0.1:3000, mail it@example.org", None),
        ("https://docs.example.org/a/b", None),
    ],
)
def test_logins_and_webhooks_are_hidden_in_any_url(said: str, shown: str | None) -> None:
    assert redact.urls(said) == (shown or said)


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ('{"token": "abcdefghijklmnopqrst"}', '{"token": "(hidden)"}'),
        ("api_key=abcdefghijklmnopqrst", "api_key=(hidden)"),
        ("/workflows/1?sig=abcdefghij%2Fklmnopqrst", "/workflows/1?sig=(hidden)"),
        ("Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==", "Authorization: Basic (hidden)"),
        ("Authorization: Bearer abcdefghijklmnopqrst", "Authorization: Bearer (hidden)"),
        ("cookie eyJhbGciOiJIUzI1NiIsInR5cCI6", "cookie eyJ(hidden)"),
        ("prompt_tokens: 12345678901234567890, first_token_seconds=0.1", None),
        ("to Uma Thurgau <uma.thurgau@example.org>, it@spark", "to (person), (person)"),
        ("[Errno 13] '/home/uma/state/x'", "[Errno 13] '/home/(person)/state/x'"),
        ("Thurgau's, Thurgauer", "(person)'s, Thurgauer"),
        (json.dumps("M\u00fcller"), '"(person)"'),
    ],
)
def test_a_support_bundle_shows_figures_but_no_keys_and_no_people(
    said: str, shown: str | None
) -> None:
    assert redact.strangers(said, ["Thurgau", "M\u00fcller"]) == (shown or said)


@pytest.mark.parametrize(
    "said",
    [
        json.dumps(VALUES),
        json.dumps(VALUES, ensure_ascii=False),
        "\n".join(VALUES.values()),
        "Max retries exceeded with url: /services/T0001/B0002/very-private-token (Caused by ...)",
        "login failed for mirror with Mirror!Pass",
        quote(WEBHOOK, safe=""),
    ],
)
def test_a_secret_is_hidden_whole_in_parts_and_in_any_encoding(said: str) -> None:
    hidden = redact.hidden(said, redact.secrets(VALUES, settings.HIDDEN))
    for private in ("0123", "very-private-token", "Mirror!Pass", "Mirror%21Pass"):
        assert private not in hidden


def test_an_error_and_a_setting_show_no_login_of_a_url() -> None:
    error = GlueError("no", "https://uma:pass@hub.example.org: 401", "set http://uma:pass@x")
    assert "pass@" not in str(error) and "hub.example.org: 401" in error.saw
