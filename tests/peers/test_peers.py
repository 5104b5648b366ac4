"""A Spark becomes a peer through a real sshd, and its key runs nothing but its five requests."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import signal
import stat
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from glue.cli import show
from glue.core import files
from glue.core.errors import GlueError, Invalid, PreconditionFailed
from glue.peers import answers, link
from glue.peers.facts import Facts
from glue.peers.link import Peer
from tests.peers.conftest import MODELS, Pair, make_key, run

NIGHT = "20261126T190000Z"


@pytest.fixture(scope="module")
def peers(pair: Pair) -> Pair:
    """After make setup-peer, as its target calls glue."""
    done = run(sys.executable, "-m", "glue", "--profile", "spark", "peer", "add", pair.host)
    assert not done.returncode, done.stderr
    assert f"peer          {pair.host}\n" in done.stdout and "MB/s, so" in done.stdout
    assert "now           down, role both, serves base model\n" in done.stdout
    return pair


def test_a_peer_that_differs_is_refused_and_gets_no_key(pair: Pair) -> None:
    models = json.loads((pair.b / "models.json").read_text())
    served = pair.a.settings["SERVED_MODEL"]
    other = models | {served: MODELS | {"files": {"model.safetensors": {"hash": "sha256:2"}}}}
    files.write_json(pair.b / "models.json", other)
    before = pair.authorized
    with pytest.raises(PreconditionFailed, match="not like this machine") as error:
        link.add(pair.a, pair.host)
    files.write_json(pair.b / "models.json", models)
    assert error.value.saw.startswith(f"model {served}: here ") and ";" not in error.value.saw
    assert pair.authorized == before and not link.peers(pair.a.state)


def test_a_peer_whose_clock_differs_is_refused(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """This machine's clock is an hour ahead. The second look is by key, after a person's password
    may have taken a minute."""
    clock, before = time.time, pair.authorized
    monkeypatch.setattr(time, "time", lambda: clock() + 3600)
    with pytest.raises(PreconditionFailed, match="not like this machine") as error:
        link.add(pair.a, pair.host)
    assert re.fullmatch(r"clock: 3[56]\d\d s behind there", error.value.saw)
    assert pair.authorized == before
    monkeypatch.setattr(link, "require_alike", lambda *_: None)
    with pytest.raises(PreconditionFailed, match="clocks of the two machines differ"):
        link.add(pair.a, pair.host)
    assert not link.peers(pair.a.state)
    (pair.home / ".ssh" / "authorized_keys").write_text(before)


def test_an_unknown_host_key_is_refused(pair: Pair, tmp_path: Path) -> None:
    with pytest.raises(GlueError, match="status failed") as error:
        link.ask(Peer(pair.host, tmp_path), "status")
    assert "Host key verification failed" in error.value.saw
    assert error.value.do.startswith(f"make setup-peer HOST={pair.host}, in a terminal")


def test_a_host_key_that_changed_is_refused(pair: Pair, tmp_path: Path) -> None:
    """As of a machine that was installed anew, or of another one at its address."""
    port = pair.host.rpartition(":")[2]
    (tmp_path / "known_hosts").write_text(f"[127.0.0.1]:{port} {make_key(tmp_path / 'other')}\n")
    with pytest.raises(GlueError, match="status failed") as error:
        link.ask(Peer(pair.host, tmp_path), "status")
    assert "Offending ED25519 key in" in error.value.saw
    assert "delete the line that ssh names" in error.value.do


def test_a_key_that_was_removed_there_is_named(pair: Pair, tmp_path: Path) -> None:
    shutil.copy(pair.peer.folder / "known_hosts", tmp_path)
    make_key(tmp_path / "key")
    with pytest.raises(GlueError, match="status failed") as error:
        link.ask(Peer(pair.host, tmp_path), "status")
    assert "Permission denied (publickey)" in error.value.saw
    assert error.value.do.endswith(f"then make setup-peer HOST={pair.host}")


def test_a_repository_at_another_path_is_named(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "PROGRAM", Path("/srv/elsewhere/scripts/glue-peer"))
    with pytest.raises(GlueError, match="answer status failed") as error:
        link.add(pair.a, pair.host)
    assert "clone this repository into" in error.value.do


def test_what_the_other_glue_says_is_told(pair: Pair) -> None:
    with pytest.raises(GlueError, match="accept failed") as error:
        link.as_person(pair.peer, "accept")
    assert "Invalid key" in error.value.saw
    assert error.value.do == f"do on {pair.host} what it says, then try again"


def test_who_may_not_write_the_record_sees_the_status(tmp_path: Path) -> None:
    """Root may write everything: a folder is in the place of the record."""
    peer = Peer("spark-b", tmp_path)
    peer.record.mkdir()
    found: Facts = {"mode": "day", "role": "both", "adapter": None, "training": {}}
    assert link.remember(peer, found)["words"] == "day, role both, serves base model"


def test_a_key_is_accepted_once_and_keeps_the_person_s_key(peers: Pair) -> None:
    with (peers.peer.folder / "key.pub").open("rb") as public:
        link.as_person(peers.peer, "accept", public)
    person, key, line = peers.authorized.splitlines()
    assert person == "# of a person" and key.startswith("ssh-ed25519 ")
    assert line.startswith(f'restrict,command="{link.PROGRAM}" ssh-ed25519 ')
    assert stat.S_IMODE((peers.home / ".ssh" / "authorized_keys").stat().st_mode) == 0o600
    assert stat.S_IMODE((peers.peer.folder / "key").stat().st_mode) == 0o600


def test_status_shows_both(peers: Pair, capsys: pytest.CaptureFixture[str]) -> None:
    found = link.look(peers.peer)
    assert found["words"] == "down, role both, serves base model"
    assert found["link_bytes_per_second"] > 0 and abs(found["seen"] - time.time()) < 60
    show.status({"mode": "day", "last_night": {}, "morning": "", "peers": {peers.host: found}})
    assert f"peer {peers.host} down, role both, serves base model" in capsys.readouterr().out


def test_status_as_json_has_both(peers: Pair) -> None:
    done = run(sys.executable, "-m", "glue", "--profile", "spark", "status", "--json")
    assert not done.returncode, done.stderr
    found = json.loads(done.stdout)
    assert found["mode"] == "down"
    theirs = found["peers"][peers.host]
    assert theirs["mode"] == "down" and theirs["role"] == "both" and "gone" not in theirs


@pytest.mark.parametrize(
    "request_",
    [
        *((), ("sh",), ("status; id",), ("glue-peer status; id",), ("status\nid",), ("$(id)",)),
        *(
            (f"fetch {NIGHT} ../../secrets.env",),
            (f"train {NIGHT} && id",),
            ("rsync --server . .",),
        ),
    ],
)
def test_the_key_opens_no_shell(peers: Pair, request_: tuple[str, ...]) -> None:
    done = peers.by_key(*request_)
    assert done.returncode == 10 and not done.stdout
    assert "ERROR 10: this key may not do that" in done.stderr and "uid=" not in done.stderr


def test_the_key_gets_no_terminal(peers: Pair) -> None:
    done = peers.by_key("id", options=("-tt",))
    assert done.returncode == 255 and "PTY allocation request failed" in done.stderr


@pytest.mark.parametrize("protocol", ["-O", "-s"])
def test_the_key_copies_no_file(peers: Pair, tmp_path: Path, protocol: str) -> None:
    """-O: the protocol of scp. -s: that of sftp, which is a subsystem."""
    (tmp_path / "file").write_text("text")
    key = ("-i", str(peers.peer.folder / "key"))
    _, *options, host = peers.peer.command()
    target = f"scp://{host.removeprefix('ssh://')}//{tmp_path}/arrived"
    done = run("scp", protocol, *key, "-oIdentityAgent=none", *options, f"{tmp_path}/file", target)
    assert done.returncode != 0 and not (tmp_path / "arrived").exists(), done.stderr


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("-W", "127.0.0.1:22"), "administratively prohibited"),
        (("-oExitOnForwardFailure=yes", "-R", "0:127.0.0.1:22"), "forwarding failed"),
        (("-oExitOnForwardFailure=yes", "-R", "/tmp/a-socket:127.0.0.1:22"), "forwarding failed"),
    ],
)
def test_the_key_forwards_nothing(peers: Pair, options: tuple[str, ...], words: str) -> None:
    done = peers.by_key(*(() if "-W" in options else ("status",)), options=options)
    assert done.returncode == 255 and words in done.stderr


def test_the_key_forwards_no_agent(peers: Pair, tmp_path: Path) -> None:
    """A key like it runs a program that says what it was given; without `restrict` it is given
    the agent."""
    program, keys = tmp_path / "program", peers.home / ".ssh" / "authorized_keys"
    program.write_text('#!/bin/sh\necho "agent: $SSH_AUTH_SOCK"\n')
    program.chmod(0o755)
    public, before = make_key(tmp_path / "key"), peers.authorized
    line = link.authorized(public, program)
    told = []
    for options in (line, line.removeprefix("restrict,")):
        keys.write_text(f"{before}{options}\n")
        ask = ("-A", "-oIdentitiesOnly=yes", "-oBatchMode=yes")
        told.append(run(*peers.peer.command("-i", str(tmp_path / "key"), *ask), "x").stdout)
    keys.write_text(before)
    assert told[0] == "agent: \n" and "/" in told[1]


def test_what_is_sent_arrives_whole_or_not_at_all(peers: Pair, tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    path.write_bytes(os.urandom(3_000_000))
    link.send(peers.peer, NIGHT, path)
    arrived = answers.received(peers.b, NIGHT) / "train.jsonl"
    assert arrived.read_bytes() == path.read_bytes()
    with path.open("rb") as file, pytest.raises(GlueError, match="receive failed") as error:
        link.ask(peers.peer, "receive", NIGHT, "preferences.jsonl", "0" * 64, source=file)
    assert "a file arrived damaged" in error.value.saw
    assert [left.name for left in arrived.parent.iterdir()] == ["train.jsonl"]
    assert stat.S_IMODE(arrived.stat().st_mode) == 0o600


def test_only_results_of_ordered_nights_are_given(peers: Pair) -> None:
    night = peers.b / "nights" / "20261120T190000Z"
    night.mkdir()
    (night / "result.json").write_text('{"outcome": "trained"}')
    request = ("fetch", night.name, "result.json")
    with pytest.raises(GlueError, match="fetch failed"):
        link.ask(peers.peer, *request)
    files.write_json(night / answers.ORDERED, {"night": night.name, "phase": "trained"})
    assert link.ask(peers.peer, *request) == '{"outcome": "trained"}'
    (night / answers.ORDERED).unlink()


def test_a_machine_without_the_role_trains_for_no_one(peers: Pair) -> None:
    with pytest.raises(GlueError) as error:
        link.ask(peers.peer, "train", NIGHT, "team", "1764183600")
    assert "ROLE=both" in error.value.saw


def test_no_key_but_an_ed25519_one_is_accepted(
    pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for text in ("", 'command="sh" ssh-ed25519 AAAA', "ssh-ed25519 AAAA\nssh-ed25519 BBBB", "x"):
        monkeypatch.setattr("sys.stdin", io.StringIO(text))
        with pytest.raises(Invalid, match="Invalid key"):
            link.accept(pair.a)
    assert not (tmp_path / ".ssh").exists()


@pytest.mark.parametrize(
    "before",
    ["# J\xf6rg\nssh-rsa BBBB x\n".encode("latin-1"), "ssh-rsa BBBB a\u2028b \f\r\n".encode()],
)
def test_the_person_s_lines_stay_as_they_are_and_so_does_a_link(
    pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: bytes
) -> None:
    """Some keep authorized_keys in a folder of their own, and link to it."""
    kept, keys = tmp_path / "kept", tmp_path / ".ssh" / "authorized_keys"
    keys.parent.mkdir()
    kept.write_bytes(before)
    keys.symlink_to("../kept")
    public = make_key(tmp_path / "key")
    monkeypatch.setenv("HOME", str(tmp_path))
    for _ in range(2):
        monkeypatch.setattr("sys.stdin", io.StringIO(public))
        link.accept(pair.a)
    assert kept.read_bytes() == before + link.authorized(public).encode() + b"\n"
    assert keys.is_symlink() and stat.S_IMODE(kept.stat().st_mode) == 0o600


def test_a_login_script_that_prints_is_named(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "as_person", lambda *_: "Welcome to spark-b!\n{}")
    with pytest.raises(GlueError, match="answer cannot be read") as error:
        link.add(pair.a, pair.host)
    assert "Welcome to spark-b!" in error.value.saw and "must print nothing" in error.value.do


@pytest.fixture
def silent(peers: Pair, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pair]:
    """B's system hangs: its kernel accepts the connection, and nothing answers."""
    monkeypatch.setattr(link, "OPTIONS", ("-oConnectTimeout=1", *link.OPTIONS))
    os.kill(peers.sshd.pid, signal.SIGSTOP)
    yield peers
    os.kill(peers.sshd.pid, signal.SIGCONT)


def test_a_peer_that_hangs_is_gone_within_the_deadline(silent: Pair) -> None:
    link_file = silent.peer.record
    before, started = link_file.read_bytes(), time.monotonic()
    found = link.look(silent.peer)
    assert time.monotonic() - started < link.ANSWER_SECONDS
    assert "timed out" in found["gone"].lower()
    assert "last seen 20" in found["words"] and "down, role both" in found["words"]
    assert link_file.read_bytes() == before


def test_a_peer_that_answers_too_late_is_gone(peers: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "ANSWER_SECONDS", 0.01)
    found = link.look(peers.peer)
    assert "no end after" in found["gone"]


def test_zz_a_peer_without_sshd_is_gone_at_once(peers: Pair) -> None:
    """The last test of this file, since it ends B's sshd."""
    peers.sshd.kill()
    peers.sshd.wait()
    found = link.look(peers.peer)
    assert "Connection refused" in found["gone"] and "last seen 20" in found["words"]
