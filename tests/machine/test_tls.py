"""Certificates made by the real openssl and checked by Python's TLS."""

import os
import ssl
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from glue.clients.site import Site
from glue.core import settings
from glue.core.errors import PreconditionFailed
from glue.machine import tls
from glue.serving import day
from tests.machine import certificate_cases
from tests.machine.certificate_cases import Office

NAMES = "localhost,127.0.0.1"
NAMED = "DNS:localhost,IP:127.0.0.1"


def site(state: Path, **more: str) -> Site:
    found = settings.load("rehearsal")
    values = found.values | {"STATE_DIR": str(state), "HTTPS_NAMES": NAMES} | more
    return Site(replace(found, values=values), None, print)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return certificate_cases.make(tmp_path_factory.mktemp("office"))


@pytest.fixture
def office(made: Path, tmp_path: Path) -> Office:
    return Office(made, tmp_path, site(tmp_path, HTTPS_CERTIFICATE=str(tmp_path / "own.pem")))


def shake_hands(state: Path, name: str, trust: Path) -> str:
    """A TLS handshake in memory. Returns "" or why the client does not trust the server."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(state / "tls" / "chat.pem")
    client = ssl.create_default_context(cafile=str(trust))
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    here, there = (
        client.wrap_bio(down, up, server_hostname=name),
        server.wrap_bio(up, down, server_side=True),
    )
    for _ in range(4):
        for side in (here, there):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLCertVerificationError as error:
                return error.verify_message
    return ""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes files for another user")
def test_certificates_made_by_root_belong_to_the_state_folder_s_owner(
    tmp_path: Path,
) -> None:
    os.chown(tmp_path, 12345, 12345)
    assert tls.ensure(site(tmp_path)) is True
    made = [tmp_path / "tls", tmp_path / "tls" / "authority.key", tmp_path / "tls" / "chat.pem"]
    assert {(path.stat().st_uid, path.stat().st_gid) for path in made} == {(12345, 12345)}
    assert tmp_path.joinpath("tls", "authority.pem").stat().st_uid == 12345


def test_a_client_that_trusts_the_authority_accepts_the_chat_s_names_only(tmp_path: Path) -> None:
    assert tls.ensure(site(tmp_path)) is True
    authority = tmp_path / "tls" / "authority.pem"
    assert [shake_hands(tmp_path, name, authority) for name in ("localhost", "127.0.0.1")] == [
        "",
        "",
    ]
    assert "doesn't match" in shake_hands(
        tmp_path, "example.org", authority
    ) or "mismatch" in shake_hands(tmp_path, "example.org", authority)
    for name in ("chat.pem", "authority.key"):
        assert (tmp_path / "tls" / name).stat().st_mode & 0o077 == 0
    assert sorted(path.name for path in (tmp_path / "tls").glob("new.*")) == []


def test_a_new_name_gives_a_new_certificate_by_the_same_authority(
    tmp_path: Path,
) -> None:
    tls.ensure(site(tmp_path))
    before, authority = (
        (tmp_path / "tls" / "chat.pem").read_text(),
        (tmp_path / "tls" / "authority.pem").read_text(),
    )
    assert tls.ensure(site(tmp_path)) is False
    assert (tmp_path / "tls" / "chat.pem").read_text() == before
    assert tls.ensure(site(tmp_path, HTTPS_NAMES="spark.example.org")) is True
    assert (tmp_path / "tls" / "authority.pem").read_text() == authority
    assert shake_hands(tmp_path, "spark.example.org", tmp_path / "tls" / "authority.pem") == ""


def test_a_certificate_that_expires_within_a_month_is_renewed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls, "DAYS", 29)
    tls.ensure(site(tmp_path))
    monkeypatch.undo()
    assert tls.ensure(site(tmp_path)) is True
    assert tls.ensure(site(tmp_path)) is False


def make_own(folder: Path, days: int) -> Path:
    """Certificate and key in one file, with separate files c and k beside it."""
    command = [
        "openssl",
        "req",
        "-x509",
        *tls.KEY,
        "-days",
        str(days),
        "-subj",
        "/CN=own",
        "-addext",
        f"subjectAltName={NAMED}",
    ]
    subprocess.run(
        [*command, "-keyout", str(folder / "k"), "-out", str(folder / "c")],
        check=True,
        capture_output=True,
    )
    own = folder / "own.pem"
    own.write_text((folder / "c").read_text() + (folder / "k").read_text())
    return own


def test_a_site_certificate_that_expires_soon_is_served_but_make_https_fails(
    tmp_path: Path,
) -> None:
    here = site(tmp_path, HTTPS_CERTIFICATE=str(make_own(tmp_path, days=20)))
    assert tls.refresh(here) is True and tls.refresh(here) is False
    assert shake_hands(tmp_path, "localhost", tmp_path / "c") == ""
    assert "expires within a month" in tls.own_fault(here)
    with pytest.raises(PreconditionFailed, match="cannot be used"):
        day.https(here)


@pytest.mark.parametrize("fault", ["gone", "no PEM"])
def test_a_day_keeps_its_certificate_if_there_is_no_better_one(
    fault: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = make_own(tmp_path, days=90)
    here = site(tmp_path, HTTPS_CERTIFICATE=str(own))
    tls.refresh(here)
    before = (tmp_path / "tls" / "chat.pem").read_text()
    if fault == "gone":
        own.unlink()
    if fault == "no PEM":
        own.write_bytes(b"\x30\x82\xff")
    assert tls.refresh(here) is False
    assert (tmp_path / "tls" / "chat.pem").read_text() == before
    assert "the old certificate stays" in capsys.readouterr().out
    (tmp_path / "tls" / "chat.pem").unlink()
    with pytest.raises(PreconditionFailed):
        tls.refresh(here)


def test_a_removed_site_certificate_is_replaced_by_one_made_here(tmp_path: Path) -> None:
    tls.ensure(site(tmp_path))
    tls.ensure(site(tmp_path, HTTPS_CERTIFICATE=str(make_own(tmp_path, days=90))))
    assert tls.ensure(site(tmp_path)) is True
    assert shake_hands(tmp_path, "localhost", tmp_path / "tls" / "authority.pem") == ""
    assert tls.ensure(site(tmp_path)) is False


@pytest.mark.parametrize("left", [b"", b"-----BEGIN CERTIFICATE-----\nMIIB"], ids=["empty", "cut"])
def test_a_damaged_certificate_is_made_again(left: bytes, tmp_path: Path) -> None:
    tls.ensure(site(tmp_path))
    (tmp_path / "tls" / "chat.pem").write_bytes(left)
    assert tls.ensure(site(tmp_path)) is True
    assert shake_hands(tmp_path, "localhost", tmp_path / "tls" / "authority.pem") == ""


def test_a_good_site_certificate_is_installed_and_a_bad_one_is_refused(tmp_path: Path) -> None:
    own = make_own(tmp_path, days=90)
    own.write_text((tmp_path / "c").read_text())
    with pytest.raises(PreconditionFailed, match="cannot be used"):
        tls.ensure(site(tmp_path, HTTPS_CERTIFICATE=str(own)))
    own.write_text((tmp_path / "c").read_text() + (tmp_path / "k").read_text())
    assert tls.ensure(site(tmp_path, HTTPS_CERTIFICATE=str(own))) is True
    assert tls.ensure(site(tmp_path, HTTPS_CERTIFICATE=str(own))) is False
    assert shake_hands(tmp_path, "localhost", tmp_path / "c") == ""
    with pytest.raises(PreconditionFailed, match="cannot be read"):
        tls.ensure(site(tmp_path, HTTPS_CERTIFICATE="/nowhere"))


# ---------------------------------------------------------------------- what the office puts there


@pytest.mark.parametrize("kind", certificate_cases.SERVED)
def test_a_valid_certificate_file_is_installed_in_any_form(kind: str, office: Office) -> None:
    office.put("good")
    assert tls.ensure(office.site) is True
    office.put(kind)
    assert tls.ensure(office.site) is (kind not in ("good", "crlf"))
    assert shake_hands(office.state, "localhost", office.root) == ""
    assert tls.own_fault(office.site) == ""


@pytest.mark.parametrize(("kind", "words"), certificate_cases.REFUSED.items())
def test_a_certificate_that_cannot_serve_never_replaces_one_that_does(
    kind: str, words: str, office: Office, capsys: pytest.CaptureFixture[str]
) -> None:
    office.put("good")
    tls.ensure(office.site)
    office.put(kind)
    assert tls.refresh(office.site) is False
    assert (
        shake_hands(office.state, "localhost", office.root)
        == shake_hands(office.state, "127.0.0.1", office.root)
        == ""
    )
    assert words in capsys.readouterr().out and words in tls.own_fault(office.site)
    assert sorted(path.name for path in (office.state / "tls").iterdir()) == ["chat.pem"]


@pytest.mark.parametrize("kind", ["expired", "wrong name", "no intermediate"])
def test_without_any_certificate_a_flawed_one_is_installed(kind: str, office: Office) -> None:
    office.put(kind)
    assert tls.refresh(office.site) is True
    office.put("good")
    assert tls.refresh(office.site) is True


def test_make_https_fails_if_the_day_keeps_its_old_certificate(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    tls.ensure(site(office.state))  # made here
    monkeypatch.setattr(day, "start", tls.refresh)
    office.put("no intermediate")
    with pytest.raises(PreconditionFailed, match="cannot be used") as error:
        day.https(office.site)
    assert "its issuer is neither in the file nor known here" in error.value.saw
    office.put("good")
    assert day.https(office.site)["trust"] == str(office.state / "own.pem")


def test_an_unknown_issuer_is_only_a_warning(office: Office) -> None:
    office.put("no intermediate")
    tls.require_own(office.site)
    assert "its issuer is neither in the file nor known here" in tls.own_fault(office.site)
    values = office.site.settings.values | {"EXTRA_CA": str(office.folder / "int.pem")}
    known = replace(office.site, settings=replace(office.site.settings, values=values))
    assert tls.own_fault(known) == ""


def test_a_name_that_is_not_ascii_is_in_the_certificate_as_browsers_send_it(tmp_path: Path) -> None:
    here = site(tmp_path, HTTPS_NAMES="Stra\u00dfe.example,fd00::5", HTTPS_PORT="8443")
    assert here.settings.https_origins == [
        "https://xn--strae-oqa.example:8443",
        "https://[fd00::5]:8443",
    ]
    tls.ensure(here)
    for name in ("xn--strae-oqa.example", "fd00::5"):
        assert shake_hands(tmp_path, name, tmp_path / "tls" / "authority.pem") == ""
