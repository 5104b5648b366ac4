"""Two Sparks on this machine: A is this process, B is reached through a real sshd of its own. They
share the repository; each has its own state folder, home and stub of Docker."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from glue.clients.docker import Stacks
from glue.clients.site import Site
from glue.core import commands, files, lock, settings, waiting
from glue.core.settings import REPOSITORY
from glue.core.waiting import Seen
from glue.peers import link
from glue.peers.link import Peer
from tests.faults import stand_ins
from tests.faults.stand_ins import StandInSite
from tests.peers import docker_stub
from tests.peers.stand_in_peer import open_site

SSHD = Path("/usr/sbin/sshd")
# the server allows everything that `restrict` must forbid
CONFIGURATION = """
Port {port}
ListenAddress 127.0.0.1
HostKey {home}/host_key
PidFile none
UsePAM no
StrictModes no
PermitRootLogin yes
PasswordAuthentication no
KbdInteractiveAuthentication no
AuthorizedKeysFile {home}/.ssh/authorized_keys
AllowTcpForwarding yes
AllowAgentForwarding yes
PermitTunnel yes
Subsystem sftp internal-sftp
SetEnv HOME={home} GLUE_PROFILE=spark GLUE_STATE_DIR={state} DOCKER_HOST=unix://{docker}
"""
PROGRAM = """#!/bin/sh
cd '{repository}' && export PYTHONPATH=images/night-desk
exec '{python}' -m tests.peers.stand_in_peer '{folder}'
"""
MODELS = {"commit": "abc", "files": {"model.safetensors": {"size": 1, "hash": "sha256:1"}}}


@dataclass(frozen=True)
class Pair:
    """a: this side. b: B's state folder. home: B's home. sshd: B's."""

    a: Site
    b: Path
    home: Path
    host: str
    sshd: subprocess.Popen[bytes]

    @property
    def peer(self) -> Peer:
        return Peer(self.host, self.a.state / "peers")

    @property
    def authorized(self) -> str:
        return (self.home / ".ssh" / "authorized_keys").read_text()

    def by_key(self, *more: str, options: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
        """ssh with A's key, and what the key's holder adds."""
        key = str(self.peer.folder / "key")
        return run(*self.peer.command(*link.OPTIONS, *options, "-i", key), *more)


def run(*argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        argv,
        cwd=REPOSITORY,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def make_key(path: Path) -> str:
    """Returns the public half."""
    commands.run(("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(path)), "")
    return path.with_suffix(".pub").read_text().strip()


def free_port() -> int:
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        return int(trial.getsockname()[1])


def start_sshd(home: Path, state: Path, docker: Path, port: int) -> subprocess.Popen[bytes]:
    assert SSHD.exists(), "sshd is missing: sudo apt-get install openssh-server"
    if os.geteuid() == 0:  # its service would make it
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    configuration = home / "sshd_config"
    configuration.write_text(CONFIGURATION.format(port=port, home=home, state=state, docker=docker))
    with (home / "sshd.log").open("wb") as log:
        argv = (str(SSHD), "-D", "-e", "-f", str(configuration))
        return subprocess.Popen(argv, stdin=subprocess.DEVNULL, stderr=log)


def wait_for(port: int, log: Path) -> None:
    def look() -> Seen[None]:
        with socket.socket() as client:
            done = client.connect_ex(("127.0.0.1", port)) == 0
        return Seen(done, log.read_text())

    waiting.until("sshd", look, 30, 0.05)


def end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    """A person has access to B, by a key in their agent. B is no peer yet."""
    folder = Path(tempfile.mkdtemp(prefix="peers-"))  # short, because a socket's path must be
    for name in ("a/peers", "a/adapters", "b/adapters", "b/nights", "home/.ssh"):
        (folder / name).mkdir(parents=True)
    home, port = folder / "home", free_port()
    host = f"{getpass.getuser()}@127.0.0.1:{port}"
    host_key, person = make_key(home / "host_key"), make_key(folder / "person")
    (home / ".ssh" / "authorized_keys").write_text(f"# of a person\n{person}\n")
    (folder / "a/peers/known_hosts").write_text(f"[127.0.0.1]:{port} {host_key}\n")
    with pytest.MonkeyPatch.context() as patch, ExitStack() as running:
        for side in ("a", "b"):
            server = docker_stub.serve(folder / f"{side}.sock", "same")
            threading.Thread(target=server.serve_forever, daemon=True).start()
        patch.setenv("GLUE_STATE_DIR", str(folder / "a"))
        patch.setenv("DOCKER_HOST", f"unix://{folder / 'a.sock'}")
        patch.setenv("SSH_AUTH_SOCK", str(folder / "agent.sock"))
        patch.setattr(link, "PROBE_BYTES", 8_000_000)
        # of each option the first counts; a slow machine's tests are not about that
        patch.setattr(link, "OPTIONS", ("-oConnectTimeout=60", *link.OPTIONS))
        patch.setattr(link, "ANSWER_SECONDS", 120.0)
        running.callback(shutil.rmtree, folder)
        agent = subprocess.Popen(
            ("ssh-agent", "-D", "-a", str(folder / "agent.sock")), stdout=subprocess.DEVNULL
        )
        running.callback(end, agent)
        sshd = start_sshd(home, folder / "b", folder / "b.sock", port)
        running.callback(end, sshd)
        wait_for(port, home / "sshd.log")
        waiting.until("the agent", lambda: Seen((folder / "agent.sock").exists(), ""), 30, 0.05)
        commands.run(("ssh-add", "-q", str(folder / "person")), "")
        chosen = settings.load("spark")
        for side in ("a", "b"):
            models = dict.fromkeys(chosen.hub_models("served"), MODELS)
            files.write_json(folder / side / "models.json", models)
        yield Pair(Site(chosen, Stacks(chosen), print), folder / "b", home, host, sshd)


@pytest.fixture
def trainer(pair: Pair, tmp_path: Path) -> Iterator[StandInSite]:
    """B, a machine whose day is down."""
    made = stand_ins.make_site(tmp_path / "b")
    program = tmp_path / "program"
    program.write_text(
        PROGRAM.format(repository=REPOSITORY, python=sys.executable, folder=tmp_path / "b")
    )
    program.chmod(0o755)
    key = pair.peer.folder / "key"
    public = key.with_suffix(".pub").read_text().strip() if key.exists() else make_key(key)
    keys = pair.home / ".ssh" / "authorized_keys"
    keys.write_text(link.authorized(public, program) + "\n")
    yield replace(open_site(tmp_path / "b"), ledger=made.ledger)
    with made.ledger.change() as world:  # ends one that hangs
        world["trainer"] = "exits 1"
    state = tmp_path / "b" / "state"
    waiting.until("B", lambda: Seen(not lock.held(state, lock.TRAINING), "trains"), 60, 0.05)
