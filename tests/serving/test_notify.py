"""Messages over real sockets, and what is overdue."""

import json
import re
import smtplib
import socketserver
import ssl
import tarfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer, ThreadingHTTPServer
from pathlib import Path

import pytest

from glue.cli import framework
from glue.clients import deliver
from glue.clients.site import Site
from glue.core import files, services, settings
from glue.core.errors import DayNotServing, GateRefused, GlueError, Locked, PreconditionFailed
from glue.machine import tls
from glue.operations import support
from glue.serving import last_night, notify, status
from glue.serving.last_night import NightRefused, Report
from glue.serving.status import overdue

Heard = list[tuple[str, str]]


@pytest.fixture
def heard() -> Iterator[tuple[str, Heard]]:
    """The address of a monitor that answers 200, and what it heard: (path, body)."""
    rows: Heard = []

    class Monitor(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            rows.append((self.path, self.rfile.read(int(self.headers["Content-Length"])).decode()))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Monitor)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", rows
    server.shutdown()
    server.server_close()


@pytest.fixture
def site(tmp_path: Path) -> Site:
    found = settings.load("rehearsal")
    secrets = dict.fromkeys(settings.SECRETS, "a-secret-of-this-test")
    values = found.values | secrets | {"STATE_DIR": str(tmp_path)}
    sources = found.sources | dict.fromkeys([*secrets, "STATE_DIR"], "test")
    return Site(replace(found, values=values, sources=sources), None, print)  # type: ignore[arg-type]


def configured(site: Site, **more: str) -> Site:
    values, sources = (
        site.settings.values | more,
        site.settings.sources | dict.fromkeys(more, "test"),
    )
    return replace(site, settings=replace(site.settings, values=values, sources=sources))


def test_promoted_refused_and_failed_nights_are_notified(
    site: Site, heard: tuple[str, Heard]
) -> None:
    url, rows = heard
    told = configured(site, NOTIFY_PING_URL=f"{url}/ping", NOTIFY_WEBHOOK=f"{url}/hook")
    with notify.watching(told, "night") as result:
        result |= {"night": "n1", "outcome": "promoted", "reason": "better on 12 of 12"}
    with pytest.raises(GateRefused), notify.watching(told, "night"):
        raise NightRefused(Report("n2", "refused", "no better"), site.state)
    with pytest.raises(GlueError), notify.watching(told, "night"):
        raise GlueError("the training failed", "key a-secret-of-this-test", "see")
    assert [path for path, _ in rows] == ["/ping", "/hook", "/ping", "/hook", "/ping/fail", "/hook"]
    hooks = [json.loads(body) for path, body in rows if path == "/hook"]
    assert [hook["event"] for hook in hooks] == ["night promoted", "night refused", "night failed"]
    assert "better on 12 of 12" in hooks[0]["text"] and "no better" in hooks[1]["text"]
    assert not any("a-secret" in body for _, body in rows) and "(hidden)" in hooks[2]["text"]


def test_an_outage_and_its_recovery_are_notified_once(site: Site, heard: tuple[str, Heard]) -> None:
    url, rows = heard
    told = configured(site, NOTIFY_WEBHOOK=f"{url}/hook")
    for _ in range(3):
        with suppress(DayNotServing), notify.watching(told, "reconcile"):
            raise DayNotServing("the day does not come back", "vllm exited", "make day")
    with notify.watching(told, "reconcile") as result:
        result |= {"step": "nothing", "why": "vllm exited; the next attempt comes later"}
    for _ in range(2):
        with notify.watching(told, "reconcile") as result:
            result |= {"step": "nothing", "why": services.SERVES}
    assert [json.loads(body)["event"] for _, body in rows] == [
        "day not serving",
        "day serves again",
    ]


def test_a_failure_of_the_watch_is_notified_once(site: Site, heard: tuple[str, Heard]) -> None:
    url, rows = heard
    told = configured(site, NOTIFY_WEBHOOK=f"{url}/hook")
    for error in (
        PermissionError("read-only file system"),
        PermissionError("read-only file system"),
        DayNotServing("no", "-", "-"),
    ):
        with suppress(PermissionError, DayNotServing), notify.watching(told, "reconcile"):
            raise error
    for wrong in ("day not serving", "reconcile failed"):
        files.write_json(site.state / "alarm.json", {"what": wrong, "time": 0})
        with notify.watching(told, "reconcile") as result:
            result |= {"why": services.SERVES}
    assert [json.loads(body)["event"] for _, body in rows] == [
        *("reconcile failed", "day not serving", "day serves again", "the watch works again"),
    ]


def test_an_undelivered_alarm_is_sent_again(site: Site, heard: tuple[str, Heard]) -> None:
    url, rows = heard
    for address in ("http://127.0.0.1:9", url, url):
        with (
            suppress(DayNotServing),
            notify.watching(configured(site, NOTIFY_WEBHOOK=address), "reconcile"),
        ):
            raise DayNotServing("the day does not come back", "vllm exited", "make day")
    assert [json.loads(body)["event"] for _, body in rows] == ["day not serving"]


def test_a_night_s_message_is_its_own_report_and_no_earlier_one_s(
    site: Site, heard: tuple[str, Heard]
) -> None:
    """Tonight's could not be written on a full disk: then its end stands for it."""
    url, rows = heard
    earlier = Report("n1", "promoted", adapter="a1", losses=[(1, 2.5), (2, 1.5)])
    last_night.write(site.state / "nights" / "n1", earlier, "")
    for night in ("n1", "n2"):
        with notify.watching(configured(site, NOTIFY_PING_URL=url), "night") as result:
            result |= {"night": night, "outcome": "promoted", "reason": "better on 12 of 12"}
    assert "loss 2.50" in rows[0][1] and "(night n1)" in rows[0][1]
    assert "loss" not in rows[1][1] and "(night n2)" in rows[1][1]
    assert "better on 12 of 12" in rows[1][1]


def test_a_scheduled_day_that_stays_stopped_is_notified(
    site: Site, heard: tuple[str, Heard]
) -> None:
    url, rows = heard
    with notify.watching(configured(site, NOTIFY_WEBHOOK=f"{url}/hook"), "day") as result:
        result |= {"mode": "down"}
    assert [json.loads(body)["event"] for _, body in rows] == ["day stays stopped"]


def test_a_locked_out_night_is_not_notified(site: Site, heard: tuple[str, Heard]) -> None:
    url, rows = heard
    with suppress(Locked), notify.watching(configured(site, NOTIFY_PING_URL=url), "night"):
        raise Locked("locked", "by another", "wait")
    assert rows == []


def test_an_unreachable_monitor_fails_no_command_and_its_address_is_hidden(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    address = "http://127.0.0.1:9/private-token"
    with notify.watching(configured(site, NOTIFY_PING_URL=address), "night") as result:
        result |= {"night": "n1", "outcome": "promoted"}
    said = capsys.readouterr().out
    assert (
        "NOTIFY_PING_URL was not reached" in said
        and "private-token" not in said
        and "Connection refused" in said
    )


@pytest.mark.parametrize("fault", ["a broken file", "a disk that takes nothing"])
def test_an_alarm_that_cannot_be_recorded_is_sent_and_the_error_is_raised(
    fault: str, site: Site, heard: tuple[str, Heard], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, rows = heard

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    if fault == "a broken file":
        (site.state / "alarm.json").write_text('{"wh')
    else:
        monkeypatch.setattr(files, "write_json", full)
    with (
        pytest.raises(DayNotServing),
        notify.watching(configured(site, NOTIFY_WEBHOOK=f"{url}/hook"), "day"),
    ):
        raise DayNotServing("the day does not come back", "vllm exited", "make day")
    assert [json.loads(body)["event"] for _, body in rows] == ["day not serving"]


def test_incomplete_mail_settings_fail_only_the_mail(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    notify.tell(configured(site, NOTIFY_EMAIL="it@example.org"), "night failed", "", good=False)
    assert "NOTIFY_EMAIL was not reached" in capsys.readouterr().out


def test_an_unreachable_docker_is_notified_once(
    site: Site, heard: tuple[str, Heard], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, rows = heard
    changes = {
        "DOCKER_HOST": "unix:///nowhere",
        "GLUE_NOTIFY_WEBHOOK": f"{url}/hook",
        "GLUE_STATE_DIR": str(site.state),
    }
    for key, value in changes.items():
        monkeypatch.setenv(key, value)
    for _ in range(2):
        with pytest.raises(PreconditionFailed, match="Docker does not answer"):
            framework.open_watched("rehearsal")
    assert [json.loads(body)["event"] for _, body in rows] == ["day not serving"]


# ---------------------------------------------------------------------- undelivered messages


class Webhook(BaseHTTPRequestHandler):
    """Answers /hook with `status` and `location`, everything else with 200; "drip" sends a header a
    tick and never ends."""

    status, location, drip, length = 200, "", False, 0
    heard: Heard = []  # noqa: RUF012

    def do_POST(self) -> None:
        self.heard.append(
            (self.path, self.rfile.read(int(self.headers["Content-Length"])).decode())
        )
        self.send_response(self.status if self.path == "/hook" else 200)
        self.send_header("Location", self.location)
        self.send_header("Content-Length", str(self.length))
        if self.drip:
            self.flush_headers()
            with suppress(OSError):
                while True:
                    self.wfile.write(b"X: x\r\n")
                    time.sleep(0.05)
        self.end_headers()

    def do_GET(self) -> None:
        self.heard.append((f"GET {self.path}", ""))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None: ...


@contextmanager
def webhook(certificate: Path | None = None, **answer: object) -> Iterator[tuple[str, Heard]]:
    """Its URL, and what it heard."""
    heard: Heard = []
    handler = type("Answer", (Webhook,), {**answer, "heard": heard})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads, server.block_on_close = True, False
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http{'s' if certificate else ''}://127.0.0.1:{server.server_port}/hook", heard
        server.shutdown()


@pytest.mark.parametrize("status", [301, 302, 303, 304, 404, 500])
def test_a_status_other_than_success_is_undelivered_and_never_followed_by_get(
    status: int, site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    with webhook(status=status, location="/moved") as (url, heard):
        assert not notify.tell(
            configured(site, NOTIFY_WEBHOOK=url), "night failed", "no room", good=False
        )
    assert [path for path, _ in heard] == ["/hook"]
    assert f"NOTIFY_WEBHOOK was not reached: Undelivered: HTTP {status}" in capsys.readouterr().out


@pytest.mark.parametrize("status", [307, 308])
@pytest.mark.parametrize(
    ("location", "paths"),
    [("/moved", ["/hook", "/moved"]), ("http://other.invalid/moved", ["/hook"])],
)
def test_a_redirect_that_keeps_the_message_is_followed_on_the_same_host_only(
    location: str, paths: list[str], status: int, site: Site
) -> None:
    with webhook(status=status, location=location) as (url, heard):
        told = notify.tell(
            configured(site, NOTIFY_WEBHOOK=url), "night failed", "no room", good=False
        )
    assert ([path for path, _ in heard], told) == (paths, len(paths) == 2)
    assert all("no room" in body for _, body in heard)


def test_endless_redirects_end(site: Site) -> None:
    with webhook(status=308, location="/hook") as (url, heard):
        assert not notify.tell(configured(site, NOTIFY_WEBHOOK=url), "night failed", "", good=False)
    assert len(heard) == deliver.REDIRECTS


@pytest.mark.parametrize("key", ["NOTIFY_WEBHOOK", "NOTIFY_PING_URL"])
def test_a_webhook_s_certificate_must_be_signed_by_a_known_authority(
    key: str, site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    tls.ensure(configured(site, HTTPS_NAMES="127.0.0.1"))
    with webhook(site.state / "tls" / "chat.pem") as (url, heard):
        assert not notify.tell(configured(site, **{key: url}), "night failed", "", good=False)
        assert not heard and "certificate verify failed" in capsys.readouterr().out
        office = {"EXTRA_CA": str(site.state / "tls" / "authority.pem")}
        assert notify.tell(configured(site, **{key: url}, **office), "night failed", "", good=False)
    assert len(heard) == 1


def test_a_webhook_slower_than_the_total_limit_times_out(
    site: Site, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliver, "TOTAL_SECONDS", 0.3)
    with webhook(drip=True) as (url, _):
        assert not notify.tell(configured(site, NOTIFY_WEBHOOK=url), "night failed", "", good=False)
    assert "TimeoutError: no end after 0 s" in capsys.readouterr().out


def test_an_answer_whose_body_never_ends_counts_by_its_status(site: Site) -> None:
    with webhook(length=1000000) as (url, _):
        assert notify.tell(configured(site, NOTIFY_WEBHOOK=url), "night failed", "", good=False)


def test_fail_is_part_of_a_pings_path_and_not_of_its_query() -> None:
    url = "https://monitor.example.org/api/push/1234?status=up"
    assert (
        notify.failed_or(url, good=False)
        == "https://monitor.example.org/api/push/1234/fail?status=up"
    )
    assert notify.failed_or(url, good=True) == url


def test_where_no_nights_are_wanted_none_is_overdue() -> None:
    chosen = settings.load("spark")
    none = replace(chosen, values=chosen.values | {"NIGHT_DAYS": ""})
    assert status.oldest_hours(chosen) == (50, 100) and status.oldest_hours(none) == (50, 0)
    trains = replace(chosen, values=chosen.values | {"ROLE": "train"})
    assert status.oldest_hours(trains) == (50, 0), "its peer runs them"
    now = datetime.now().astimezone()
    rows = [{"event": "day", "time": (now - timedelta(hours=2000)).isoformat()}]
    assert any("good night" in words for words in overdue(rows, now, 50, 100))
    assert not any("good night" in words for words in overdue(rows, now, 50, 0))


def test_a_message_that_did_not_arrive_is_overdue_until_one_does(site: Site) -> None:
    def words() -> list[str]:
        return overdue(
            files.read_lines(site.state / "journal.jsonl"), datetime.now().astimezone(), *LIMITS
        )

    with webhook(status=404) as (url, _):
        notify.tell(configured(site, NOTIFY_WEBHOOK=url), "night failed", "", good=False)
    assert words() == ["NOTIFY_WEBHOOK: the last message did not arrive: Undelivered: HTTP 404"]
    with webhook() as (url, _):
        notify.tell(configured(site, NOTIFY_WEBHOOK=url), "night failed", "", good=False)
    assert words() == []


class MailServer(socketserver.StreamRequestHandler):
    """A stand-in that takes one letter. certificate: it offers STARTTLS by this file. heard: each
    line, and whether TLS hid it.

    smtps: TLS from the first byte.
    """

    smtps = False

    letters: list[str] = []  # noqa: RUF012
    heard: list[tuple[str, bool]] = []  # noqa: RUF012
    certificate: Path | None = None

    def handle(self) -> None:
        if self.smtps:
            self.encrypt()
        self.wfile.write(b"220 here\r\n")
        while line := self.rfile.readline().decode(errors="replace").strip():
            self.heard.append((line, isinstance(self.request, ssl.SSLSocket)))
            if line.upper().startswith("EHLO"):
                self.wfile.write(
                    b"250-here\r\n250-AUTH PLAIN\r\n"
                    + (b"250-STARTTLS\r\n" if self.certificate and not self.smtps else b"")
                )
            if line.upper() == "STARTTLS":
                self.wfile.write(b"220 go on\r\n")
                self.encrypt()
                continue
            if line.upper() == "DATA":
                self.wfile.write(b"354 go on\r\n")
                letter = ""
                while (row := self.rfile.readline().decode()) != ".\r\n":
                    letter += row
                self.letters.append(letter)
            self.wfile.write(
                {"AUTH": b"235", "QUIT": b"221"}.get(line.upper()[:4], b"250") + b" ok\r\n"
            )
            if line.upper() == "QUIT":
                return

    def encrypt(self) -> None:
        assert self.certificate is not None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate)
        self.request = context.wrap_socket(self.request, server_side=True)
        self.rfile, self.wfile = (
            self.request.makefile("rb"),
            self.request.makefile("wb", buffering=0),
        )


def letters(
    site: Site, certificate: Path | None = None, smtps: bool = False, /, **more: str
) -> list[str]:
    """Tells of a failed night by mail, and returns what came."""
    MailServer.letters.clear()
    MailServer.heard.clear()
    MailServer.certificate, MailServer.smtps = certificate, smtps
    with socketserver.TCPServer(("127.0.0.1", 0), MailServer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        to = {
            "NOTIFY_EMAIL": "it@example.org",
            "SMTP_SERVER": f"127.0.0.1:{server.server_address[1]}",
        }
        notify.tell(
            configured(site, **to, **more), "night failed", "the trainer fell silent", good=False
        )
        server.shutdown()
    return MailServer.letters


LOGIN = "uma:pass-of-uma"
ACCOUNT = {
    "SMTP_USER": "spark@example.org",
    "SMTP_PASSWORD": "a-password-of-this-test",  # pragma: allowlist secret
}


@pytest.mark.parametrize("smtps", [False, True])
def test_a_mail_and_its_password_are_sent_by_tls_where_the_server_offers_it(
    smtps: bool, site: Site
) -> None:
    tls.ensure(configured(site, HTTPS_NAMES="127.0.0.1"))
    own, authority = site.state / "tls" / "chat.pem", site.state / "tls" / "authority.pem"
    assert len(letters(site, own, smtps, EXTRA_CA=str(authority), **ACCOUNT)) == 1
    assert all(
        encrypted
        for line, encrypted in MailServer.heard
        if line.upper().startswith(("AUTH", "MAIL", "DATA"))
    )
    assert any(line.upper().startswith("AUTH") for line, _ in MailServer.heard)


def test_smtps_on_its_own_port_never_falls_back_to_plain_text(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A stand-in for a server that speaks no TLS: smtplib's constructor with the error that it
    raises then."""

    def no_tls(*_: object, **__: object) -> None:
        raise ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version number")

    monkeypatch.setattr(smtplib, "SMTP_SSL", no_tls)
    monkeypatch.setattr(smtplib, "SMTP", lambda *where, **_: where)
    with pytest.raises(ssl.SSLError):
        deliver.connected("127.0.0.1", 465, ssl.create_default_context())
    plain: object = deliver.connected("127.0.0.1", 1025, ssl.create_default_context())
    assert plain == ("127.0.0.1", 1025)


def test_no_password_is_sent_without_tls_or_to_an_unknown_certificate(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    assert letters(site, None, False, **ACCOUNT) == []
    assert "offers no TLS" in capsys.readouterr().out
    tls.ensure(configured(site, HTTPS_NAMES="127.0.0.1"))
    assert letters(site, site.state / "tls" / "chat.pem", False, **ACCOUNT) == []
    assert not any("AUTH" in line.upper() for line, _ in MailServer.heard)


def test_a_mail_names_the_team_and_the_event(site: Site) -> None:
    (letter,) = letters(site)
    assert (
        "Subject: Team: night failed" in letter
        and "To: it@example.org" in letter
        and "fell silent" in letter
    )


# ---------------------------------------------------------------------- overdue

NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)
LIMITS = (50, 100)  # hours


def ago(hours: float, **row: str) -> dict[str, str]:
    return {"time": (NOW - timedelta(hours=hours)).isoformat(), **row}


BACKUP, NIGHT = {"event": "backup", "result": "done"}, {"night": "n", "outcome": "refused"}


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([], []),
        ([ago(1, event="day")], []),
        ([ago(49, **BACKUP), ago(99, **NIGHT)], []),
        ([ago(51, **BACKUP), ago(1, **NIGHT)], ["the last good backup was 51 h ago"]),
        ([ago(120, event="day"), ago(1, **BACKUP)], ["no good night for 120 h"]),
        (
            [ago(120, **NIGHT), ago(1, **BACKUP), ago(1, night="n", outcome="failed")],
            ["the last good night was 120 h ago"],
        ),
        (
            [
                ago(2, **NIGHT),
                ago(2, **BACKUP),
                ago(1, event="backup", result="failed", reason="full"),
            ],
            ["the last backup failed: full"],
        ),
    ],
)
def test_what_is_overdue(rows: list[dict[str, str]], words: list[str]) -> None:
    assert overdue(rows, NOW, *LIMITS) == words


# ---------------------------------------------------------------------- the bundle


@contextmanager
def bundle(site: Site) -> Iterator[tarfile.TarFile]:
    made = Path(support.support(site)["bundle"])
    assert made.stat().st_mode & 0o777 == 0o600
    with tarfile.open(made) as tar:
        yield tar


def test_a_support_bundle_needs_no_running_stack_and_holds_no_secret_and_no_person_s_text(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(site: Site) -> None:
        raise GlueError("Docker does not answer", "a-secret-of-this-test", "start it")

    monkeypatch.setattr(status, "status", broken)
    monkeypatch.setattr(support, "examined", broken)
    monkeypatch.setattr(support, "names", lambda _: ["Uma Thurgau", "Thurgau"])
    log = (
        "Authorization: Bearer eyJhbGciOiJIUzI1NiJ9.abc-def\ncalled by Uma Thurgau"
        " <uma.thurgau@example.org> in /home/uma/spark"
    )
    stacks = type("Stacks", (), {"last_log_lines": lambda *_: log})()
    night = site.state / "nights" / "20260101T000000Z"
    (night / "dataset").mkdir(parents=True)
    (night / "dataset" / "train.jsonl").write_text("what Uma asked")
    (night / "verdict.json").write_text('{"promote": true}')
    reason = f"key a-secret-of-this-test, Thurgau's night at https://{LOGIN}@hub.example.org"
    files.append_line(site.state / "journal.jsonl", {"time": "x", "reason": reason})
    people = {
        "NOTIFY_EMAIL": "uma@example.org",
        "SMTP_USER": "uthurgau",
        "SYSTEM_PROMPT": "You help Uma Thurgau.",
    }
    urls = {
        "NOTIFY_WEBHOOK": "https://chat.example.org/hooks/1234",
        "HF_ENDPOINT": f"https://{LOGIN}@hub.example.org",
    }
    with bundle(configured(replace(site, stacks=stacks), **people, **urls)) as tar:
        texts = {
            name: file.read().decode() for name in tar.getnames() if (file := tar.extractfile(name))
        }
    everything = "\n".join(texts.values())
    assert {
        "settings.txt",
        "status.json",
        "journal.jsonl",
        "logs/vllm.txt",
        "nights/20260101T000000Z/verdict.json",
    } <= texts.keys()
    for private in (
        "a-secret-of-this-test",
        "hooks/1234",
        "eyJhbGci",
        "what Uma asked",
        "pass-of-uma",
    ):
        assert private not in everything
    assert not re.search(r"(?i)\buma\b|thurgau", everything) and "hub.example.org" in everything
    assert "CHAT_PORT" in texts["settings.txt"] and "not available: " in texts["status.json"]
