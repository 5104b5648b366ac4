"""The other Sparks: reached by ssh with a key that glue/peers/answers.py answers, and set up.

state/peers/key, key.pub, known_hosts    this machine's key, and its peers' host keys
state/peers/<host>.json                  a peer, as it was last seen
"""

from __future__ import annotations

import json
import re
import shlex
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, Any

from glue.clients.site import Site
from glue.core import commands, files
from glue.core.errors import GlueError, Invalid, PreconditionFailed
from glue.core.settings import REPOSITORY
from glue.peers.facts import Facts, clock_fault, differences, facts

INSTALL = "sudo apt-get install openssh-client"
ANSWER_SECONDS = 30.0
PERSON_SECONDS = 120.0  # a person may have to type a password
SLOWEST_BYTES_PER_SECOND = 1e6
PROBE_BYTES = 128_000_000
# Neither the configuration nor the agent of the person who runs glue counts: no forwarding, no
# shared connection, no other key.
OPTIONS = (
    *("-F", "none", "-T", "-oBatchMode=yes", "-oStrictHostKeyChecking=yes", "-oConnectTimeout=10"),
    *("-oServerAliveInterval=5", "-oIdentitiesOnly=yes", "-oIdentityAgent=none"),
)
PROGRAM = REPOSITORY / "scripts" / "glue-peer"
HOST = r"([A-Za-z0-9_][\w.-]*@)?([A-Za-z0-9][A-Za-z0-9.-]*|\[[0-9a-fA-F:]+\])(:[0-9]{1,5})?"
# What to do, by what ssh or the peer said. A peer's glue says itself what to do there.
ADVICE = {
    "has changed and you have": "if {host} was installed anew: delete the line that ssh names, then"
    " make setup-peer HOST={host}",
    "Host key verification failed": "make setup-peer HOST={host}, in a terminal: it asks you to"
    " confirm the host key",
    "Permission denied (": "see that ssh {host} lets you in and that sshd there reads"
    " ~/.ssh/authorized_keys (AuthorizedKeysFile, StrictModes), then make setup-peer HOST={host}",
    "ERROR ": "do on {host} what it says, then try again",
    "glue-peer": "on {host}: clone this repository into {repository}, at this version; make setup",
    "": "see that {host} is on and that ssh {host} works; on it, make doctor",
}
KEY = r"ssh-ed25519 [A-Za-z0-9+/]+={0,2}"


@dataclass(frozen=True)
class Peer:
    """host: such as spark-b, or user@10.0.0.6:2222. folder: state/peers."""

    host: str
    folder: Path

    @property
    def record(self) -> Path:
        return self.folder / f"{self.host}.json"

    def command(self, *options: str) -> tuple[str, ...]:
        known = f'-oUserKnownHostsFile="{self.folder / "known_hosts"}"'
        return ("ssh", *options, known, f"ssh://{self.host}")


def peers(state: Path) -> list[Peer]:
    folder = state / "peers"
    return [Peer(path.stem, folder) for path in sorted(folder.glob("*.json"))]


def ask(
    peer: Peer,
    *words: str,
    source: IO[bytes] | None = None,
    output: IO[bytes] | None = None,
    transfer_bytes: float = 0,
) -> str:
    """Its answer to a request. source: what it is sent. output: takes the answer instead. Raises
    GlueError if it refuses, or does not answer in time."""
    argv = (*peer.command(*OPTIONS, "-i", str(peer.folder / "key")), " ".join(words))
    seconds = ANSWER_SECONDS + transfer_bytes / SLOWEST_BYTES_PER_SECOND
    return reach(peer, argv, words[0], seconds, source, output)


def reach(
    peer: Peer,
    argv: tuple[str, ...],
    verb: str,
    seconds: float,
    source: IO[bytes] | None = None,
    output: IO[bytes] | None = None,
) -> str:
    try:
        return commands.run(argv, INSTALL, source, output, timeout_seconds=seconds).text
    except GlueError as error:
        raise GlueError(f"{peer.host}: {verb} failed", error.saw, advice(peer, error)) from error


def advice(peer: Peer, error: GlueError) -> str:
    if isinstance(error, PreconditionFailed):  # no ssh here
        return error.do
    do = next(do for words, do in ADVICE.items() if words in error.saw)
    return do.format(host=peer.host, repository=REPOSITORY)


def send(peer: Peer, name: str, path: Path) -> None:
    """path: of a file name that receive takes. The peer checks the SHA-256."""
    with path.open("rb") as file:
        request = ("receive", name, path.name, files.sha256(path))
        ask(peer, *request, source=file, transfer_bytes=path.stat().st_size)


def fetch(peer: Peer, name: str, target: Path, checksum: str, most_bytes: float) -> None:
    """target: of a file name that fetch gives. Raises GlueError for another SHA-256."""
    with files.receiving(target, checksum, 0o644) as file:
        ask(peer, "fetch", name, target.name, output=file, transfer_bytes=most_bytes)


def mark(peer: Peer) -> str:
    """Which machine orders a night: two may begin theirs in the same second."""
    return files.sha256(peer.folder / "key.pub")[:8]


def look(peer: Peer) -> dict[str, Any]:
    """The peer as it is now, or as it was last seen, and why it does not answer. words: for people.
    clock: how it differs from this one, if it does."""
    last = files.read_json_if_whole(peer.record, {"seen": 0, "words": "nothing known"})
    before = time.time()
    try:
        found = json.loads(ask(peer, "status"))
        clock = clock_fault(before, found["time"], time.time())
        return remember(peer, last | found | {"clock": clock})
    except (GlueError, ValueError, TypeError, LookupError, AttributeError) as error:
        other = f"its answer is not of this version: {error!r}"
        gone = " ".join(getattr(error, "saw", other).split())
        seen = f"{datetime.fromtimestamp(last['seen']):%Y-%m-%d %H:%M:%S}"
        return last | {"gone": gone, "words": f"gone: {gone}; last seen {seen}: {last['words']}"}


def remember(peer: Peer, found: Facts) -> dict[str, Any]:
    words = f"{found['mode']}, role {found['role']}, serves {found['adapter'] or 'base model'}"
    nights = [
        f"night {name}: {row['phase']} {row['reason']}".rstrip()
        for name, row in found["training"].items()
    ]
    clock = [found["clock"]] if found.get("clock") else []
    now = {**found, "words": "; ".join((words, *clock, *nights)), "seen": time.time()}
    with suppress(OSError):  # status is for everyone, and a full disk costs no night
        files.write_json(peer.record, now)
    return now


# ---------------------------------------------------------------------- setup


def add(site: Site, host: str) -> dict[str, Any]:
    """Make HOST a peer: the same version, images and models, and a key for five requests."""
    if not re.fullmatch(HOST, host):
        raise Invalid("Invalid value for HOST", repr(host), "Expected [user@]host[:port].")
    peer = Peer(host, site.state / "peers")
    key = peer.folder / "key"
    files.make_folder(peer.folder, 0o700)
    if not key.exists():
        argv = ("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(key))
        commands.run(argv, INSTALL)
    site.tell(f"asking {host}, as you, what it has")
    require_alike(site, peer)
    with key.with_suffix(".pub").open("rb") as public:
        as_person(peer, "accept", public)
    before, found, after = timed_status(peer, 0)
    if fault := clock_fault(before, found["time"], after):  # a person's password takes no time now
        do = "on both: sudo timedatectl set-ntp true; then make setup-peer again"
        raise PreconditionFailed("the clocks of the two machines differ", fault, do)
    started, found, ended = timed_status(peer, PROBE_BYTES)
    rate = PROBE_BYTES / max(ended - started - (after - before), 0.01)
    words = remember(peer, found | {"link_bytes_per_second": rate})["words"]
    told = f"{rate / 1e6:.0f} MB/s, so {0.9e9 / rate:.0f} s for an adapter of 0.9 GB"
    return {"peer": host, "link": told, "now": words}


def require_alike(site: Site, peer: Peer) -> None:
    """Raises PreconditionFailed, with nothing changed there, and every difference named."""
    before = time.time()
    theirs = read_answer(peer, as_person(peer, "answer status"))
    clock = clock_fault(before, theirs["time"], time.time())
    wrong = [*filter(None, [clock]), *differences(facts(site)["alike"], theirs["alike"])]
    if wrong:
        do = "on both the same commit without changes, env/, make setup, and a clock set by NTP"
        raise PreconditionFailed(f"{peer.host} is not like this machine", "; ".join(wrong), do)


def as_person(peer: Peer, request: str, source: IO[bytes] | None = None) -> str:
    """Runs scripts/glue-peer there by the person's own access; ssh may ask them for a password."""
    there = f"{shlex.quote(str(PROGRAM))} {request}"
    return reach(peer, (*peer.command(), there), request, PERSON_SECONDS, source)


def read_answer(peer: Peer, text: str) -> Facts:
    try:
        found: Facts = json.loads(text)
    except ValueError as error:
        do = f"ssh {peer.host} true must print nothing: see ~/.bashrc there, and its shell's others"
        raise GlueError(f"{peer.host}: its answer cannot be read", repr(text[:200]), do) from error
    return found


def timed_status(peer: Peer, size: int) -> tuple[float, Facts, float]:
    """The answer after it was sent so many bytes, between the Unix times of request and answer."""
    before = time.time()
    with tempfile.TemporaryFile() as zeros:
        zeros.truncate(size)
        found = read_answer(peer, ask(peer, "status", source=zeros, transfer_bytes=size))
    return before, found, time.time()


def accept(site: Site) -> dict[str, Any]:
    """Let a peer's key, from the input, ask here. For scripts/glue-peer."""
    key = sys.stdin.read().strip()
    if not re.fullmatch(KEY, key):
        raise Invalid("Invalid key", repr(key[:80]), "Expected the line of an ed25519 key.pub.")
    path = (Path.home() / ".ssh" / "authorized_keys").resolve()  # a link to it stays one
    files.make_folder(path.parent, 0o700)
    # bytes: a person's comment may be in any encoding
    before = path.read_bytes().removesuffix(b"\n").split(b"\n") if path.exists() else []
    kept = [line for line in before if key.split()[1].encode() not in line]
    with files.replacing(path, 0o600) as file:
        file.writelines(line + b"\n" for line in (*kept, authorized(key).encode()))
    return {"accepted in": str(path)}


def authorized(key: str, program: Path = PROGRAM) -> str:
    """restrict: no terminal, no forwarding of ports, agent or X11, no ~/.ssh/rc (sshd(8))."""
    command = shlex.quote(str(program)).replace('"', r"\"")
    return f'restrict,command="{command}" {key} dual-use-spark-peer'
