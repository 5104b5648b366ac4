"""Certificates by the real openssl, judged by Python's own TLS."""

import ssl
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from glue import settings, tls
from glue.site import Site
from glue.types import PreconditionFailed

NAMES = "localhost,127.0.0.1"


def site(state: Path, **more: str) -> Site:
    found = settings.load("rehearsal")
    values = found.values | {"STATE_DIR": str(state), "HTTPS_NAMES": NAMES} | more
    return Site(replace(found, values=values), None, print)  # type: ignore[arg-type]


def shake_hands(state: Path, name: str, trust: Path) -> str:
    """A TLS handshake in memory; returns "" or why the client does not trust the server."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(state / "tls" / "chat.pem")
    client = ssl.create_default_context(cafile=str(trust))
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    here, there = client.wrap_bio(down, up, server_hostname=name), server.wrap_bio(up, down, server_side=True)
    for _ in range(4):
        for side in (here, there):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLCertVerificationError as error:
                return error.verify_message
    return ""


def test_who_trusts_the_authority_trusts_the_chat_by_its_names_and_no_other(tmp_path: Path) -> None:
    assert tls.ensure(site(tmp_path)) is True
    authority = tmp_path / "tls" / "authority.pem"
    assert [shake_hands(tmp_path, name, authority) for name in ("localhost", "127.0.0.1")] == ["", ""]
    assert "doesn't match" in shake_hands(tmp_path, "example.org", authority) or "mismatch" in shake_hands(
        tmp_path, "example.org", authority
    )
    for name in ("chat.pem", "authority.key"):
        assert (tmp_path / "tls" / name).stat().st_mode & 0o077 == 0
    assert sorted(path.name for path in (tmp_path / "tls").glob("new.*")) == []


def test_a_good_certificate_stays_and_another_name_makes_another_by_the_same_authority(tmp_path: Path) -> None:
    tls.ensure(site(tmp_path))
    before, authority = (tmp_path / "tls" / "chat.pem").read_text(), (tmp_path / "tls" / "authority.pem").read_text()
    assert tls.ensure(site(tmp_path)) is False
    assert (tmp_path / "tls" / "chat.pem").read_text() == before
    assert tls.ensure(site(tmp_path, HTTPS_NAMES="spark.example.org")) is True
    assert (tmp_path / "tls" / "authority.pem").read_text() == authority
    assert shake_hands(tmp_path, "spark.example.org", tmp_path / "tls" / "authority.pem") == ""


def test_one_that_ends_within_a_month_is_renewed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tls, "DAYS", 29)
    tls.ensure(site(tmp_path))
    monkeypatch.undo()
    assert tls.ensure(site(tmp_path)) is True
    assert tls.ensure(site(tmp_path)) is False


def test_the_offices_own_certificate_is_taken_and_a_bad_one_is_refused(tmp_path: Path) -> None:
    own = tmp_path / "own.pem"
    command = ["openssl", "req", "-x509", *tls.KEY, "-days", "90", "-subj", "/CN=own", "-addext", "subjectAltName=DNS:own"]
    subprocess.run([*command, "-keyout", str(tmp_path / "k"), "-out", str(tmp_path / "c")], check=True, capture_output=True)
    own.write_text((tmp_path / "c").read_text())
    with pytest.raises(PreconditionFailed, match="cannot be used"):
        tls.ensure(site(tmp_path, HTTPS_CERTIFICATE=str(own)))
    own.write_text((tmp_path / "c").read_text() + (tmp_path / "k").read_text())
    assert tls.ensure(site(tmp_path, HTTPS_CERTIFICATE=str(own))) is True
    assert tls.ensure(site(tmp_path, HTTPS_CERTIFICATE=str(own))) is False
    assert shake_hands(tmp_path, "own", tmp_path / "c") == ""
    with pytest.raises(PreconditionFailed, match="cannot be read"):
        tls.ensure(site(tmp_path, HTTPS_CERTIFICATE="/nowhere"))
